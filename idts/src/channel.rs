// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connected endpoints: read, write, shut down, wait with a limit.
//!
//! A limit on waiting needs a descriptor that does not block, with the waiting
//! done here by poll: a blocking write of more than the ring holds could not
//! be left otherwise. So O_NONBLOCK is set while the user wants it, or while a
//! timeout is set; only without both does the driver itself wait.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use idts_core::uapi;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::{sys, Address, Connect, Error, Info, Result};

/// One connection with an endpoint in another domain: a stream of bytes in
/// each direction.
///
/// `&Channel` reads and writes too, so that one thread can do each.
/// When the peer closed, reads give what is left and then 0, writes EPIPE.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
    peer: Address,
    waiting: Mutex<Waiting>,
}

/// How reads and writes wait.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    nonblocking: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Waiting {
    /// True when poll does the waiting, not the driver.
    const fn polls(&self) -> bool {
        !self.nonblocking && (self.read_timeout.is_some() || self.write_timeout.is_some())
    }
}

impl Channel {
    /// Connects to `peer` and waits for its answer as long as the driver does.
    ///
    /// # Errors
    /// As [`Connect::open`].
    pub fn connect(peer: Address) -> Result<Self> {
        Connect::to(peer).open()
    }

    pub(crate) fn from_fd(fd: OwnedFd, peer: Address) -> Self {
        Self {
            fd,
            peer,
            waiting: Mutex::default(),
        }
    }

    /// The other end.
    pub const fn peer_addr(&self) -> Address {
        self.peer
    }

    /// Ends reading, writing or both. Once writing ended, the peer reads what
    /// is left and then the end of the stream.
    ///
    /// # Errors
    /// [`Error::Channel`] with ENOTCONN when the channel is gone.
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        let how = match how {
            Shutdown::Read => uapi::SHUT_RD,
            Shutdown::Write => uapi::SHUT_WR,
            Shutdown::Both => uapi::SHUT_RDWR,
        };
        sys::shutdown(&self.fd, how).map_err(|errno| self.failed("shutdown", errno))
    }

    /// What the driver knows of this channel.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        Info::from_raw(sys::info(&self.fd).map_err(|errno| self.failed("info", errno))?)
    }

    /// What became of a nonblocking connect, or None while all is well. The
    /// second call gives None again.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn take_error(&self) -> Result<Option<io::Error>> {
        let errno = sys::take_error(&self.fd).map_err(|errno| self.failed("get-error", errno))?;
        Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
    }

    /// Makes reads and writes return `WouldBlock` instead of waiting. Timeouts
    /// have no effect meanwhile.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        self.change(|waiting| waiting.nonblocking = on)
    }

    /// Lets a read wait no longer than this (then: `TimedOut`); None is for ever.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.change(|waiting| waiting.read_timeout = timeout)
    }

    /// Lets a write wait no longer than this for room (then: `TimedOut`);
    /// None is for ever. A write that moved some bytes gives their number.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.change(|waiting| waiting.write_timeout = timeout)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) -> Result<()> {
        let mut waiting = self.waiting();
        change(&mut waiting);
        sys::set_nonblocking(&self.fd, waiting.nonblocking || waiting.polls())
            .map_err(|errno| self.failed("set-nonblocking", errno))
    }

    /// One transfer by `transfer`; waits for `ready` where poll does that.
    fn transfer(
        &self,
        ready: PollFlags,
        mut transfer: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let started = Instant::now();
        loop {
            match transfer(&self.fd) {
                Err(Errno::AGAIN) => self.wait_ready(ready, started)?,
                result => return Ok(result?),
            }
        }
    }

    /// Waits until `ready`, within the timeout counted from `started`.
    fn wait_ready(&self, ready: PollFlags, started: Instant) -> io::Result<()> {
        let waiting = *self.waiting();
        if !waiting.polls() {
            return Err(Errno::AGAIN.into());
        }
        let timeout = if ready == PollFlags::IN {
            waiting.read_timeout
        } else {
            waiting.write_timeout
        };
        if wait_for(
            &self.fd,
            ready,
            timeout.map(|limit| limit.saturating_sub(started.elapsed())),
        )? {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::Channel {
            peer: self.peer,
            call,
            cause: errno.into(),
        }
    }
}

/// Polls one descriptor; false when the time passed without an event.
fn wait_for(fd: &OwnedFd, ready: PollFlags, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = [PollFd::new(fd, ready)];
    Ok(poll(&mut fds, limit.as_ref())? > 0)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Read for &Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.transfer(PollFlags::IN, |fd| rustix::io::read(fd, &mut *buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.transfer(PollFlags::IN, |fd| rustix::io::readv(fd, buffers))
    }
}

impl Write for &Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.transfer(PollFlags::OUT, |fd| rustix::io::write(fd, buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.transfer(PollFlags::OUT, |fd| rustix::io::writev(fd, buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The waiting rules on a socket pair, which blocks as the driver does.
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::from_fd(ours.into(), Address::new(1, 2)), theirs)
    }

    #[test]
    fn a_read_gives_up_after_its_timeout() {
        let (mut channel, mut peer) = pair();
        channel
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let mut buffer = [0; 8];
        let error = channel.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        peer.write_all(b"abc").unwrap();
        assert_eq!(channel.read(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn a_write_gives_up_when_there_is_no_room() {
        let (mut channel, _peer) = pair();
        channel
            .set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let buffer = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = channel.write(&buffer) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_timeout_of_one_direction_leaves_the_other_waiting() {
        let (channel, mut peer) = pair();
        channel
            .set_write_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            peer.write_all(b"late").unwrap();
        });
        let mut buffer = [0; 4];
        (&channel).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"late");
        writer.join().unwrap();
    }

    #[test]
    fn nonblocking_beats_a_timeout() {
        let (mut channel, _peer) = pair();
        channel
            .set_read_timeout(Some(Duration::from_secs(600)))
            .unwrap();
        channel.set_nonblocking(true).unwrap();
        let error = channel.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(error.raw_os_error(), Some(Errno::AGAIN.raw_os_error()));
    }

    #[test]
    fn the_end_of_the_stream_is_zero() {
        let (mut channel, peer) = pair();
        drop(peer);
        assert_eq!(channel.read(&mut [0; 1]).unwrap(), 0);
    }
}

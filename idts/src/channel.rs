// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connected endpoints: read, write, send and receive records, shut down.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use idts_core::uapi;
use rustix::io::Errno;

use crate::descriptor::descriptor;
use crate::endpoint::{Endpoint, Received, Waiting};
use crate::error::{Error, Result};
use crate::info::Info;
use crate::peer::Peer;
use crate::sys;

/// One connection with an endpoint in another domain: in each direction a
/// stream of bytes, or records that keep their bounds.
///
/// `&Channel` reads and writes too, so that one thread can do each.
/// When the peer closed, reads give what is left and then 0, writes EPIPE.
///
/// A channel of records is opened by [`Connect::records`] and accepted from a
/// listener of [`Bind::records`]; [`Channel::send`] and [`Channel::recv`] serve
/// it best. Its plain reads and writes move one record each, too: a read whose
/// buffer is too small fails with `InvalidData`, and the record is lost, so
/// readers that choose their buffers themselves (`read_to_end`, `io::copy`,
/// `BufReader`) need one of [`Info::longest_rx_record`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = idts::Connect::to("0:7000".parse()?).records().open()?;
/// channel.send(b"a question")?;
/// let mut answer = vec![0; channel.info()?.longest_rx_record()];
/// let received = channel.recv(&mut answer)?;
/// if received.is_end() {
///     println!("no answer");
/// } else {
///     println!("{:?}", &answer[..received.len]);
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`Bind::records`]: crate::Bind::records
/// [`Connect::records`]: crate::Connect::records
#[derive(Debug)]
pub struct Channel {
    endpoint: Endpoint,
    peer: Peer,
}

impl Channel {
    pub(crate) fn from_fd(fd: OwnedFd, peer: Peer, records: bool) -> Self {
        Self {
            endpoint: Endpoint::new(fd, records),
            peer,
        }
    }

    /// The other end, as it was named; of an accepted channel its address.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// True when it carries records, false when it carries a stream.
    pub const fn has_records(&self) -> bool {
        self.endpoint.has_records()
    }

    /// Sends one record. It arrives whole or not at all.
    ///
    /// # Errors
    /// EMSGSIZE when it is longer than [`Info::longest_tx_record`], EPIPE when
    /// the peer closed; `InvalidInput` when it is empty or the channel carries
    /// a stream; `WouldBlock` and `TimedOut` as writes.
    pub fn send(&self, record: &[u8]) -> io::Result<()> {
        self.endpoint.send(record)
    }

    /// Receives the next record. What does not fit into `buffer` is lost, and
    /// the result says so. Several threads may receive, one waits at a time.
    ///
    /// # Errors
    /// ECONNRESET when the peer or the tunnel broke off; `InvalidInput` when
    /// `buffer` is empty or the channel carries a stream; `WouldBlock` and
    /// `TimedOut` as reads.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.endpoint.recv(buffer)
    }

    /// Sends all of `request`, if it is not empty, and receives as a read or, of
    /// records, as [`Channel::recv`] does: one system call for what are two
    /// otherwise. For a client that asks and waits for the reply, and for a
    /// server that replies and waits for the next request. A signal does not
    /// end the waiting; timeouts limit all the sending, then the receiving.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = idts::Channel::connect("0:7000".parse()?)?;
    /// let mut reply = [0; 512];
    /// let received = channel.transact(b"a question", &mut reply)?;
    /// println!("{:?}", &reply[..received.len]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As writes and reads. `WouldBlock` and `TimedOut` do not tell whether it
    /// was the request that could not be sent: with those, do not send it again.
    pub fn transact(&self, request: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        self.endpoint.transact(request, reply)
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
        sys::shutdown(&self.endpoint.fd, how).map_err(|errno| self.failed("shutdown", errno))
    }

    /// What the driver knows of this channel.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        let raw = sys::info(&self.endpoint.fd).map_err(|errno| self.failed("info", errno))?;
        Ok(Info::from_raw(raw))
    }

    /// What became of a nonblocking connect, or None while all is well. The
    /// second call gives None again.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn take_error(&self) -> Result<Option<io::Error>> {
        let errno =
            sys::take_error(&self.endpoint.fd).map_err(|errno| self.failed("get-error", errno))?;
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

    /// Lets a read wait no longer than this (then: `TimedOut`), whatever signals come
    /// meanwhile; None is for ever, and a signal ends plain reads and writes then.
    ///
    /// While there is a timeout, O_NONBLOCK is set on the open file, which its duplicates in
    /// other processes share: there a read that would wait fails with EAGAIN.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.change(|waiting| waiting.read_timeout = timeout)
    }

    /// Lets a write wait no longer than this for room (then: `TimedOut`);
    /// None is for ever. A write that moved some bytes gives their number. Of signals and of
    /// O_NONBLOCK holds what [`Channel::set_read_timeout`] says.
    ///
    /// # Errors
    /// [`Error::Channel`], though there is no known cause.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.change(|waiting| waiting.write_timeout = timeout)
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) -> Result<()> {
        self.endpoint
            .set_waiting(change)
            .map_err(|errno| self.failed("set-nonblocking", errno))
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::Channel {
            peer: self.peer,
            call,
            cause: errno.into(),
        }
    }
}

descriptor!(Channel, endpoint);

/// Of a descriptor that others had, as inetd and systemd hand over. The driver says with whom
/// the channel is and what it carries; [`Peer::Unknown`] where it does not.
impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        let info = sys::info(&fd).map(Info::from_raw).ok();
        let peer = info.and_then(|info| info.peer);
        let records = info.is_some_and(|info| info.records);
        let truncated = info.map_or(0, |info| info.truncated);
        Self {
            endpoint: Endpoint::of_others(fd, records, truncated),
            peer: peer.map_or(Peer::Unknown, Peer::from),
        }
    }
}

impl Read for &Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.endpoint.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.endpoint.readv(buffers)
    }
}

impl Write for &Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.endpoint.write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.endpoint.writev(buffers)
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
    use crate::address::Address;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let channel = Channel::from_fd(ours.into(), Address::new(1, 2).into(), false);
        (channel, theirs)
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

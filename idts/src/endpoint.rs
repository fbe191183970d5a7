// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open file of the device that moves data, as channels, publishers and
//! subscribers share it: how reads and writes wait, and what a record is.
//!
//! A limit on waiting needs a descriptor that does not block, with the waiting
//! done here by poll: a blocking write of more than the ring holds could not
//! be left otherwise. So O_NONBLOCK is set while the user wants it, or while a
//! timeout is set; only without both does the driver itself wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::sys;

/// How reads and writes wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    pub nonblocking: bool,
    pub read_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
}

impl Waiting {
    /// True when poll does the waiting, not the driver.
    const fn polls(&self) -> bool {
        !self.nonblocking && (self.read_timeout.is_some() || self.write_timeout.is_some())
    }
}

/// What a receive got of the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer; 0 is the end: no record is empty.
    pub len: usize,
    /// The buffer was too small, and the rest of the record is lost.
    pub truncated: bool,
}

impl Received {
    /// True when no record will come any more.
    pub const fn is_end(self) -> bool {
        self.len == 0
    }
}

#[derive(Debug)]
pub struct Endpoint {
    pub fd: OwnedFd,
    records: bool,
    waiting: Mutex<Waiting>,
    /// How many records the driver had cut at the end of the last read here.
    truncated: Mutex<u64>,
}

impl Endpoint {
    pub fn new(fd: OwnedFd, records: bool) -> Self {
        Self {
            fd,
            records,
            waiting: Mutex::default(),
            truncated: Mutex::default(),
        }
    }

    /// True when it carries records.
    pub const fn has_records(&self) -> bool {
        self.records
    }

    pub fn set_waiting(&self, change: impl FnOnce(&mut Waiting)) -> rustix::io::Result<()> {
        let mut waiting = lock(&self.waiting);
        change(&mut waiting);
        sys::set_nonblocking(&self.fd, waiting.nonblocking || waiting.polls())
    }

    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        Ok(self
            .take(room, |fd| rustix::io::read(fd, &mut *buffer))?
            .len)
    }

    pub fn readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        Ok(self.take(room, |fd| rustix::io::readv(fd, buffers))?.len)
    }

    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        self.transfer(PollFlags::OUT, |fd| rustix::io::write(fd, buffer))
    }

    pub fn writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.transfer(PollFlags::OUT, |fd| rustix::io::writev(fd, buffers))
    }

    /// Writes one record; a signal does not end the waiting.
    pub fn send(&self, record: &[u8]) -> io::Result<()> {
        self.refuse_if(record.is_empty(), "no record is empty")?;
        let sent = uninterrupted(|| self.write(record))?;
        if sent == record.len() {
            Ok(())
        } else {
            Err(io::Error::other("the driver cut a record in two"))
        }
    }

    /// Reads one record; a signal does not end the waiting.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.refuse_if(buffer.is_empty(), "an empty buffer takes no record")?;
        let room = buffer.len();
        uninterrupted(|| self.take(room, |fd| rustix::io::read(fd, &mut *buffer)))
    }

    /// Writes all of `request`, if it is not empty, then reads; in one call
    /// where the driver has that and does the waiting. A signal does not end it.
    pub fn transact(&self, request: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        let waiting = *lock(&self.waiting);
        if waiting.nonblocking || waiting.polls() || request.len() > sys::REQUEST_MAX {
            return self.write_and_read(request, reply);
        }
        let (mut rest, room) = (request, reply.len());
        loop {
            let mut sent = 0;
            let result = self.take(room, |fd| sys::transact(fd, rest, reply, &mut sent));
            rest = rest.get(sent..).unwrap_or_default();
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A driver that does not have it yet.
                Err(error) if error.raw_os_error() == Some(Errno::NOTTY.raw_os_error()) => {
                    return self.write_and_read(rest, reply);
                }
                result => return result,
            }
        }
    }

    fn write_and_read(&self, mut rest: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        while !rest.is_empty() {
            let sent = uninterrupted(|| self.write(rest))?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        let room = reply.len();
        uninterrupted(|| self.take(room, |fd| rustix::io::read(fd, &mut *reply)))
    }

    fn refuse_if(&self, wrong: bool, why: &str) -> io::Result<()> {
        let why = if self.records {
            why
        } else {
            "the channel carries a stream, not records"
        };
        if wrong || !self.records {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(())
    }

    /// A read of up to `room` bytes. Of records it is noted whether one was
    /// cut, so that no later receive takes the blame.
    fn take(
        &self,
        room: usize,
        mut read: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> io::Result<Received> {
        let mut received = Received {
            len: 0,
            truncated: false,
        };
        self.transfer(PollFlags::IN, |fd| {
            if !self.records {
                received.len = read(fd)?;
                return Ok(received.len);
            }
            // Held over both calls: two readers must not mix their records up.
            let mut known = lock(&self.truncated);
            let len = read(fd)?;
            received = judge(len, room, &mut known, || {
                Some(sys::info(fd).ok()?.truncated)
            });
            Ok(len)
        })?;
        Ok(received)
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
        let waiting = *lock(&self.waiting);
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
}

/// Only what fills the buffer to its end can have been cut; then the driver's
/// count, if it can be had, tells.
fn judge(
    len: usize,
    room: usize,
    known: &mut u64,
    count: impl FnOnce() -> Option<u64>,
) -> Received {
    let before = *known;
    if len > 0 && len == room {
        *known = count().unwrap_or(before);
    }
    Received {
        len,
        truncated: *known != before,
    }
}

/// Polls one descriptor; false when the time passed without an event.
fn wait_for(fd: &OwnedFd, ready: PollFlags, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = [PollFd::new(fd, ready)];
    Ok(poll(&mut fds, limit.as_ref())? > 0)
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Repeats a connect, a publish or a subscribe that a signal ended. The driver goes
/// on with the attempt and counts its time from the first call.
pub fn insist(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let mut again = false;
    loop {
        match call() {
            Err(Errno::INTR) => again = true,
            // It came about between two calls, which an old driver says so.
            Err(Errno::ISCONN) if again => return Ok(()),
            result => return result,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole milliseconds, rounded up, and at least 1: to the driver 0 would mean
/// its default, as None does here.
pub fn to_millis(timeout: Option<Duration>) -> u32 {
    let Some(timeout) = timeout else {
        return 0;
    };
    let millis = timeout.as_nanos().div_ceil(1_000_000).max(1);
    u32::try_from(millis).unwrap_or(u32::MAX)
}

/// Records on a pair of packet sockets, which keep them apart as the driver does.
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};

    fn pair(kind: SocketType, records: bool) -> (Endpoint, Endpoint) {
        let (a, b) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        (Endpoint::new(a, records), Endpoint::new(b, records))
    }

    #[test]
    fn records_stay_apart_and_end() {
        let (ours, theirs) = pair(SocketType::SEQPACKET, true);
        ours.send(b"one").unwrap();
        ours.send(b"three").unwrap();
        drop(ours);
        let mut buffer = [0; 5];
        let mut next = || theirs.recv(&mut buffer).unwrap();
        assert_eq!(next().len, 3);
        assert_eq!(next().len, 5);
        assert!(next().is_end());
    }

    #[test]
    fn transacts_in_two_calls_where_there_is_no_one() {
        let (ours, theirs) = pair(SocketType::STREAM, false);
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 8];
            let got = theirs.transact(&[], &mut buffer).unwrap();
            assert_eq!(&buffer[..got.len], b"question");
            assert!(theirs.transact(b"reply", &mut buffer).unwrap().is_end());
        });
        let mut reply = [0; 8];
        let got = ours.transact(b"question", &mut reply).unwrap();
        assert_eq!(&reply[..got.len], b"reply");
        drop(ours);
        server.join().unwrap();
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let refused = io::ErrorKind::InvalidInput;
        let (ours, _theirs) = pair(SocketType::SEQPACKET, true);
        assert_eq!(ours.send(b"").unwrap_err().kind(), refused);
        assert_eq!(ours.recv(&mut []).unwrap_err().kind(), refused);
        let (ours, _theirs) = pair(SocketType::STREAM, false);
        assert_eq!(ours.send(b"a").unwrap_err().kind(), refused);
        assert_eq!(ours.recv(&mut [0]).unwrap_err().kind(), refused);
    }

    #[test]
    fn only_the_reader_of_a_cut_record_hears_so() {
        let mut known = 0;
        let mut judge = |len, count| judge(len, 4, &mut known, || count).truncated;
        assert!(!judge(3, None), "it fits, nobody is asked");
        assert!(judge(4, Some(1)));
        assert!(!judge(4, Some(1)), "one that just fits");
        assert!(!judge(0, None));
        assert!(judge(4, Some(2)));
        assert!(!judge(4, None), "the record counts, not its count");
        assert!(!judge(4, Some(2)));
    }

    #[test]
    fn a_signal_ends_no_connect() {
        let insisted = |answers: &[Errno]| {
            let mut answers = answers.iter();
            insist(|| answers.next().map_or(Ok(()), |errno| Err(*errno)))
        };
        let (intr, isconn) = (Errno::INTR, Errno::ISCONN);
        assert_eq!(insisted(&[intr, intr]), Ok(()));
        assert_eq!(insisted(&[intr, Errno::TIMEDOUT]), Err(Errno::TIMEDOUT));
        assert_eq!(insisted(&[intr, isconn]), Ok(()));
        assert_eq!(insisted(&[isconn]), Err(isconn));
    }

    #[test]
    fn a_timeout_is_never_the_default() {
        assert_eq!(to_millis(None), 0);
        assert_eq!(to_millis(Some(Duration::ZERO)), 1);
        assert_eq!(to_millis(Some(Duration::from_micros(1001))), 2);
        assert_eq!(to_millis(Some(Duration::MAX)), u32::MAX);
    }
}

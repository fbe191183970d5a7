// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open file of the device that moves data, as channels, publishers and
//! subscribers share it: how reads and writes wait, and what a record is.
//!
//! A limit on waiting needs a descriptor that does not block, with the waiting
//! done here by poll: a blocking write of more than the ring holds could not
//! be left otherwise. So O_NONBLOCK is set while the user wants it, or while a
//! timeout is set; only without both does the driver itself wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
#[non_exhaustive]
pub struct Received {
    /// Bytes in the buffer; 0 is the end, unless the buffer was empty: no record is.
    pub len: usize,
    /// The buffer was too small, and the rest of the record is lost.
    pub truncated: bool,
    /// Nothing was asked for, so nothing tells the end.
    asked: bool,
}

impl Received {
    /// What came into a buffer of `room` bytes.
    const fn into_room(room: usize, len: usize, truncated: bool) -> Self {
        Self {
            len,
            truncated,
            asked: room > 0,
        }
    }

    /// A record of `len` bytes that came whole: for tests of what receives.
    #[doc(hidden)]
    pub const fn whole(len: usize) -> Self {
        Self::into_room(len + 1, len, false)
    }

    /// True when no record will come any more.
    pub const fn is_end(self) -> bool {
        self.asked && self.len == 0
    }

    /// The bytes that came, for a reader who has no other way to hear that a record was cut.
    fn uncut(self) -> io::Result<usize> {
        if self.truncated {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the record is longer than the buffer, and its rest is lost",
            ));
        }
        Ok(self.len)
    }
}

/// What a signal does to a call that waits without a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// It ends it with EINTR, as POSIX has it.
    Ends,
    /// Nothing.
    Passes,
}

/// How one call waits. Its limit is counted from its start, whatever it does meanwhile.
#[derive(Clone, Copy)]
struct Wait {
    ready: PollFlags,
    started: Instant,
    signal: Signal,
}

impl Wait {
    fn new(ready: PollFlags, signal: Signal) -> Self {
        Self {
            ready,
            started: Instant::now(),
            signal,
        }
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

    /// Of a descriptor that others had: whether it blocks stays as it is.
    pub fn of_others(fd: OwnedFd, records: bool, truncated: u64) -> Self {
        let nonblocking = sys::is_nonblocking(&fd).unwrap_or(false);
        Self {
            fd,
            records,
            waiting: Mutex::new(Waiting {
                nonblocking,
                ..Waiting::default()
            }),
            truncated: Mutex::new(truncated),
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
        let (room, wait) = (buffer.len(), Wait::new(PollFlags::IN, Signal::Ends));
        self.take(room, wait, |fd| rustix::io::read(fd, &mut *buffer))?
            .uncut()
    }

    pub fn readv(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        let wait = Wait::new(PollFlags::IN, Signal::Ends);
        self.take(room, wait, |fd| rustix::io::readv(fd, buffers))?
            .uncut()
    }

    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        let wait = Wait::new(PollFlags::OUT, Signal::Ends);
        self.transfer(wait, |fd| rustix::io::write(fd, buffer))
    }

    pub fn writev(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let wait = Wait::new(PollFlags::OUT, Signal::Ends);
        self.transfer(wait, |fd| rustix::io::writev(fd, buffers))
    }

    /// Writes one record; a signal does not end the waiting.
    pub fn send(&self, record: &[u8]) -> io::Result<()> {
        self.refuse_if(record.is_empty(), "no record is empty")?;
        let wait = Wait::new(PollFlags::OUT, Signal::Passes);
        let sent = self.transfer(wait, |fd| rustix::io::write(fd, record))?;
        if sent == record.len() {
            Ok(())
        } else {
            Err(io::Error::other("the driver cut a record in two"))
        }
    }

    /// Reads one record; a signal does not end the waiting.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.refuse_if(buffer.is_empty(), "an empty buffer takes no record")?;
        self.receive(buffer)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (room, wait) = (buffer.len(), Wait::new(PollFlags::IN, Signal::Passes));
        self.take(room, wait, |fd| rustix::io::read(fd, &mut *buffer))
    }

    /// Writes all of `request`, if it is not empty, then reads; in one call
    /// where the driver has that and does the waiting. A signal does not end it.
    pub fn transact(&self, request: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        let waiting = *lock(&self.waiting);
        if waiting.nonblocking || waiting.polls() || request.len() > sys::REQUEST_MAX {
            return self.write_and_read(request, reply);
        }
        self.transact_by(request, reply, |fd, rest, reply, sent| {
            sys::transact(fd, rest, reply, sent)
        })
    }

    fn transact_by(
        &self,
        request: &[u8],
        reply: &mut [u8],
        mut call: impl FnMut(&OwnedFd, &[u8], &mut [u8], &mut usize) -> rustix::io::Result<usize>,
    ) -> io::Result<Received> {
        let (mut rest, room) = (request, reply.len());
        loop {
            let mut sent = 0;
            let result = self.take_at_once(room, |fd| call(fd, rest, reply, &mut sent));
            rest = rest.get(sent..).unwrap_or_default();
            match result {
                Err(Errno::INTR) => {}
                // A driver that does not have it yet; or another thread has just set a limit.
                Err(Errno::NOTTY | Errno::AGAIN) => return self.write_and_read(rest, reply),
                result => return Ok(result?),
            }
        }
    }

    fn write_and_read(&self, mut rest: &[u8], reply: &mut [u8]) -> io::Result<Received> {
        let wait = Wait::new(PollFlags::OUT, Signal::Passes);
        while !rest.is_empty() {
            let sent = self.transfer(wait, |fd| rustix::io::write(fd, rest))?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.receive(reply)
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

    /// A read of up to `room` bytes that waits.
    fn take(
        &self,
        room: usize,
        wait: Wait,
        mut read: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> io::Result<Received> {
        let mut received = Received::into_room(room, 0, false);
        self.transfer(wait, |_| {
            received = self.take_at_once(room, &mut read)?;
            Ok(received.len)
        })?;
        Ok(received)
    }

    /// One read of up to `room` bytes. Of records it is noted whether one was
    /// cut, so that no later receive takes the blame.
    fn take_at_once(
        &self,
        room: usize,
        read: impl FnOnce(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<Received> {
        if !self.records {
            return Ok(Received::into_room(room, read(&self.fd)?, false));
        }
        // Held over both calls: two readers must not mix their records up.
        let mut known = lock(&self.truncated);
        let len = read(&self.fd)?;
        Ok(judge(len, room, &mut known, || {
            Some(sys::info(&self.fd).ok()?.truncated)
        }))
    }

    /// One transfer by `transfer`; waits where poll does that.
    fn transfer(
        &self,
        wait: Wait,
        mut transfer: impl FnMut(&OwnedFd) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let result = match transfer(&self.fd) {
                Err(Errno::AGAIN) => self.wait_ready(wait),
                result => result.map(Some),
            };
            match result {
                Ok(Some(moved)) => return Ok(moved),
                Ok(None) => {}
                Err(Errno::INTR) if wait.signal == Signal::Passes => {}
                Err(Errno::TIMEDOUT) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until something can be moved, within the limit of the call. Where there is one, no
    /// signal ends the waiting: the caller knows how long it takes.
    fn wait_ready(&self, wait: Wait) -> rustix::io::Result<Option<usize>> {
        let waiting = *lock(&self.waiting);
        if !waiting.polls() {
            return Err(Errno::AGAIN);
        }
        let limit = if wait.ready == PollFlags::IN {
            waiting.read_timeout
        } else {
            waiting.write_timeout
        };
        let mut fds = [PollFd::new(&self.fd, wait.ready)];
        match poll_until(&mut fds, wait.started, limit) {
            Err(Errno::INTR) if limit.is_some() => Ok(None),
            Ok(false) => Err(Errno::TIMEDOUT),
            result => result.map(|_| None),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The descriptor alone, which blocks unless it was made not to: a limit ends here.
impl From<Endpoint> for OwnedFd {
    fn from(endpoint: Endpoint) -> Self {
        if lock(&endpoint.waiting).polls() {
            // There is no known cause why it could fail.
            let _ = sys::set_nonblocking(&endpoint.fd, false);
        }
        endpoint.fd
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
    Received::into_room(room, len, *known != before)
}

/// Polls until `limit` has passed since `started`; false when it has, without an event.
pub fn poll_until(
    fds: &mut [PollFd<'_>],
    started: Instant,
    limit: Option<Duration>,
) -> rustix::io::Result<bool> {
    let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    Ok(poll(fds, left.as_ref())? > 0)
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

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::atomic::AtomicBool;
    use std::sync::Arc;

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

    /// Does `call` in a thread of its own while signals come to it, more often than
    /// `LIMIT` is long; None if they kept it from ending.
    fn under_signals<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let heard = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(libc::SIGUSR1, Arc::clone(&heard)).unwrap();
        let thread = std::thread::spawn(call);
        let until = Instant::now() + Duration::from_secs(60);
        while !thread.is_finished() {
            if Instant::now() > until {
                return None;
            }
            // SAFETY: the thread has not been joined, so its handle is good.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            std::thread::sleep(LIMIT / 20);
        }
        Some(thread.join().unwrap())
    }

    const LIMIT: Duration = Duration::from_millis(200);

    #[test]
    fn signals_make_no_limit_longer() {
        let calls: [fn(&Endpoint) -> io::Result<usize>; 4] = [
            |end| Ok(end.recv(&mut [0; 8])?.len),
            |end| end.read(&mut [0; 8]),
            |end| Ok(end.transact(b"a", &mut [0; 8])?.len),
            |end| loop {
                end.send(&[0; 4096])?;
            },
        ];
        for call in calls {
            let (ours, theirs) = pair(SocketType::SEQPACKET, true);
            ours.set_waiting(|waiting| {
                waiting.read_timeout = Some(LIMIT);
                waiting.write_timeout = Some(LIMIT);
            })
            .unwrap();
            let ended = under_signals(move || call(&ours).unwrap_err().kind());
            assert_eq!(ended, Some(io::ErrorKind::TimedOut));
            drop(theirs);
        }
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
    fn no_byte_of_a_request_goes_twice() {
        let (ours, theirs) = pair(SocketType::STREAM, false);
        rustix::io::write(&theirs.fd, b"reply").unwrap();
        let mut reply = [0; 8];
        let got = ours.transact_by(b"question", &mut reply, |fd, rest, _, sent| {
            *sent = rustix::io::write(fd, &rest[..3])?;
            // What another thread does meanwhile.
            ours.set_waiting(|waiting| waiting.read_timeout = Some(Duration::MAX))?;
            Err(Errno::AGAIN)
        });
        assert_eq!(got.unwrap().len, 5);
        let mut sent = [0; 32];
        let len = rustix::io::read(&theirs.fd, &mut sent).unwrap();
        assert_eq!(&sent[..len], b"question");
    }

    #[test]
    fn an_empty_buffer_says_nothing_of_the_end() {
        let (ours, _theirs) = pair(SocketType::STREAM, false);
        assert!(!ours.transact(b"a", &mut []).unwrap().is_end());
    }

    #[test]
    fn who_only_reads_hears_of_a_cut_record_as_well() {
        let cut = Received::into_room(4, 4, true).uncut();
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(Received::into_room(4, 4, false).uncut().unwrap(), 4);
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

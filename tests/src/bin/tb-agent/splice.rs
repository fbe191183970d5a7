// SPDX-License-Identifier: GPL-2.0
//! Moves bytes between a vchan and a socket until one side has gone.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{poll, PollFd, PollFlags};

use crate::vchan::{Peer, Vchan};

const CHUNK: usize = 16 << 10;

/// What to do once the socket has ended and all it said was passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Return, so that the stream is closed.
    Close,
    /// Wait until the other side has closed it: what is mapped nowhere is freed at once.
    Linger,
}

/// Passes bytes both ways. When `stop` becomes readable, `stopped` decides whether that ends it:
/// true is returned if it does, false when either side has gone.
pub fn run<S>(
    vchan: &Vchan,
    socket: &S,
    at_end: AtEnd,
    stop: BorrowedFd<'_>,
    mut stopped: impl FnMut() -> bool,
) -> io::Result<bool>
where
    S: AsFd,
    for<'a> &'a S: Read + Write,
{
    rustix::io::ioctl_fionbio(socket, true)?;
    let mut inward = Piece::default();
    let mut outward = Piece::default();
    let mut ended = false;
    loop {
        let mut moved = inward.fill(|room| vchan.read(room))? > 0;
        if ended {
            inward.clear();
        } else {
            match inward.drain(|bytes| (&mut &*socket).write(bytes)) {
                Ok(n) => moved |= n > 0,
                Err(_) => return Ok(false),
            }
            match outward.fill_or_end(|room| (&mut &*socket).read(room)) {
                Some(n) => moved |= n > 0,
                None => ended = true,
            }
        }
        match outward.drain(|bytes| vchan.write(bytes)) {
            Ok(n) => moved |= n > 0,
            // It has gone, but what it said last may still be there to read.
            Err(_) => outward.clear(),
        }
        if moved {
            continue;
        }
        if vchan.peer() == Peer::Gone && vchan.ready() == 0 && inward.is_empty() {
            return Ok(false);
        }
        if ended && outward.is_empty() && at_end == AtEnd::Close {
            return Ok(false);
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, outward.is_empty() && !ended);
        wanted.set(PollFlags::OUT, !inward.is_empty());
        let (event, stop_now) = sleep(vchan, socket.as_fd(), wanted, stop)?;
        if event {
            vchan.take_event();
        }
        if stop_now && stopped() {
            return Ok(true);
        }
    }
}

/// Sleeps until something happens; says whether the vchan and `stop` had a part in it.
fn sleep(
    vchan: &Vchan,
    socket: BorrowedFd<'_>,
    wanted: PollFlags,
    stop: BorrowedFd<'_>,
) -> io::Result<(bool, bool)> {
    let mut fds = vec![
        PollFd::from_borrowed_fd(vchan.fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(stop, PollFlags::IN),
    ];
    // A socket that nothing is wanted from stays out: its hang-up would wake us for ever.
    if !wanted.is_empty() {
        fds.push(PollFd::from_borrowed_fd(socket, wanted));
    }
    match poll(&mut fds, None) {
        Err(rustix::io::Errno::INTR) => return Ok((false, false)),
        other => other?,
    };
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    sent: usize,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Reads once if there is nothing left to send.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        if !self.is_empty() {
            return Ok(0);
        }
        self.bytes.resize(CHUNK, 0);
        self.sent = 0;
        let n = read(&mut self.bytes);
        self.bytes.truncate(*n.as_ref().unwrap_or(&0));
        n
    }

    /// As `fill`, from a socket: `None` when it has ended.
    fn fill_or_end(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Option<usize> {
        if !self.is_empty() {
            return Some(0);
        }
        match self.fill(read) {
            Ok(0) => None,
            Ok(n) => Some(n),
            Err(error) => would_block(&error).then_some(0),
        }
    }

    /// Writes once if there is something to send.
    fn drain(&mut self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        match write(&self.bytes[self.sent..]) {
            Ok(n) => {
                self.sent += n;
                Ok(n)
            }
            Err(error) if would_block(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

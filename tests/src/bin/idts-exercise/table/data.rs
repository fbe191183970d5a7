// SPDX-License-Identifier: GPL-2.0
//! Calls that move data, and poll.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Result};
use idts_core::uapi::{self, Transact};
use libc::{POLLHUP, POLLIN, POLLOUT, POLLRDHUP};

use super::raw::{self, read, want, write, Answer, Half, PAGE, SOON};
use super::{Against, Cell, Ground};

/// Of a ring.
const RING: usize = 4 << 12;
/// Records that go each way.
const MANY: usize = 40;

/// The answer, and what the call says it sent.
fn ask(fd: &OwnedFd, tx: (usize, usize), rx: (usize, usize)) -> (Answer, u32) {
    let mut transact = Transact {
        tx: tx.0 as u64,
        tx_len: tx.1 as u32,
        rx: rx.0 as u64,
        rx_len: rx.1 as u32,
        ..Transact::default()
    };
    let answer = raw::ioctl(fd, raw::TRANSACT, &mut transact);
    (answer, transact.sent)
}

/// Asks with `bytes`, for up to 64 bytes.
fn ask_with(fd: &OwnedFd, bytes: &[u8]) -> (Answer, u32) {
    let mut reply = [0; 64];
    let rx = (reply.as_mut_ptr() as usize, reply.len());
    ask(fd, (bytes.as_ptr() as usize, bytes.len()), rx)
}

fn want_sent(what: &str, got: (Answer, u32), wanted: (Answer, u32)) -> Result<()> {
    want(what, got.0, wanted.0)?;
    ensure!(
        got.1 == wanted.1,
        "{what}: sent {}, not {}",
        got.1,
        wanted.1
    );
    Ok(())
}

pub fn transacts(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    match against {
        Against::Thread => {
            let (fd, there) = far.records()?;
            far.echo(there)?;
            let asked = || (0..MANY).all(|n| ask_with(&fd, &vec![9; 1 + n % 64]).0.is_ok());
            ensure!(raw::twice(asked)? == [true, true], "a reply is lost");
        }
        Against::Signal => {
            let (fd, there) = far.stream()?;
            let ended = raw::under_signals(false, SOON, || ask_with(&fd, &[1; 5]))?;
            want_sent("a signal", ended, (Err(libc::EINTR), 5))?;
            // What was sent is not sent again behind the caller's back.
            let ended = raw::under_signals(true, SOON, || ask_with(&fd, &[2; 5]))?;
            want_sent("with SA_RESTART", ended, (Err(libc::EINTR), 5))?;
            want("the peer", Ok(far.read(there, 10)?.into()), Ok(10))?;
            far.write_later(there, 7)?;
            let read = raw::under_signals(true, SOON / 4, || ask_with(&fd, &[]))?;
            want_sent("nothing to send", read, (Ok(7), 0))?;
        }
        Against::Fork => {
            let (fd, there) = far.records()?;
            far.echo(there)?;
            let asked = || want_sent("asked", ask_with(&fd, &[1; 30]), (Ok(30), 0));
            raw::in_child(asked)?;
            asked()?;
        }
        Against::Closed => {
            let (fd, there) = far.stream()?;
            far.write(there, 3)?;
            far.close(there)?;
            raw::want_event(&fd, POLLHUP)?;
            let epipe = (Err(libc::EPIPE), 0);
            want_sent("a peer that closed", ask_with(&fd, &[1]), epipe)?;
            want_sent("what it said", ask_with(&fd, &[]), (Ok(3), 0))?;
            want_sent("the end", ask_with(&fd, &[]), (Ok(0), 0))?;
        }
        Against::Nonblock => {
            let (fd, _there) = far.stream()?;
            raw::set_nonblocking(&fd, true)?;
            let again = Err(libc::EAGAIN);
            want_sent("no reply yet", ask_with(&fd, &[1; 5]), (again, 5))?;
            want_sent(
                "a full ring",
                ask_with(&fd, &[1; RING]),
                (again, RING as u32 - 5),
            )?;
        }
        Against::HalfMapped => {
            let half = Half::new()?;
            let fault = Err(libc::EFAULT);
            let tx = (half.last(100), 200);
            let (fd, _there) = far.records()?;
            want_sent("half a record", ask(&fd, tx, (0, 0)), (fault, 0))?;
            let (fd, there) = far.stream()?;
            let (answer, sent) = ask(&fd, tx, (0, 0));
            want("half a request", answer, fault)?;
            want(
                "what it sent",
                Ok(far.read(there, sent)?.into()),
                Ok(sent.into()),
            )?;
            far.write(there, 10)?;
            want_sent("no room", ask(&fd, (0, 0), (half.last(0), 8)), (fault, 0))?;
            want_sent("they are left", ask_with(&fd, &[]), (Ok(10), 0))?;
            let at = half.straddle(&Transact::default());
            raw::refused("half", raw::ioctl_at(&fd, raw::TRANSACT, at), libc::EFAULT)?;
        }
        Against::Mode => {
            let refused = (Err(libc::EBADF), 0);
            let (fd, there) = far.channel(raw::READ, 0, RING as u32)?;
            want_sent("write by it", ask_with(&fd, &[1]), refused)?;
            far.write(there, 4)?;
            want_sent("read alone", ask_with(&fd, &[]), (Ok(4), 0))?;
            let (fd, there) = far.channel(raw::WRITE, 0, RING as u32)?;
            far.write(there, 4)?;
            want_sent("read by it", ask_with(&fd, &[]), refused)?;
            want_sent("both by it", ask_with(&fd, &[1]), refused)?;
            let one = [1_u8];
            let tx = (one.as_ptr() as usize, 1);
            want_sent("write alone", ask(&fd, tx, (0, 0)), (Ok(0), 0))?;
            want("it came alone", Ok(far.read(there, 1)?.into()), Ok(1))?;
        }
    }
    Ok(Cell::Holds)
}

pub fn reads(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    match against {
        Against::Thread => {
            let (fd, there) = far.records()?;
            let read_one = || read(&fd, &mut [0; 64]).unwrap_or(-1);
            for round in 0..20 {
                far.write_later(there, 1 + round)?;
                far.write_later(there, 1 + round)?;
                let both = raw::twice(read_one)?;
                ensure!(both == [i64::from(1 + round); 2], "round {round}: {both:?}");
            }
            far.shutdown_later(there)?;
            ensure!(raw::twice(read_one)? == [0, 0], "both hear of the end");
        }
        Against::Signal => {
            let (fd, there) = far.stream()?;
            let once = || read(&fd, &mut [0; 8]);
            raw::refused(
                "a signal",
                raw::under_signals(false, SOON, once)?,
                libc::EINTR,
            )?;
            far.write_later(there, 3)?;
            let restarted = raw::under_signals(true, SOON / 4, once)?;
            want("with SA_RESTART", restarted, Ok(3))?;
        }
        Against::Fork => {
            let (fd, there) = far.stream()?;
            far.write(there, 100)?;
            raw::in_child(|| want("the child", read(&fd, &mut [0; 40]), Ok(40)))?;
            want("the parent", read(&fd, &mut [0; 80]), Ok(60))?;
            // The child's end was none of the channel's.
            far.write(there, 1)?;
            want("later", read(&fd, &mut [0; 80]), Ok(1))?;
        }
        Against::Closed => {
            let (fd, there) = far.stream()?;
            far.write(there, 5)?;
            far.close(there)?;
            want("the rest", read(&fd, &mut [0; 8]), Ok(5))?;
            want("the end", read(&fd, &mut [0; 8]), Ok(0))?;
            let (fd, there) = far.stream()?;
            want("unread", write(&fd, &[1]), Ok(1))?;
            far.close(there)?;
            let gone = [libc::ECONNRESET, libc::ENOTCONN];
            for errno in gone {
                raw::refused("a reset", read(&fd, &mut [0; 8]), errno)?;
            }
        }
        Against::Nonblock => {
            let (fd, there) = far.stream()?;
            let none = raw::read_nowait(&fd, &mut [0; 8]);
            raw::refused("RWF_NOWAIT", none, libc::EAGAIN)?;
            raw::set_nonblocking(&fd, true)?;
            raw::refused("O_NONBLOCK", read(&fd, &mut [0; 8]), libc::EAGAIN)?;
            raw::set_nonblocking(&fd, false)?;
            far.write(there, 3)?;
            raw::want_event(&fd, POLLIN)?;
            want("what is there", raw::read_nowait(&fd, &mut [0; 8]), Ok(3))?;
        }
        Against::HalfMapped => {
            let half = Half::new()?;
            let (fd, there) = far.stream()?;
            far.write(there, 200)?;
            raw::until("bytes", || Ok(raw::info(&fd)?.rx_avail == 200))?;
            want("what fits", raw::read_at(&fd, half.last(100), 200), Ok(100))?;
            raw::refused(
                "nothing fits",
                raw::read_at(&fd, half.last(0), 8),
                libc::EFAULT,
            )?;
            want("the rest", read(&fd, &mut [0; 200]), Ok(100))?;
            let (fd, there) = far.records()?;
            far.write(there, 200)?;
            let long = raw::read_at(&fd, half.last(100), 8000);
            raw::refused("a long record", long, libc::EFAULT)?;
            // It is not lost, and what a short one does not need may be missing.
            let whole = raw::read_at(&fd, half.last(200), 8000);
            want("it fits", whole, Ok(200))?;
        }
        Against::Mode => {
            let (fd, there) = far.channel(raw::WRITE, 0, 0)?;
            far.write(there, 1)?;
            raw::refused("read", read(&fd, &mut [0; 8]), libc::EBADF)?;
            let (fd, there) = far.channel(raw::READ, 0, 0)?;
            far.write(there, 1)?;
            want("read", read(&fd, &mut [0; 8]), Ok(1))?;
        }
    }
    Ok(Cell::Holds)
}

/// Fills the ring and the far end's none.
fn fill(fd: &OwnedFd) -> Result<()> {
    raw::set_nonblocking(fd, true)?;
    want("a full ring", write(fd, &[3; 2 * RING]), Ok(RING as i64))?;
    raw::set_nonblocking(fd, false)
}

pub fn writes(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    match against {
        Against::Thread => {
            // One wants much room, one little: neither may hide the other's wish.
            let (fd, there) = far.records()?;
            far.read_later(there, 2 * MANY as u32 - 1)?;
            let turn = AtomicUsize::new(0);
            let sent = raw::twice(|| {
                let len = [12_000, 100][turn.fetch_add(1, Ordering::Relaxed)];
                (0..MANY).all(|_| write(&fd, &vec![len as u8; len]) == Ok(len as i64))
            })?;
            ensure!(sent == [true, true], "a record was not sent");
            let left = far.read(there, 1)?;
            ensure!(left == 100 || left == 12_000, "{left} are left");
        }
        Against::Signal => {
            let (fd, there) = far.stream()?;
            let long = || write(&fd, &[1; 3 * RING]);
            let part = raw::under_signals(false, SOON, long)?;
            want("what was written", part, Ok(RING as i64))?;
            raw::refused(
                "nothing was",
                raw::under_signals(false, SOON, long)?,
                libc::EINTR,
            )?;
            far.read_later(there, RING as u32)?;
            let restarted = raw::under_signals(true, SOON / 4, || write(&fd, &[2; 100]))?;
            want("with SA_RESTART", restarted, Ok(100))?;
        }
        Against::Fork => {
            let (fd, there) = far.records()?;
            far.read_later(there, 100)?;
            let many = || (0..50).try_for_each(|_| want("write", write(&fd, &[4; 500]), Ok(500)));
            raw::in_child(many)?;
            many()?;
            want("once more", write(&fd, &[4; 20]), Ok(20))?;
            let left = far.read(there, 1)?;
            ensure!(left == 20 || left == 500, "{left} are left");
        }
        Against::Closed => {
            let (fd, there) = far.stream()?;
            fill(&fd)?;
            let closed = thread::scope(|scope| {
                let blocked = scope.spawn(|| write(&fd, &[1; 8]));
                thread::sleep(SOON);
                far.close(there)?;
                blocked.join().map_err(|_| anyhow::anyhow!("panic"))
            })?;
            // It had not read all: it is a reset as well.
            let fine = [libc::EPIPE, libc::ECONNRESET];
            ensure!(
                closed.is_err_and(|e| fine.contains(&e)),
                "blocked: {closed:?}"
            );
            let (fd, there) = far.stream()?;
            far.close(there)?;
            raw::want_event(&fd, POLLHUP)?;
            for _ in 0..2 {
                raw::refused("a peer that closed", write(&fd, &[1; 8]), libc::EPIPE)?;
            }
        }
        Against::Nonblock => {
            let (fd, there) = far.stream()?;
            let part = raw::write_nowait(&fd, &[1; 2 * RING]);
            want("RWF_NOWAIT, a part", part, Ok(RING as i64))?;
            raw::refused("RWF_NOWAIT", raw::write_nowait(&fd, &[1]), libc::EAGAIN)?;
            raw::set_nonblocking(&fd, true)?;
            raw::refused("O_NONBLOCK", write(&fd, &[1]), libc::EAGAIN)?;
            far.read_later(there, RING as u32)?;
            raw::want_event(&fd, POLLOUT)?;
            let (fd, _there) = far.records()?;
            want("a record", raw::write_nowait(&fd, &[1; 9000]), Ok(9000))?;
            let whole = raw::write_nowait(&fd, &[1; 9000]);
            raw::refused("a record comes whole", whole, libc::EAGAIN)?;
        }
        Against::HalfMapped => {
            let half = Half::new()?;
            let (fd, there) = far.stream()?;
            want(
                "what is there",
                raw::write_at(&fd, half.last(100), 200),
                Ok(100),
            )?;
            raw::refused(
                "nothing is",
                raw::write_at(&fd, half.last(0), 8),
                libc::EFAULT,
            )?;
            want("the peer", Ok(far.read(there, 100)?.into()), Ok(100))?;
            let (fd, there) = far.records()?;
            let part = raw::write_at(&fd, half.start(), PAGE + 3904);
            raw::refused("half a record", part, libc::EFAULT)?;
            want("a whole one", raw::write_at(&fd, half.last(50), 50), Ok(50))?;
            want("the peer", Ok(far.read(there, 1)?.into()), Ok(50))?;
        }
        Against::Mode => {
            let (fd, _there) = far.channel(raw::READ, 0, 0)?;
            raw::refused("write", write(&fd, &[1]), libc::EBADF)?;
            let (fd, there) = far.channel(raw::WRITE, 0, 0)?;
            want("write", write(&fd, &[1]), Ok(1))?;
            far.read(there, 1)?;
        }
    }
    Ok(Cell::Holds)
}

pub fn polls(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    match against {
        Against::Thread => {
            let (fd, there) = far.stream()?;
            far.write_later(there, 1)?;
            let both = raw::twice(|| raw::want_event(&fd, POLLIN))?;
            both.into_iter().collect::<Result<Vec<_>>>()?;
            let (fd, port) = super::setup::listener(raw::BOTH)?;
            far.connect_later(port)?;
            let both = raw::twice(|| raw::want_event(&fd, POLLIN))?;
            both.into_iter().collect::<Result<Vec<_>>>()?;
        }
        Against::Signal => {
            let (fd, there) = far.stream()?;
            for restart in [false, true] {
                // Poll is never started again, whatever the handler wants.
                let waits = || raw::poll(&fd, POLLIN, raw::HUNG / 2);
                let ended = raw::under_signals(restart, SOON, waits)?;
                raw::refused("a signal", ended, libc::EINTR)?;
            }
            far.write_later(there, 1)?;
            raw::want_event(&fd, POLLIN)?;
        }
        Against::Fork => {
            let (fd, there) = far.stream()?;
            far.write_later(there, 1)?;
            raw::in_child(|| raw::want_event(&fd, POLLIN).map(drop))?;
            raw::want_event(&fd, POLLIN)?;
            let events = raw::poll(&fd, POLLIN | POLLRDHUP, Duration::ZERO);
            want("no hang-up", events, Ok(POLLIN.into()))?;
        }
        Against::Closed => hangups(ground)?,
        Against::Nonblock => {
            let port = far.listen(0)?;
            for round in 0..20 {
                let fd = raw::open(raw::BOTH)?;
                raw::set_nonblocking(&fd, true)?;
                let mut request = far.request(port, 0, 4096);
                let begun = raw::ioctl(&fd, raw::CONNECT, &mut request);
                raw::refused("begun", begun, libc::EINPROGRESS)?;
                // A channel that comes about is never taken for one that is gone.
                let mut events = 0;
                while events == 0 {
                    let looked = raw::poll(&fd, POLLOUT, Duration::ZERO);
                    events = looked.map_err(|e| anyhow::anyhow!("poll: errno {e}"))? as i16;
                }
                ensure!(events == POLLOUT, "round {round}: events {events:#x}");
                far.close(far.accept()?)?;
            }
        }
        Against::HalfMapped => return Ok(Cell::Empty("its structure is the kernel's to read")),
        Against::Mode => {
            let (fd, there) = far.channel(raw::READ, 0, 0)?;
            far.write(there, 1)?;
            raw::want_event(&fd, POLLIN)?;
            let (fd, _there) = far.channel(raw::WRITE, 0, 0)?;
            raw::want_event(&fd, POLLOUT)?;
        }
    }
    Ok(Cell::Holds)
}

/// Ends that come while data are unread: told to a poll that waits for nothing else, by level and
/// by edge.
fn hangups(ground: &Ground) -> Result<()> {
    let far = &ground.far;
    let unread = |len| -> Result<_> {
        let (fd, there) = far.stream()?;
        far.write(there, len)?;
        raw::want_event(&fd, POLLIN)?;
        Ok((fd, there))
    };
    let (fd, there) = unread(10)?;
    far.shutdown_later(there)?;
    let events = raw::want_event(&fd, POLLRDHUP)?;
    ensure!(events == POLLRDHUP, "half-closed: {events:#x}");
    let all = raw::poll(&fd, POLLIN | POLLOUT | POLLRDHUP, Duration::ZERO);
    want(
        "half-closed",
        all,
        Ok((POLLIN | POLLOUT | POLLRDHUP).into()),
    )?;
    want("the rest", read(&fd, &mut [0; 16]), Ok(10))?;
    let (fd, there) = unread(10)?;
    want("we end too", raw::shutdown(&fd, uapi::SHUT_WR), Ok(0))?;
    far.shutdown_later(there)?;
    let events = raw::want_event(&fd, 0)?;
    ensure!(events == POLLHUP, "both ended: {events:#x}");
    let (fd, there) = unread(10)?;
    let edge = super::everyday::edges(&fd)?;
    super::everyday::want_edge(&edge)?;
    far.shutdown_later(there)?;
    let events = super::everyday::want_edge(&edge)?;
    ensure!(
        events & libc::EPOLLRDHUP as u32 != 0,
        "an edge: {events:#x}"
    );
    far.close(there)?;
    raw::want_event(&fd, POLLHUP).map(drop)
}

// SPDX-License-Identifier: GPL-2.0
//! Calls by which a channel comes about: accept, connect, publish, subscribe.

use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Result};
use idts_core::uapi::{self, Accept, Addr, Connect, Group, Listen};

use super::hand::Far;
use super::raw::{self, want, Answer, Half, SOON};
use super::{Against, Cell, Ground};

/// Rounds of two clients at once.
const ROUNDS: u32 = 8;

/// A listener, and its port.
pub fn listener(mode: i32) -> Result<(OwnedFd, u32)> {
    let fd = raw::open(mode)?;
    let mut any = Addr {
        domid: uapi::DOMID_ANY,
        ..Addr::default()
    };
    want("BIND", raw::ioctl(&fd, raw::BIND, &mut any), Ok(0))?;
    want(
        "LISTEN",
        raw::ioctl(&fd, raw::LISTEN, &mut Listen::default()),
        Ok(0),
    )?;
    let port = raw::info(&fd)?.local.port;
    Ok((fd, port))
}

fn take(fd: &OwnedFd) -> Result<OwnedFd, i32> {
    let mut accept = Accept {
        flags: uapi::CLOEXEC,
        fd: -1,
        ..Accept::default()
    };
    raw::ioctl(fd, raw::ACCEPT, &mut accept)?;
    raw::own(accept.fd).map_err(|_| libc::EBADF)
}

/// An accept's answer without its descriptor.
fn answer(taken: &Result<OwnedFd, i32>) -> Answer {
    match taken {
        Ok(_) => Ok(0),
        Err(errno) => Err(*errno),
    }
}

/// Gives a client its answer, once both are there: the barrier is of the two acceptors.
fn serve(fd: &OwnedFd, both: &Barrier) -> Result<()> {
    let channel = take(fd).map_err(|errno| anyhow::anyhow!("accept: errno {errno}"))?;
    want("the question", raw::read(&channel, &mut [0]), Ok(1))?;
    both.wait();
    want("the answer", raw::write(&channel, &[2]), Ok(1))
}

/// Within a domain a connect is done when it returns. So two of them come before either of two
/// acceptors runs, where all have one CPU and who connects goes first: the one that runs first must
/// leave the other what it waits for.
fn both_at_once(ground: &Ground, fd: &OwnedFd, port: u32) -> Result<()> {
    raw::one_cpu()?;
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let acceptors = [(); 2].map(|()| scope.spawn(|| serve(fd, &both)));
        thread::sleep(SOON);
        raw::go_first(true)?;
        let clients = [raw::open(raw::BOTH)?, raw::open(raw::BOTH)?];
        for client in &clients {
            let request = ground.far.request(port, 0, 4096);
            want("CONNECT", connect_with(client, &request), Ok(0))?;
            want("the question", raw::write(client, &[1]), Ok(1))?;
        }
        raw::go_first(false)?;
        for client in &clients {
            want("the answer", raw::read(client, &mut [0]), Ok(1))?;
        }
        for acceptor in acceptors {
            acceptor.join().map_err(|_| anyhow::anyhow!("panic"))??;
        }
        Ok(())
    })
}

pub fn accept(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    let (fd, port) = listener(raw::BOTH)?;
    match against {
        Against::Thread => {
            far.talk(port, ROUNDS, SOON)?;
            let both = Barrier::new(2);
            for result in raw::twice(|| (0..ROUNDS).try_for_each(|_| serve(&fd, &both)))? {
                result?;
            }
            if ground.home {
                for _ in 0..5 {
                    both_at_once(ground, &fd, port)?;
                }
            }
        }
        Against::Signal => {
            let ended = raw::under_signals(false, SOON, || answer(&take(&fd)))?;
            raw::refused("a signal", ended, libc::EINTR)?;
            far.connect_later(port)?;
            let taken = raw::under_signals(true, SOON / 4, || answer(&take(&fd)))?;
            want("with SA_RESTART", taken, Ok(0))?;
        }
        Against::Fork => {
            far.connect(port)?;
            far.connect(port)?;
            raw::in_child(|| want("the child", answer(&take(&fd)), Ok(0)))?;
            want("the parent", answer(&take(&fd)), Ok(0))?;
        }
        Against::Closed => {
            let there = far.connect(port)?;
            far.write(there, 3)?;
            far.close(there)?;
            let channel = take(&fd).map_err(|errno| anyhow::anyhow!("errno {errno}"))?;
            want("what it said", raw::read(&channel, &mut [0; 8]), Ok(3))?;
            want("the end", raw::read(&channel, &mut [0; 8]), Ok(0))?;
        }
        Against::Nonblock => {
            raw::set_nonblocking(&fd, true)?;
            raw::refused("nobody waits", answer(&take(&fd)), libc::EAGAIN)?;
            far.connect(port)?;
            raw::want_event(&fd, libc::POLLIN)?;
            let channel = take(&fd).map_err(|errno| anyhow::anyhow!("errno {errno}"))?;
            // What is accepted waits, unless it is asked not to.
            raw::refused(
                "at once",
                raw::read_nowait(&channel, &mut [0]),
                libc::EAGAIN,
            )?;
        }
        Against::HalfMapped => {
            far.connect(port)?;
            let half = Half::new()?;
            let at = half.straddle(&Accept::default());
            raw::refused("half", raw::ioctl_at(&fd, raw::ACCEPT, at), libc::EFAULT)?;
            want("it is not lost", answer(&take(&fd)), Ok(0))?;
        }
        Against::Mode => {
            for mode in [raw::READ, raw::WRITE] {
                let (fd, port) = listener(mode)?;
                let there = far.connect(port)?;
                let channel = take(&fd).map_err(|errno| anyhow::anyhow!("errno {errno}"))?;
                // It is another object, whose mode is its own.
                want("write", raw::write(&channel, &[1]), Ok(1))?;
                far.write(there, 1)?;
                want("read", raw::read(&channel, &mut [0]), Ok(1))?;
            }
        }
    }
    Ok(Cell::Holds)
}

fn connect_with(fd: &OwnedFd, request: &Connect) -> Answer {
    raw::ioctl(fd, raw::CONNECT, &mut { *request })
}

/// A connect to somebody who answers nobody.
fn in_vain(ground: &Ground, ms: u32) -> Connect {
    Connect {
        peer: Addr {
            domid: ground.silent.domain,
            reserved: 0,
            port: ground.silent.port,
        },
        timeout_ms: ms,
        ..Connect::default()
    }
}

pub fn connect(ground: &Ground, against: Against) -> Result<Cell> {
    let far = &ground.far;
    let fd = raw::open(raw::BOTH)?;
    let good = far.request(far.listen(0)?, 0, 4 << 12);
    let silent = in_vain(ground, 800);
    match against {
        Against::Thread => {
            let both = raw::twice(|| connect_with(&fd, &silent))?;
            let late = Err(libc::ETIMEDOUT);
            raw::want_all("both wait for one answer", &both, &[late, late])?;
            want("another attempt", connect_with(&fd, &good), Ok(0))?;
            raw::refused("once more", connect_with(&fd, &good), libc::EISCONN)?;
        }
        Against::Signal => interrupted(ground, &fd, &good)?,
        Against::Fork => {
            raw::in_child(|| want("the child", connect_with(&fd, &good), Ok(0)))?;
            let there = far.accept()?;
            want("the parent writes", raw::write(&fd, &[1]), Ok(1))?;
            want("it came", Ok(far.read(there, 1)?.into()), Ok(1))?;
        }
        Against::Closed => {
            let nobody = far.request(good.peer.port ^ 1, 0, 0);
            for _ in 0..2 {
                raw::refused("nobody", connect_with(&fd, &nobody), libc::ECONNREFUSED)?;
            }
            want("it is of use again", connect_with(&fd, &good), Ok(0))?;
            far.close(far.accept()?)?;
            raw::want_event(&fd, libc::POLLHUP)?;
            raw::refused("once more", connect_with(&fd, &good), libc::EISCONN)?;
        }
        Against::Nonblock => nonblocking(ground, &fd, &good)?,
        Against::HalfMapped => {
            let half = Half::new()?;
            let at = half.straddle(&good);
            raw::refused("half", raw::ioctl_at(&fd, raw::CONNECT, at), libc::EFAULT)?;
            raw::want_state(&fd, uapi::STATE_IDLE)?;
        }
        Against::Mode => {
            let (fd, there) = far.channel(raw::READ, 0, 0)?;
            far.write(there, 1)?;
            want("read", raw::read(&fd, &mut [0]), Ok(1))?;
            raw::refused("write", raw::write(&fd, &[1]), libc::EBADF)?;
            let (fd, there) = far.channel(raw::WRITE, 0, 0)?;
            raw::refused("read", raw::read(&fd, &mut [0]), libc::EBADF)?;
            want("write", raw::write(&fd, &[1]), Ok(1))?;
            far.read(there, 1)?;
        }
    }
    Ok(Cell::Holds)
}

/// Signals end the waiting or do not, as their handler wants; the attempt and its time go on.
fn interrupted(ground: &Ground, fd: &OwnedFd, good: &Connect) -> Result<()> {
    let silent = in_vain(ground, 1200);
    // The kernel starts the call again each time: never with a fresh limit.
    let ended = raw::under_signals(true, Duration::from_millis(200), || {
        connect_with(fd, &silent)
    })?;
    raw::refused("with SA_RESTART", ended, libc::ETIMEDOUT)?;
    let long = in_vain(ground, 60_000);
    let ended = raw::under_signals(false, SOON, || connect_with(fd, &long))?;
    raw::refused("without", ended, libc::EINTR)?;
    raw::want_state(fd, uapi::STATE_CONNECTING)?;
    raw::refused("to another", connect_with(fd, good), libc::EALREADY)?;
    raw::set_nonblocking(fd, true)?;
    raw::refused("O_NONBLOCK", connect_with(fd, &long), libc::EALREADY)?;
    // What is left of a short one, then the end; what is asked for now does not count.
    let fd = raw::open(raw::BOTH)?;
    let ended = raw::under_signals(false, SOON, || connect_with(&fd, &silent))?;
    raw::refused("without", ended, libc::EINTR)?;
    raw::refused("what is left", connect_with(&fd, &long), libc::ETIMEDOUT)?;
    want("told once", connect_with(&fd, good), Ok(0))
}

/// O_NONBLOCK: what becomes of it is told by poll, and an old attempt's time is no other's.
fn nonblocking(ground: &Ground, fd: &OwnedFd, good: &Connect) -> Result<()> {
    let far: &Far = &ground.far;
    raw::set_nonblocking(fd, true)?;
    let refused = Connect {
        timeout_ms: 100,
        ..far.request(good.peer.port ^ 1, 0, 0)
    };
    raw::refused("refused", connect_with(fd, &refused), libc::EINPROGRESS)?;
    raw::want_event(fd, libc::POLLOUT)?;
    let long = in_vain(ground, 60_000);
    raw::refused("silent", connect_with(fd, &long), libc::EINPROGRESS)?;
    thread::sleep(Duration::from_millis(500));
    raw::want_state(fd, uapi::STATE_CONNECTING)?;
    raw::refused("meanwhile", connect_with(fd, &long), libc::EALREADY)?;
    let fd = raw::open(raw::BOTH)?;
    raw::set_nonblocking(&fd, true)?;
    raw::refused("good", connect_with(&fd, good), libc::EINPROGRESS)?;
    let events = raw::want_event(&fd, libc::POLLOUT)?;
    ensure!(events & libc::POLLHUP == 0, "a new channel hangs up");
    let mut error = -1;
    want(
        "GET_ERROR",
        raw::ioctl(&fd, raw::GET_ERROR, &mut error),
        Ok(0),
    )?;
    ensure!(error == 0, "error {error}");
    raw::refused("once more", connect_with(&fd, good), libc::EISCONN)
}

fn group(name: &str) -> Group {
    let mut group = Group {
        ring: 4 << 12,
        ..Group::default()
    };
    for (to, from) in group.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    group
}

/// A group's endpoint, which publishes or subscribes.
fn join_with(fd: &OwnedFd, publish: bool, group: &Group) -> Answer {
    let code = if publish {
        raw::PUBLISH
    } else {
        raw::SUBSCRIBE
    };
    raw::ioctl(fd, code, &mut { *group })
}

/// The other end of a group: joined, and heard of by dom0.
fn other(publish: bool, group: &Group) -> Result<OwnedFd> {
    let fd = raw::open(raw::BOTH)?;
    want("the other end", join_with(&fd, !publish, group), Ok(0))?;
    Ok(fd)
}

/// A record crosses from the one to the other.
fn crosses(publish: bool, ours: &OwnedFd, theirs: &OwnedFd) -> Result<()> {
    let (from, to) = if publish {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    want("publish", raw::write(from, &[1; 10]), Ok(10))?;
    want("it came", raw::read(to, &mut [0; 16]), Ok(10))
}

pub fn join(publish: bool, against: Against) -> Result<Cell> {
    let name = format!("table-{}", std::process::id());
    let group = group(&name);
    let theirs = other(publish, &group)?;
    let fd = raw::open(raw::BOTH)?;
    match against {
        Against::Thread => {
            let both = raw::twice(|| join_with(&fd, publish, &group))?;
            // The second waits for the same answer, or comes when it is there.
            let fine = both.contains(&Ok(0))
                && both.iter().all(|a| matches!(a, Ok(0) | Err(libc::EISCONN)));
            ensure!(fine, "two threads: {both:?}");
            crosses(publish, &fd, &theirs)?;
        }
        Against::Signal => {
            // Dom0 answers at once: signals only must do no harm.
            let pause = Duration::from_millis(1);
            for round in 0..10 {
                let group = self::group(&format!("{name}-{round}"));
                let (fd, theirs) = (raw::open(raw::BOTH)?, other(publish, &group)?);
                let joined = || join_with(&fd, publish, &group);
                want("joined", raw::under_signals(true, pause, joined)?, Ok(0))?;
                crosses(publish, &fd, &theirs)?;
            }
        }
        Against::Fork => {
            raw::in_child(|| want("the child", join_with(&fd, publish, &group), Ok(0)))?;
            crosses(publish, &fd, &theirs)?;
        }
        Against::Closed => {
            want("joined", join_with(&fd, publish, &group), Ok(0))?;
            crosses(publish, &fd, &theirs)?;
            drop(theirs);
            if publish {
                // Nobody is left who could hear it, which is fine.
                want("published", raw::write(&fd, &[1; 10]), Ok(10))?;
            } else {
                want("the end", raw::read(&fd, &mut [0; 16]), Ok(0))?;
            }
        }
        Against::Nonblock => {
            raw::set_nonblocking(&fd, true)?;
            let begun = join_with(&fd, publish, &group);
            raw::refused("begun", begun, libc::EINPROGRESS)?;
            raw::want_event(&fd, libc::POLLOUT)?;
            raw::set_nonblocking(&fd, false)?;
            crosses(publish, &fd, &theirs)?;
        }
        Against::HalfMapped => {
            let half = Half::new()?;
            let at = half.straddle(&group);
            let code = if publish {
                raw::PUBLISH
            } else {
                raw::SUBSCRIBE
            };
            raw::refused("half", raw::ioctl_at(&fd, code, at), libc::EFAULT)?;
            raw::want_state(&fd, uapi::STATE_IDLE)?;
        }
        Against::Mode => {
            want("joined", join_with(&fd, publish, &group), Ok(0))?;
            // A group has one direction, whatever the descriptor may do.
            let wrong = || match publish {
                true => raw::read(&fd, &mut [0; 16]),
                false => raw::write(&fd, &[1; 10]),
            };
            raw::refused("the wrong way", wrong(), libc::EBADF)?;
            raw::set_nonblocking(&fd, true)?;
            raw::refused("the wrong way", wrong(), libc::EBADF)?;
            raw::set_nonblocking(&fd, false)?;
            crosses(publish, &fd, &theirs)?;
        }
    }
    Ok(Cell::Holds)
}

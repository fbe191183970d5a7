// SPDX-License-Identifier: GPL-2.0
//! Calls that never wait.

use std::os::fd::OwnedFd;

use anyhow::{ensure, Result};
use idts_core::uapi::{self, Addr, Info, Listen, Version};

use super::raw::{self, want, Answer, Half};
use super::{Against, Call, Cell, Ground};

/// What FIONREAD is to find.
const UNREAD: u32 = 100;

/// An endpoint that suits the call, and the far end's handle where it is connected.
fn subject(ground: &Ground, call: Call, mode: i32) -> Result<(OwnedFd, u32)> {
    match call {
        Call::Version | Call::Bind => Ok((raw::open(mode)?, 0)),
        Call::Listen => {
            let fd = raw::open(mode)?;
            bind(&fd)?;
            Ok((fd, 0))
        }
        _ => {
            let (fd, there) = ground.far.channel(mode, 0, 4 << 12)?;
            ground.far.write(there, UNREAD)?;
            raw::until("the bytes", || Ok(raw::info(&fd)?.rx_avail == UNREAD))?;
            Ok((fd, there))
        }
    }
}

fn bind(fd: &OwnedFd) -> Result<()> {
    let mut any = Addr {
        domid: uapi::DOMID_ANY,
        ..Addr::default()
    };
    want("BIND", raw::ioctl(fd, raw::BIND, &mut any), Ok(0))
}

/// Makes the call; what it told is looked at too.
fn make(fd: &OwnedFd, call: Call) -> Answer {
    match call {
        Call::Version => {
            let mut version = Version::default();
            raw::ioctl(fd, raw::VERSION, &mut version).map(|_| version.uapi.into())
        }
        Call::Bind => {
            let mut any = Addr {
                domid: uapi::DOMID_ANY,
                ..Addr::default()
            };
            raw::ioctl(fd, raw::BIND, &mut any)
        }
        Call::Listen => raw::ioctl(fd, raw::LISTEN, &mut Listen::default()),
        Call::Shutdown => raw::shutdown(fd, uapi::SHUT_WR),
        Call::GetInfo => {
            let mut info = Info::default();
            raw::ioctl(fd, raw::GET_INFO, &mut info).map(|_| info.rx_avail.into())
        }
        Call::GetError => {
            let mut error = -1;
            raw::ioctl(fd, raw::GET_ERROR, &mut error).map(|_| error.into())
        }
        _ => {
            let mut there = -1;
            raw::ioctl(fd, raw::FIONREAD, &mut there).map(|_| there.into())
        }
    }
}

/// What it gives where nothing is wrong.
fn right(call: Call) -> Answer {
    Ok(match call {
        Call::Version => uapi::UAPI_VERSION.into(),
        Call::GetInfo | Call::Fionread => UNREAD.into(),
        _ => 0,
    })
}

/// What a second call on the same descriptor gives.
fn second(call: Call) -> Answer {
    match call {
        Call::Bind => Err(libc::EINVAL),
        _ => right(call),
    }
}

pub fn cell(ground: &Ground, call: Call, against: Against) -> Result<Cell> {
    let connected = !matches!(call, Call::Version | Call::Bind | Call::Listen);
    match against {
        Against::Thread => {
            let (fd, _there) = subject(ground, call, raw::BOTH)?;
            let both = raw::twice(|| make(&fd, call))?;
            raw::want_all("two threads", &both, &[right(call), second(call)])?;
            let many = raw::twice(|| (0..200).all(|_| make(&fd, call) == second(call)))?;
            ensure!(many == [true, true], "one of many calls was another");
        }
        Against::Signal => return Ok(Cell::Empty("it never waits")),
        Against::Fork => {
            let (fd, _there) = subject(ground, call, raw::BOTH)?;
            raw::in_child(|| want("the child", make(&fd, call), right(call)))?;
            want("the parent", make(&fd, call), second(call))?;
            match call {
                Call::Bind => raw::want_state(&fd, uapi::STATE_BOUND)?,
                Call::Listen => raw::want_state(&fd, uapi::STATE_LISTENING)?,
                // The child's end of the descriptor is no end of the channel.
                _ if connected => raw::want_state(&fd, uapi::STATE_CONNECTED)?,
                _ => {}
            }
        }
        Against::Closed if !connected => return Ok(Cell::Empty("there is no peer yet")),
        Against::Closed => {
            let (fd, there) = subject(ground, call, raw::BOTH)?;
            ground.far.close(there)?;
            raw::want_event(&fd, libc::POLLRDHUP)?;
            want("a peer that closed", make(&fd, call), right(call))?;
            // What it had written is still there.
            want("what is left", make(&fd, Call::Fionread), Ok(UNREAD.into()))?;
        }
        Against::Nonblock => {
            let (fd, _there) = subject(ground, call, raw::BOTH)?;
            raw::set_nonblocking(&fd, true)?;
            want("O_NONBLOCK", make(&fd, call), right(call))?;
        }
        Against::HalfMapped => {
            let (fd, _there) = subject(ground, call, raw::BOTH)?;
            let half = Half::new()?;
            let (code, at) = match call {
                Call::Version => (raw::VERSION, half.straddle(&Version::default())),
                Call::Bind => (raw::BIND, half.straddle(&Addr::default())),
                Call::Listen => (raw::LISTEN, half.straddle(&Listen::default())),
                Call::GetInfo => (raw::GET_INFO, half.straddle(&Info::default())),
                Call::GetError => (raw::GET_ERROR, half.straddle(&0)),
                Call::Fionread => (raw::FIONREAD, half.straddle(&0)),
                _ => return Ok(Cell::Empty("its argument is a number")),
            };
            raw::refused(
                "half a structure",
                raw::ioctl_at(&fd, code, at),
                libc::EFAULT,
            )?;
            want("a whole one", make(&fd, call), right(call))?;
        }
        Against::Mode => {
            for mode in [raw::READ, raw::WRITE] {
                let (fd, _there) = subject(ground, call, mode)?;
                want("one mode alone", make(&fd, call), right(call))?;
            }
        }
    }
    Ok(Cell::Holds)
}

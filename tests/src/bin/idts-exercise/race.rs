// SPDX-License-Identifier: GPL-2.0
//! Races that a module for the tests loses each time: it stands still at a place that has a name.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use idts::{Bind, Channel};
use idts_core::uapi::{nr, Addr, Connect, Info, MAGIC, STATE_CONNECTING};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Getter, Opcode, Setter};
use serde_json::{json, Value};

use crate::{cli, probe};

const IOC_GET_INFO: Opcode = opcode::read::<Info>(MAGIC, nr::GET_INFO);
const IOC_CONNECT: Opcode = opcode::write::<Connect>(MAGIC, nr::CONNECT);
/// Long rings: what is freed too early, or never, is much.
const RING: u32 = 1 << 20;
/// How long a connect waits: not as long as the module stands still.
const LIMIT_MS: u32 = 100;

fn connect(fd: impl AsFd, port: u32, timeout_ms: u32) -> Result<(), Errno> {
    let request = Connect {
        peer: Addr {
            domid: 0,
            reserved: 0,
            port,
        },
        tx_ring: RING,
        rx_ring: RING,
        timeout_ms,
        ..Connect::default()
    };
    // SAFETY: the opcode is of a call that reads a `Connect`.
    let call = unsafe { Setter::<IOC_CONNECT, _>::new(request) };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }
}

fn state(fd: impl AsFd) -> Result<u32, Errno> {
    // SAFETY: the opcode is of a call that writes an `Info`; any bytes are one.
    let call = unsafe { Getter::<IOC_GET_INFO, Info>::new() };
    // SAFETY: as above.
    unsafe { ioctl(fd, call) }.map(|info| info.state)
}

/// A connect of a domain with itself, which stands still between its channel and its answer, is
/// given up by another thread: the channel ends at both ends, and nothing is left of it.
pub fn home(args: &cli::Race) -> Result<Value> {
    let listener = Bind::new(args.port).listen()?;
    let mut results = Vec::new();
    for _ in 0..args.rounds {
        let fd: OwnedFd = rustix::fs::open("/dev/idts", OFlags::RDWR, Mode::empty())?;
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| connect(&fd, args.port, LIMIT_MS));
            // It is under way, and stands still for much longer.
            while !first.is_finished() && state(&fd) != Ok(STATE_CONNECTING) {
                thread::sleep(Duration::from_millis(1));
            }
            // It waits with what is left, and then it is over for both.
            let second = connect(&fd, args.port, LIMIT_MS);
            (first.join(), second)
        });
        let first = first.ok().context("a thread died")?;
        ensure!(second == Err(Errno::TIMEDOUT), "the second: {second:?}");
        ensure!(
            first.is_err(),
            "the first, which had been given up, connected"
        );
        let (mut child, _) = listener.accept().context("the other end")?;
        // What the handler would still find, if it was left there.
        drop(fd);
        results.push(end_of(&mut child)?);
        child.shutdown(std::net::Shutdown::Both).ok();
    }
    Ok(json!({ "ends": results }))
}

/// A channel takes the number of one that was just refused, while who refused it is not done with
/// that: it hears of what comes all the same.
pub fn number(args: &cli::RaceNumber) -> Result<Value> {
    let delay = Duration::from_millis(args.delay_ms.into());
    for round in 0..args.rounds {
        let refused = idts::Connect::to(args.nobody).open();
        ensure!(refused.is_err(), "somebody listens at {}", args.nobody);
        let mut echo = probe::patient(args.echo, 0)?;
        thread::sleep(delay * 2);
        echo.write_all(b"there?")?;
        let revents = probe::wait(&echo, PollFlags::IN)?;
        ensure!(
            !revents.is_empty(),
            "round {round}: no answer, the other end is deaf"
        );
        echo.read_exact(&mut [0; 6])?;
    }
    Ok(json!({ "rounds": args.rounds }))
}

/// How a channel ends whose other end never was.
fn end_of(child: &mut Channel) -> Result<Value> {
    let revents = probe::wait(child, PollFlags::IN | PollFlags::RDHUP)?;
    if revents.is_empty() {
        bail!("the channel lives on without its other end");
    }
    Ok(probe::result(&child.read(&mut [0; 16])))
}

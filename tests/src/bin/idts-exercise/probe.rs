// SPDX-License-Identifier: GPL-2.0
//! Single calls and their errno; and what the other verbs need for telling errnos and polling.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use idts::{Address, Bind, Channel};
use rustix::event::{poll as poll_fds, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::thread::{set_capabilities, CapabilitySet, CapabilitySets};
use serde_json::{json, Value};

use crate::{cli, hold};

/// Whatever takes longer hangs.
pub const HUNG: Duration = Duration::from_secs(600);

/// Names of the errnos that may come.
const NAMES: [(Errno, &str); 24] = [
    (Errno::ACCESS, "EACCES"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::ALREADY, "EALREADY"),
    (Errno::BADF, "EBADF"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::FAULT, "EFAULT"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::INPROGRESS, "EINPROGRESS"),
    (Errno::INTR, "EINTR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::ISCONN, "EISCONN"),
    (Errno::MFILE, "EMFILE"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOENT, "ENOENT"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::NOTCONN, "ENOTCONN"),
    (Errno::PERM, "EPERM"),
    (Errno::PIPE, "EPIPE"),
    (Errno::PROTO, "EPROTO"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
];

/// An errno's name; a number where there is none here.
pub fn name(errno: Option<i32>) -> Value {
    let Some(number) = errno else {
        return Value::Null;
    };
    let known = NAMES.iter().find(|(e, _)| e.raw_os_error() == number);
    known.map_or(json!(number), |(_, name)| json!(name))
}

/// An io result as JSON: the count, or the errno's name.
pub fn result(result: &io::Result<usize>) -> Value {
    match result {
        Ok(count) => json!(count),
        Err(error) => name(error.raw_os_error()),
    }
}

/// The poll events of a descriptor at this moment.
pub fn events(fd: &impl AsFd) -> Result<Value> {
    let all = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
    Ok(flags(look(fd, all)?))
}

/// Whether one of these events holds at this moment.
pub fn flag(fd: &impl AsFd, wanted: PollFlags) -> Result<bool> {
    Ok(look(fd, wanted)?.intersects(wanted))
}

fn look(fd: &impl AsFd, wanted: PollFlags) -> Result<PollFlags> {
    let mut fds = [PollFd::new(fd, wanted)];
    poll_fds(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents())
}

/// Names of poll events.
pub fn flags(flags: PollFlags) -> Value {
    let names = [
        (PollFlags::IN, "IN"),
        (PollFlags::OUT, "OUT"),
        (PollFlags::RDHUP, "RDHUP"),
        (PollFlags::HUP, "HUP"),
        (PollFlags::ERR, "ERR"),
    ];
    let set = names.iter().filter(|(flag, _)| flags.contains(*flag));
    set.map(|(_, name)| json!(name)).collect()
}

/// Waits for any of `wanted`, or for an error or a hang-up, which nobody needs to ask for.
pub fn wait(fd: &impl AsFd, wanted: PollFlags) -> Result<PollFlags> {
    let mut fds = [PollFd::new(fd, wanted)];
    let limit = Timespec::try_from(HUNG)?;
    let count = poll_fds(&mut fds, Some(&limit)).context("poll")?;
    ensure!(count > 0, "poll: nothing happened: a wake-up is lost");
    Ok(fds[0].revents())
}

/// Connects, trying again while that may still help.
pub fn patient(to: Address, ring: u32) -> Result<Channel> {
    let start = Instant::now();
    loop {
        let connect = idts::Connect::to(to).tx_ring(ring).rx_ring(ring);
        match connect.open() {
            Err(error) if error.is_transient() && start.elapsed() < HUNG => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return Ok(result?),
        }
    }
}

/// `connect`: the errno, of the call or (without blocking) of what became of it.
pub fn connect(args: &cli::Connect) -> Result<Value> {
    let mut connect = idts::Connect::to(args.to)
        .tx_ring(args.ring)
        .rx_ring(args.ring)
        .nonblocking(args.nonblock);
    if args.timeout_ms > 0 {
        connect = connect.timeout(Duration::from_millis(args.timeout_ms));
    }
    if let Some(count) = args.hold {
        return hold(&connect, count);
    }
    let channel = match connect.open() {
        Ok(channel) => channel,
        Err(error) => return Ok(json!({ "error": name(error.raw_os_error()) })),
    };
    if !args.nonblock {
        return Ok(json!({ "error": Value::Null }));
    }
    eprintln!("connecting");
    let revents = wait(&channel, PollFlags::OUT)?;
    let error = channel.take_error()?.and_then(|error| error.raw_os_error());
    let again = channel.take_error()?.and_then(|error| error.raw_os_error());
    Ok(json!({ "error": name(error), "again": name(again), "poll": flags(revents) }))
}

/// Opens channels until one fails, and keeps them.
fn hold(connect: &idts::Connect, count: usize) -> Result<Value> {
    let mut channels = Vec::new();
    let mut error = Value::Null;
    while channels.len() < count && error.is_null() {
        match connect.open() {
            Ok(channel) => channels.push(channel),
            Err(failed) => error = name(failed.raw_os_error()),
        }
    }
    eprintln!("holding {}", channels.len());
    wait_for_line()?;
    Ok(json!({ "channels": channels.len(), "error": error }))
}

/// `listen`: the errno.
pub fn listen(args: &cli::Listen) -> Result<Value> {
    if args.unprivileged {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets).context("dropping all capabilities")?;
    }
    if let Some(user) = args.user {
        hold::become_user(user)?;
    }
    if args.first {
        return hold::listen_first(args);
    }
    let bind = Bind::new(args.port).backlog(args.backlog);
    match bind.max_ring(args.max_ring).listen() {
        Err(error) => Ok(json!({ "error": name(error.raw_os_error()) })),
        Ok(_) if !args.hold => Ok(json!({ "error": Value::Null })),
        Ok(listener) => {
            eprintln!("listening on {}", args.port);
            wait_for_line()?;
            let info = listener.info()?;
            Ok(json!({ "error": Value::Null, "queued": info.queued, "refused": info.refused }))
        }
    }
}

/// Listens and says so, takes one channel.
pub fn accept_one(port: u32) -> Result<Channel> {
    let listener = Bind::new(port).listen()?;
    eprintln!("listening on {port}");
    let (channel, _) = listener.accept()?;
    Ok(channel)
}

/// Waits for a line on standard input.
pub fn wait_for_line() -> Result<()> {
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        bail!("standard input ended");
    }
    Ok(())
}

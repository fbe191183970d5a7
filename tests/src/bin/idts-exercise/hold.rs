// SPDX-License-Identifier: GPL-2.0
//! As much of something as there may be, held by some user in some cgroup.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use idts::{Connect, Subscribe, DEVICE};
use idts_core::uapi::{nr, DOMID_ANY, MAGIC};
use rustix::event::PollFlags;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit, Uid};
use rustix::thread::set_thread_res_uid;
use serde_json::{json, Value};

use crate::{cli, probe};

/// Descriptors that a holder may have.
const FILES: u64 = 4096;

/// This process is that user's from now on, without capabilities.
pub fn become_user(user: u32) -> Result<()> {
    let uid = Uid::from_raw(user);
    set_thread_res_uid(uid, uid, uid).context("becoming another user")
}

fn endpoint() -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(DEVICE);
    Ok(file?)
}

fn errno(error: &anyhow::Error) -> Value {
    let ours = error.downcast_ref::<idts::Error>();
    let io = error.downcast_ref::<std::io::Error>();
    let number = ours
        .and_then(idts::Error::raw_os_error)
        .or_else(|| io.and_then(std::io::Error::raw_os_error));
    probe::name(number)
}

/// One more of what is wanted; whatever keeps it.
fn one(args: &cli::Hold) -> Result<Box<dyn Any>> {
    if let Some(group) = &args.group {
        let subscribe = Subscribe::to(group.as_str()).ring(args.ring);
        return Ok(Box::new(subscribe.open()?));
    }
    let Some(to) = args.to else {
        return Ok(Box::new(endpoint()?));
    };
    let connect = Connect::to(to).tx_ring(args.ring).rx_ring(args.ring);
    let channel = connect.nonblocking(args.nonblock).open()?;
    if args.nonblock && probe::flag(&channel, PollFlags::OUT)? {
        if let Some(error) = channel.take_error()? {
            return Err(error.into());
        }
    }
    Ok(Box::new(channel))
}

/// Holds as many as there may be.
pub fn hold(args: &cli::Hold) -> Result<Value> {
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    if getrlimit(Resource::Nofile)
        .maximum
        .is_none_or(|n| n < FILES)
        || args.count > 1000
    {
        setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    }
    if let Some(cgroup) = &args.cgroup {
        let procs = format!("{cgroup}/cgroup.procs");
        fs::write(&procs, std::process::id().to_string()).context(procs)?;
    }
    if let Some(user) = args.user {
        become_user(user)?;
    }
    let mut held = Vec::new();
    let mut error = Value::Null;
    while held.len() < args.count && error.is_null() {
        match one(args) {
            Ok(one) => held.push(one),
            Err(failed) => error = errno(&failed),
        }
    }
    eprintln!("holding {}", held.len());
    probe::wait_for_line()?;
    Ok(json!({ "held": held.len(), "error": error }))
}

/// Listens as a program does that was built against the first header: both structures have two
/// words.
pub fn listen_first(args: &cli::Listen) -> Result<Value> {
    let file = endpoint()?;
    let any_domain = u32::from(DOMID_ANY);
    let bound = call(&file, nr::BIND, [any_domain, args.port]);
    bound.context("bind")?;
    call(&file, nr::LISTEN, [args.backlog, 0]).context("listen")?;
    eprintln!("listening on {}", args.port);
    probe::wait_for_line()?;
    Ok(json!({ "error": Value::Null }))
}

/// An ioctl that reads two words.
fn call(file: &File, number: u8, mut words: [u32; 2]) -> std::io::Result<()> {
    let size = size_of_val(&words) as u64;
    let code = 1 << 30 | size << 16 | u64::from(MAGIC) << 8 | u64::from(number);
    // SAFETY: the call reads as many bytes as its number says.
    match unsafe { libc::ioctl(file.as_raw_fd(), code as _, &raw mut words) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

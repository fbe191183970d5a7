// SPDX-License-Identifier: GPL-2.0
//! Each system call once, in a dialogue of two ends that both note what the calls gave: vectors,
//! counts of bytes and of room, addresses, signals, half-close, a descriptor too few.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure, Context, Result};
use idts::{Bind, Channel};
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use serde_json::{json, Value};

use crate::{cli, probe};

const RING: u32 = 16384;
/// What the server sends before the client reads any of it.
const FIRST: usize = 1000;
const SECOND: usize = 24;
/// Between two signals.
pub const OFTEN: Duration = Duration::from_millis(20);

pub fn client(args: &cli::Calls) -> Result<Value> {
    let mut channel = probe::patient(args.to, RING)?;
    let vector = [&b"ab"[..], b"", b"cdefg"].map(IoSlice::new);
    let written = channel.write_vectored(&vector)?;
    wait_for(&channel, FIRST + SECOND)?;
    let there = ioctl_fionread(&channel)?;
    channel.read_exact(&mut [0; FIRST])?;
    let left = ioctl_fionread(&channel)?;
    channel.read_exact(&mut [0; SECOND])?;
    channel.set_nonblocking(true)?;
    let empty = probe::result(&channel.read(&mut [0; 8]));
    channel.set_nonblocking(false)?;
    let signal = interrupted(&channel)?;
    channel.shutdown(Shutdown::Write)?;
    let shut = probe::result(&channel.write(b"x"));
    let mut late = Vec::new();
    channel.read_to_end(&mut late)?;
    let info = channel.info()?;
    Ok(json!({
        "written": written, "there": there, "left": left, "empty": empty, "signal": signal,
        "shut": shut, "late": String::from_utf8_lossy(&late),
        "peer": info.peer.map(|peer| peer == args.to), "tx_bytes": info.tx_bytes,
        "rx_bytes": info.rx_bytes, "rings": [info.tx_ring, info.rx_ring],
    }))
}

pub fn serve(args: &cli::CallsServe) -> Result<Value> {
    let listener = Bind::new(args.port).listen()?;
    eprintln!("listening on {}", args.port);
    probe::wait(&listener, PollFlags::IN)?;
    let full = without_descriptors(|| listener.accept().map(drop))?;
    let (mut channel, from) = listener.accept()?;
    wait_for(&channel, 7)?;
    let free = channel.info()?.tx_free;
    channel.write_all(&[1; FIRST])?;
    let taken = free - channel.info()?.tx_free;
    let (mut a, mut b, mut c) = ([0; 3], [0; 1], [0; 10]);
    let mut vector = [&mut a[..], &mut b[..], &mut c[..]].map(IoSliceMut::new);
    let read = channel.read_vectored(&mut vector)?;
    let content = [&a[..], &b, &c].concat();
    channel.write_all(&[2; SECOND])?;
    let end = channel.read(&mut [0])?;
    let poll = probe::events(&channel)?;
    channel.write_all(b"late")?;
    let info = channel.info()?;
    Ok(json!({
        "accept": full, "free": free, "taken": taken, "read": read, "end": end, "poll": poll,
        "content": String::from_utf8_lossy(&content[..read]), "domain": from.domain,
        "tx_bytes": info.tx_bytes, "rx_bytes": info.rx_bytes,
    }))
}

/// Waits until so much can be read, reading nothing.
fn wait_for(channel: &Channel, bytes: usize) -> Result<()> {
    while (channel.info()?.rx_avail as usize) < bytes {
        probe::wait(channel, PollFlags::IN)?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Has SIGUSR1 do nothing, and restart what it ended, or not.
pub fn quiet_signal(restart: bool) -> Result<()> {
    extern "C" fn handler(_: libc::c_int) {}
    // SAFETY: All zero is an action without flags, mask and handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
    // SAFETY: The action is whole; its handler does nothing, which is allowed to a handler.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    ensure!(set == 0, "sigaction: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Signals the thread that `thread` names, `each` apart, until it says that it is done: it is 0
/// before that thread is there, and the maximum afterwards.
pub fn signal_until_done(thread: &AtomicU64, each: Duration) {
    loop {
        thread::sleep(each);
        match thread.load(Ordering::Acquire) {
            0 => {}
            u64::MAX => break,
            // SAFETY: A thread that has ended but was not joined may still be named.
            this => drop(unsafe { libc::pthread_kill(this, libc::SIGUSR1) }),
        }
    }
}

/// What a read that waits gets from a signal whose handler asks for no restart.
fn interrupted(channel: &Channel) -> Result<Value> {
    quiet_signal(false)?;
    let reading = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut channel = channel;
            // SAFETY: No requirements.
            let this = unsafe { libc::pthread_self() };
            reading.store(this, Ordering::Release);
            let result = probe::result(&channel.read(&mut [0]));
            reading.store(u64::MAX, Ordering::Release);
            result
        });
        signal_until_done(&reading, OFTEN);
        reader.join().map_err(|_| anyhow!("the reader panicked"))
    })
}

/// The errno of a call while no descriptor is free.
fn without_descriptors(call: impl Fn() -> idts::Result<()>) -> Result<Value> {
    let limit = getrlimit(Resource::Nofile);
    // The lowest number that is free is the first that is forbidden.
    let next = rustix::io::dup(std::io::stdin())?;
    let next = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    let none = Rlimit {
        current: Some(next),
        ..limit
    };
    setrlimit(Resource::Nofile, none)?;
    let result = call();
    setrlimit(Resource::Nofile, limit).context("the limit of descriptors")?;
    Ok(match result {
        Ok(()) => Value::Null,
        Err(error) => probe::name(error.raw_os_error()),
    })
}

/// Records: the longest, one that is too long, one that is read into too small a buffer.
pub fn records(args: &cli::Calls) -> Result<Value> {
    let channel = idts::Connect::to(args.to)
        .records()
        .tx_ring(4096)
        .rx_ring(RING)
        .open()?;
    let longest = channel.info()?.longest_tx_record();
    let long = vec![7; longest + 1];
    let too_long = channel.send(&long).err().and_then(|e| e.raw_os_error());
    for len in [longest, 100, 20] {
        channel.send(&long[..len])?;
    }
    ensure!(channel.recv(&mut [0])?.is_end(), "a record came");
    Ok(json!({ "longest": longest, "too_long": probe::name(too_long) }))
}

pub fn records_serve(args: &cli::CallsServe) -> Result<Value> {
    let listener = Bind::new(args.port).records().listen()?;
    eprintln!("listening on {}", args.port);
    let (channel, _) = listener.accept()?;
    let mut got = Vec::new();
    for size in [8192, 10, 64] {
        let mut buffer = vec![0; size];
        let received = channel.recv(&mut buffer)?;
        let right = buffer[..received.len].iter().all(|byte| *byte == 7);
        ensure!(right, "a record of other bytes");
        got.push(json!([received.len, received.truncated]));
    }
    let truncated = channel.info()?.truncated;
    Ok(json!({ "got": got, "truncated": truncated }))
}

/// Publishes records of these lengths once a line came.
pub fn publish(args: &cli::GroupPublish) -> Result<Value> {
    let publisher = idts::Publish::to(args.group.as_str()).ring(65536).open()?;
    eprintln!("publishing");
    probe::wait_for_line()?;
    for size in &args.sizes {
        publisher.send(&vec![7; *size])?;
    }
    Ok(json!({ "records": args.sizes.len() }))
}

/// Takes all records of a group.
pub fn subscribe(args: &cli::GroupSubscribe) -> Result<Value> {
    let subscriber = idts::Subscribe::to(args.group.as_str())
        .ring(args.ring)
        .open()?;
    eprintln!("subscribed");
    let mut sizes = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        let received = subscriber.recv(&mut buffer)?;
        if received.is_end() {
            return Ok(json!({ "sizes": sizes, "lag": subscriber.lag()? }));
        }
        sizes.push(received.len);
    }
}

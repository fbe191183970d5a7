// SPDX-License-Identifier: GPL-2.0
//! Honest programs at the other end of the hostile side's channels: each reads and writes for as
//! long as it may, and notes the error that ended it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use idts::{Address, Bind, Channel, Connect, Publish};
use serde_json::{json, Value};

use crate::cli;
use crate::rule::GROUP;

/// The size of every ring: small, so that a writer soon waits.
const RING: u32 = 4096;
/// Before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of all channels.
#[derive(Default)]
struct Tally {
    channels: AtomicU64,
    ends: Mutex<BTreeMap<String, u64>>,
    over: AtomicBool,
}

impl Tally {
    fn note(&self, end: &str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(end.into()).or_default() += 1;
    }
}

pub fn run(args: &cli::Victim) -> Result<Value> {
    let tally = Arc::new(Tally::default());
    if args.listen.is_some() {
        thread::spawn(publish);
    }
    for records in [false, true] {
        let tally = Arc::clone(&tally);
        if let Some(port) = args.listen {
            let mut bind = Bind::new(port + u32::from(records)).backlog(64);
            if records {
                bind = bind.records();
            }
            let listener = bind.listen()?;
            thread::spawn(move || loop {
                if let Ok((channel, _)) = listener.accept() {
                    let tally = Arc::clone(&tally);
                    thread::spawn(move || use_up(channel, &tally));
                }
            });
        } else if let Some(to) = args.connect {
            let to = Address::new(to.domain, to.port + u32::from(records));
            thread::spawn(move || call(to, records, &tally));
        }
    }
    eprintln!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    tally.over.store(true, Ordering::Relaxed);
    let ends = tally.ends.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(json!({ "channels": tally.channels.load(Ordering::Relaxed), "ends": *ends }))
}

/// Publishes records to who may hold it up.
fn publish() {
    let group = String::from_utf8_lossy(GROUP).into_owned();
    loop {
        let publisher = Publish::to(&*group).may_block(true).open();
        while publisher.as_ref().is_ok_and(|p| p.send(&[7; 100]).is_ok()) {
            thread::sleep(PAUSE);
        }
        thread::sleep(PAUSE);
    }
}

/// Connects for as long as the program lives.
fn call(to: Address, records: bool, tally: &Arc<Tally>) {
    while !tally.over.load(Ordering::Relaxed) {
        let mut connect = Connect::to(to).tx_ring(RING).rx_ring(RING);
        if records {
            connect = connect.records();
        }
        match connect.open() {
            Ok(channel) => use_up(channel, tally),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Reads and writes until both end; the first error is the channel's end.
fn use_up(channel: Channel, tally: &Tally) {
    tally.channels.fetch_add(1, Ordering::Relaxed);
    let ends = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let end = read(&channel);
            let _ = channel.shutdown(Shutdown::Both);
            end
        });
        let end = write(&channel);
        [reader.join().unwrap_or_default(), end]
    });
    let first = ends.iter().find(|end| **end == "EPROTO");
    tally.note(first.unwrap_or(&ends[0]));
}

fn read(channel: &Channel) -> String {
    let mut buffer = [0; 9000];
    loop {
        let result = match channel.has_records() {
            true => channel.recv(&mut buffer).map(|got| got.len),
            false => (&*channel).read(&mut buffer),
        };
        match result {
            Ok(0) => return "end".into(),
            Ok(_) => {}
            Err(error) => return name(&error),
        }
    }
}

fn write(channel: &Channel) -> String {
    let buffer = [0x5a; 500];
    loop {
        let result = match channel.has_records() {
            true => channel.send(&buffer),
            false => (&*channel).write(&buffer).map(drop),
        };
        if let Err(error) = result {
            return name(&error);
        }
    }
}

fn name(error: &std::io::Error) -> String {
    use rustix::io::Errno;
    let known = [
        (Errno::PROTO, "EPROTO"),
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::PIPE, "EPIPE"),
    ];
    let found = known
        .iter()
        .find(|(errno, _)| Some(errno.raw_os_error()) == error.raw_os_error());
    found.map_or_else(|| error.to_string(), |(_, name)| (*name).into())
}

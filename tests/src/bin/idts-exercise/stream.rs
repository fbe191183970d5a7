// SPDX-License-Identifier: GPL-2.0
//! One stream of the pattern, one way. Both ends note how it ended: the errno, the errno of one
//! more try, and what poll says then.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use anyhow::{ensure, Context, Result};
use idts::Channel;
use serde_json::{json, Value};

use crate::pattern::Pattern;
use crate::{cli, probe};

/// So many bytes are a flow; then a line is said.
const FLOWING: u64 = 1 << 20;

/// Says how far it is, a line for each power of two from [`FLOWING`] on.
struct Teller {
    next: u64,
}

impl Teller {
    fn new() -> Self {
        Self { next: FLOWING }
    }

    fn tell(&mut self, moved: u64) {
        if moved >= self.next {
            eprintln!("moved {moved}");
            self.next = moved + FLOWING;
        }
    }
}

pub fn send(args: &cli::Send) -> Result<Value> {
    let mut channel = probe::patient(args.to, 0)?;
    let mut pattern = Pattern::new(args.seed);
    let mut buffer = vec![0; args.chunk];
    let mut teller = Teller::new();
    eprintln!("connected");
    while args.bytes.is_none_or(|bytes| pattern.position() < bytes) {
        let left = args
            .bytes
            .map_or(u64::MAX, |bytes| bytes - pattern.position());
        let size = left.min(args.chunk as u64) as usize;
        pattern.fill(&mut buffer[..size]);
        match channel.write(&buffer[..size]) {
            Ok(count) => pattern.unfill(size, count),
            Err(error) => {
                pattern.unfill(size, 0);
                let error = probe::name(error.raw_os_error());
                return report(&channel, pattern.position(), error, |channel| {
                    probe::result(&channel.write(&buffer[..1]))
                });
            }
        }
        teller.tell(pattern.position());
    }
    channel.shutdown(Shutdown::Write)?;
    // The peer closes when it has read all: then nothing was lost in a ring.
    let end = channel.read(&mut buffer[..1]);
    ensure!(
        matches!(end, Ok(0)),
        "the peer's end of stream is {end:?}, not Ok(0)"
    );
    Ok(json!({ "moved": pattern.position(), "error": Value::Null }))
}

pub fn recv(args: &cli::Recv) -> Result<Value> {
    let mut channel = probe::accept_one(args.port)?;
    let mut pattern = Pattern::new(args.seed);
    let mut buffer = vec![0; args.chunk];
    let mut teller = Teller::new();
    loop {
        match channel.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => pattern.check(&buffer[..count]).context("wrong content")?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let error = probe::name(error.raw_os_error());
                return report(&channel, pattern.position(), error, |channel| {
                    probe::result(&channel.read(&mut buffer))
                });
            }
        }
        teller.tell(pattern.position());
    }
    Ok(json!({ "moved": pattern.position(), "error": Value::Null }))
}

/// A stream that broke.
fn report(
    channel: &Channel,
    moved: u64,
    error: Value,
    mut again: impl FnMut(&mut &Channel) -> Value,
) -> Result<Value> {
    let again = again(&mut &*channel);
    let poll = probe::events(channel)?;
    Ok(json!({ "moved": moved, "error": error, "again": again, "poll": poll }))
}

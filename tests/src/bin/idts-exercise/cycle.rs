// SPDX-License-Identifier: GPL-2.0
//! Channels that are opened, used for one round trip and closed, again and again, while another one
//! stays open; and what both kernels did for it, counted by ftrace.

use std::io::{Read, Write};

use anyhow::{ensure, Context, Result};
use idts::{Bind, Channel};
use serde_json::{json, Value};

use crate::trace::Trace;
use crate::{cli, probe};

pub fn connect(args: &cli::Cycle) -> Result<Value> {
    let anchor = probe::patient(args.to, args.anchor_ring.unwrap_or(args.ring))?;
    eprintln!("warm");
    probe::wait_for_line()?;
    turn(&anchor)?;
    let trace = Trace::start(args.trace)?;
    for number in 0..args.count {
        let byte = number as u8;
        let mut channel = probe::patient(args.to, args.ring)?;
        channel.write_all(&[byte])?;
        let mut back = [0];
        channel.read_exact(&mut back)?;
        ensure!(back == [!byte], "cycle {number}: another byte came back");
    }
    turn(&anchor)?;
    let calls = trace.stop()?;
    eprintln!("done");
    probe::wait_for_line()?;
    Ok(json!({ "cycles": args.count, "calls": calls }))
}

pub fn serve(args: &cli::CycleServe) -> Result<Value> {
    let listener = Bind::new(args.port).listen()?;
    eprintln!("listening on {}", args.port);
    let (anchor, _) = listener.accept()?;
    // The other side goes on when it is answered: the trace is on by then, and off again.
    let trace = answer(&anchor, || Trace::start(args.trace))?;
    for _ in 0..args.count {
        answer(&listener.accept()?.0, || Ok(()))?;
    }
    let calls = answer(&anchor, || trace.stop())?;
    // The anchor stays until the other side has looked at everything.
    let end = (&anchor).read(&mut [0])?;
    ensure!(end == 0, "the anchor has {end} bytes more");
    Ok(json!({ "cycles": args.count, "calls": calls }))
}

/// Both ends are at the same place of their work.
fn turn(mut anchor: &Channel) -> Result<()> {
    anchor.write_all(&[0])?;
    anchor.read_exact(&mut [0]).context("the anchor")
}

/// Answers a byte, after `before`.
fn answer<T>(mut channel: &Channel, before: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut byte = [0];
    channel.read_exact(&mut byte)?;
    let result = before()?;
    channel.write_all(&[!byte[0]])?;
    Ok(result)
}

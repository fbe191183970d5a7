// SPDX-License-Identifier: GPL-2.0
//! Whole transfers, both ways, of all kinds of sizes.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::lab::{Guest, Lab};
use crate::run::{expect, Run};

/// Both directions with a guest.
pub fn ways(guest: &Guest) -> [(&'static str, &'static str); 2] {
    [("dom0", guest.name), (guest.name, "dom0")]
}

/// Moves the pattern and has it compared.
pub fn move_bytes(lab: &Lab, from: &str, to: &str, bytes: u64) -> Result<()> {
    move_chunks(lab, from, to, bytes, 256 << 10, 256 << 10)
}

/// The same by writes and reads of these sizes.
pub fn move_chunks(
    lab: &Lab,
    from: &str,
    to: &str,
    bytes: u64,
    out: usize,
    into: usize,
) -> Result<()> {
    let receiver = Receiver::start(lab, to, bytes, into)?;
    let sender = receiver.sender(lab, from, lab.id(to)?, out)?;
    receiver.end(sender)
}

/// Moves the pattern all these ways at the same time.
pub fn at_once(lab: &Lab, ways: &[(&str, &str)], bytes: u64) -> Result<()> {
    let begin = |(_, to): &(&str, &str)| Receiver::start(lab, to, bytes, 256 << 10);
    let receivers = ways.iter().map(begin).collect::<Result<Vec<_>>>()?;
    let mut pairs = Vec::new();
    for (receiver, (from, to)) in receivers.into_iter().zip(ways) {
        let sender = receiver.sender(lab, from, lab.id(to)?, 256 << 10)?;
        pairs.push((receiver, sender, from, to));
    }
    for (receiver, sender, from, to) in pairs {
        let moved = receiver.end(sender);
        moved.with_context(|| format!("from {from} to {to}"))?;
    }
    Ok(())
}

/// The receiving end of a transfer.
struct Receiver {
    run: Run,
    port: u32,
    seed: String,
    bytes: u64,
}

impl Receiver {
    fn start(lab: &Lab, to: &str, bytes: u64, chunk: usize) -> Result<Receiver> {
        let (port, seed) = (lab.port(), lab.seed.wrapping_add(bytes).to_string());
        let chunk = chunk.to_string();
        let args = [
            "recv",
            &port.to_string(),
            "--seed",
            &seed,
            "--chunk",
            &chunk,
        ];
        let run = lab.exercise(to, &args)?;
        Ok(Receiver {
            run,
            port,
            seed,
            bytes,
        })
    }

    /// Waits until it listens, and starts the other end.
    fn sender(&self, lab: &Lab, from: &str, to: u32, chunk: usize) -> Result<Run> {
        self.run.wait_line("listening on")?;
        let address = format!("{to}:{}", self.port);
        let (size, chunk) = (self.bytes.to_string(), chunk.to_string());
        let args = [
            "send", &address, "--bytes", &size, "--seed", &self.seed, "--chunk", &chunk,
        ];
        lab.exercise(from, &args)
    }

    /// Both ends have moved all.
    fn end(self, sender: Run) -> Result<()> {
        for report in [sender.report()?, self.run.report()?] {
            expect(&report, "moved", self.bytes)?;
            expect(&report, "error", Value::Null)?;
        }
        Ok(())
    }
}

/// Around a page.
pub fn small(lab: &Lab, guest: &Guest) -> Result<()> {
    for (from, to) in ways(guest) {
        for bytes in [0, 1, 4095, 4096, 4097] {
            move_bytes(lab, from, to, bytes)
                .with_context(|| format!("{bytes} bytes from {from} to {to}"))?;
        }
    }
    Ok(())
}

/// 64 MiB, and both drivers count them.
pub fn large(lab: &Lab, guest: &Guest) -> Result<()> {
    let bytes = lab.times * (64 << 20);
    for (from, to) in ways(guest) {
        let count = || -> Result<(u64, u64)> {
            Ok((
                lab.counter(from, to, "tx_bytes")?,
                lab.counter(to, from, "rx_bytes")?,
            ))
        };
        let before = count()?;
        move_bytes(lab, from, to, bytes)?;
        let after = count()?;
        ensure!(
            (after.0 - before.0, after.1 - before.1) == (bytes, bytes),
            "{from} to {to}: counters went from {before:?} to {after:?}, not by {bytes}"
        );
    }
    Ok(())
}

/// Reads and writes of sizes that fit nothing.
pub fn odd_sizes(lab: &Lab, guest: &Guest) -> Result<()> {
    for (from, to) in ways(guest) {
        for (out, into) in [(1, 4096), (4096, 1), (4093, 257), (300_007, 130_999)] {
            let bytes = (out.max(into) * 8).min(1 << 20) + 13;
            move_chunks(lab, from, to, bytes as u64, out, into)
                .with_context(|| format!("writes of {out}, reads of {into}, {from} to {to}"))?;
        }
    }
    Ok(())
}

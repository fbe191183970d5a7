// SPDX-License-Identifier: GPL-2.0
//! Whole transfers, both ways, of all kinds of sizes.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::lab::{Guest, Lab};
use crate::run::expect;

/// Both directions with a guest.
pub fn ways(guest: &Guest) -> [(&'static str, &'static str); 2] {
    [("dom0", guest.name), (guest.name, "dom0")]
}

/// Moves the pattern and has it compared.
pub fn move_bytes(lab: &Lab, from: &str, to: &str, bytes: u64) -> Result<()> {
    move_chunks(lab, from, to, bytes, 256 << 10, 256 << 10)
}

fn move_chunks(lab: &Lab, from: &str, to: &str, bytes: u64, out: usize, into: usize) -> Result<()> {
    let (port, seed) = (lab.port(), lab.seed.wrapping_add(bytes).to_string());
    let (out, into) = (out.to_string(), into.to_string());
    let receiver = lab.serve(
        to,
        &["recv", &port.to_string(), "--seed", &seed, "--chunk", &into],
    )?;
    let (address, size) = (lab.address(to, port)?, bytes.to_string());
    let args = [
        "send", &address, "--bytes", &size, "--seed", &seed, "--chunk", &out,
    ];
    let sent = lab.ask(from, &args)?;
    for report in [sent, receiver.report()?] {
        expect(&report, "moved", bytes)?;
        expect(&report, "error", Value::Null)?;
    }
    Ok(())
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

// SPDX-License-Identifier: GPL-2.0
//! Many guests at once: the work for each byte when so many write to dom0, and how evenly those are
//! served that write to each other, in a circle, through dom0.

use anyhow::{ensure, Result};

use super::{is_usual, tcp, words, Run, Series};
use crate::bed::{wait_all, Bed, Timed};
use crate::figure::{jain, Better, Case, Name};
use crate::system::{address, System};

/// Bytes of a write.
const BYTES: u64 = 65536;
/// Writes of each guest; TCP needs many times the work between guests.
const WRITES: u64 = 2048;
const RELAYED: u64 = 512;
const BRIDGED: u64 = 64;

/// For one system in its usual setting, with so many guests.
pub fn with(bed: &Bed, run: &mut Run, system: &System, mode: &str, guests: usize) -> Result<()> {
    if !is_usual(system) {
        return Ok(());
    }
    tcp::fairly(bed, run, system, |run| {
        to_dom0(bed, run, system, mode, guests)
    })?;
    // A vchan between guests passes dom0 by; one guest alone has nobody to write to.
    if guests == 1 || system.name() == Name::Vchan {
        return Ok(());
    }
    tcp::fairly(bed, run, system, |run| {
        relayed(bed, run, system, mode, guests)
    })
}

fn to_dom0(bed: &Bed, run: &mut Run, system: &System, mode: &str, guests: usize) -> Result<()> {
    let ends: Vec<_> = (1..=guests).map(|n| (guest(n), "dom0".into())).collect();
    let timed = at_once(bed, system, &ends, WRITES)?;
    let kib = (guests as u64 * WRITES * BYTES / 1024) as f64;
    let value = (timed.ns as f64 / kib, "ns/KiB", Better::Lower);
    keep(
        bed,
        run,
        system,
        &[mode, &count(guests), "guest-to-dom0"],
        WRITES,
        value,
    );
    Ok(())
}

fn relayed(bed: &Bed, run: &mut Run, system: &System, mode: &str, guests: usize) -> Result<()> {
    let next = |n: usize| guest(n % guests + 1);
    let ends: Vec<_> = (1..=guests).map(|n| (guest(n), next(n))).collect();
    let writes = if system.name() == Name::Tcp {
        BRIDGED
    } else {
        RELAYED
    };
    let timed = at_once(bed, system, &ends, writes)?;
    let rates: Vec<_> = timed.each.iter().map(|ns| 1.0 / *ns as f64).collect();
    let value = (jain(&rates), "Jain", Better::Higher);
    keep(
        bed,
        run,
        system,
        &[mode, &count(guests), "guest-to-guest"],
        writes,
        value,
    );
    Ok(())
}

fn guest(number: usize) -> String {
    format!("u{number}")
}

/// As a word of a variant.
fn count(guests: usize) -> String {
    format!("guests-{guests}")
}

fn keep(
    bed: &Bed,
    run: &mut Run,
    system: &System,
    variant: &[&str],
    n: u64,
    value: super::Value<'_>,
) {
    let variant = words(&[variant, &[&system.setting()]].concat());
    let series = Series {
        system: system.name(),
        variant: &variant,
        guest: bed.kind,
    };
    run.add(Case::Scale, series, (BYTES, n), value);
}

/// A flow of so many writes from the first to the second of each pair, all begun together.
fn at_once(bed: &Bed, system: &System, ends: &[(String, String)], writes: u64) -> Result<Timed> {
    let case = format!("send:{BYTES}:{writes}");
    let services = ends
        .iter()
        .map(|(client, server)| bed.serve("serve", system, server, client))
        .collect::<Result<Vec<_>>>()?;
    let (port, callers) = (bed.fresh().to_string(), ends.len().to_string());
    let to = format!("{}:{port}", address("dom0"));
    let mut gate = bed.start("dom0", &["gate", &port, &callers, &case], to)?;
    let name = system.name().to_string();
    let loads = ends
        .iter()
        .zip(&services)
        .map(|((client, _), service)| {
            bed.spawn(client, &["gated", &gate.to, &name, &service.to, &case])
        })
        .collect::<Result<Vec<_>>>()?;
    wait_all(&loads)?;
    let timed = gate.timed()?;
    ensure!(timed.each.len() == ends.len(), "the gate has lost callers");
    Ok(timed)
}

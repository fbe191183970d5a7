// SPDX-License-Identifier: GPL-2.0
//! The memory that a tunnel and a channel hold, in the guest and in dom0: how much less is free once
//! they are there, with all that can be given back given back before each look.

use anyhow::{Context, Result};

use super::{words, Run, Series};
use crate::bed::Bed;
use crate::figure::{Better, Case, Name};
use crate::system::System;

/// Connections that are opened: many, for pages that come and go for other reasons blur the figure.
const CONNECTIONS: u64 = 1000;
/// Rings that are looked at, and how many such channels: the smallest, and that of the vchans, of which
/// no more fit into what dom0 allows a tunnel.
const CHANNELS: [(u32, u64); 2] = [(4096, CONNECTIONS), (VCHAN_RING, 120)];
const VCHAN_RING: u32 = 65536;
const VCHANS: u64 = 120;

/// Kibibytes in use in a domain.
fn used(bed: &Bed, domain: &str) -> Result<f64> {
    let text = bed.say(domain, &["used"])?;
    text.parse().with_context(|| text.clone())
}

/// A number of a tunnel, from the driver's own account in a domain.
fn counter(bed: &Bed, domain: &str, peer: u32, name: &str) -> Result<f64> {
    let script = format!("sed -n 's/^{name} //p' /sys/kernel/debug/idts/{peer}");
    let text = bed.tb.sh(domain, &script)?.stdout_text();
    text.trim()
        .parse()
        .with_context(|| format!("{domain}: {name} {text:?}"))
}

/// What an idle tunnel holds: of each guest, and of dom0 for each, over all guests.
pub fn tunnels(bed: &Bed, run: &mut Run) -> Result<()> {
    let domains: Vec<_> = bed.domains().collect();
    let look = || {
        domains
            .iter()
            .map(|domain| used(bed, domain))
            .collect::<Result<Vec<_>>>()
    };
    // New ones: what channels and members before this left behind is not theirs. And what a driver
    // keeps when it has had one is not either, so those without come last.
    bed.detach_tunnels()?;
    bed.attach_tunnels()?;
    let with = look()?;
    let mapped = counter(bed, "dom0", bed.domid("u1")?, "mapped_pages")? * 4.0;
    bed.detach_tunnels()?;
    let without = look()?;
    bed.attach_tunnels()?;
    let mut more = with
        .iter()
        .zip(&without)
        .map(|(with, without)| with - without);
    let in_dom0 = more.next().context("there is no dom0")?;
    let mut in_guests: Vec<_> = more.collect();
    in_guests.sort_by(f64::total_cmp);
    let guests = in_guests.len() as f64;
    for (variant, kib) in [
        // The median: one that booted a moment ago may still give back megabytes.
        ("tunnel guest", in_guests[in_guests.len() / 2]),
        ("tunnel dom0", in_dom0 / guests),
        ("tunnel mapped-by-dom0", mapped / guests),
    ] {
        keep(bed, run, Name::Idts, variant, (0, guests as u64), kib);
    }
    Ok(())
}

/// What an open channel without data holds at both ends.
pub fn channels(bed: &Bed, run: &mut Run, system: &System, mode: &str) -> Result<()> {
    match system {
        System::Tcp { nodelay: true } => held(bed, run, system, CONNECTIONS),
        System::Vchan { ring: VCHAN_RING } => held(bed, run, system, VCHANS),
        System::Idts { ring: super::RING } if mode == "polling" => CHANNELS
            .into_iter()
            .try_for_each(|(ring, count)| held(bed, run, &System::Idts { ring }, count)),
        _ => Ok(()),
    }
}

fn held(bed: &Bed, run: &mut Run, system: &System, count: u64) -> Result<()> {
    if matches!(system, System::Idts { .. }) {
        // Nearly all of the region is dom0's wish.
        let all = ["tunnel-mgr", "set", "u1", "limit-peer=100"];
        bed.tb.exec("dom0", &all)?.check("tunnel-mgr set")?;
    }
    let service = bed.serve("keep", system, "u1", "dom0")?;
    let name = system.name().to_string();
    let mut caller = bed.start("dom0", &["hold", &name, &service.to], String::new())?;
    // The first one brings what all share.
    caller.tell("1")?;
    let before = [used(bed, "u1")?, used(bed, "dom0")?];
    caller.tell(&count.to_string())?;
    let after = [used(bed, "u1")?, used(bed, "dom0")?];
    let setting = match system {
        System::Tcp { .. } => String::new(),
        _ => system.setting(),
    };
    for (role, end) in ["guest", "dom0"].iter().zip([0, 1]) {
        let kib = (after[end] - before[end]) / count as f64;
        let variant = words(&["channel", role, &setting]);
        keep(bed, run, system.name(), &variant, (0, count), kib);
    }
    Ok(())
}

fn keep(bed: &Bed, run: &mut Run, system: Name, variant: &str, size: (u64, u64), kib: f64) {
    let series = Series {
        system,
        variant,
        guest: bed.kind,
    };
    run.add(Case::Memory, series, size, (kib, "KiB", Better::Lower));
}

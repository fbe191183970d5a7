// SPDX-License-Identifier: GPL-2.0
//! The same again and again: channels, tunnels, domains. Xen's tables and the drivers' own counts
//! of pages are as before; memory does not grow from the second quarter of the rounds to the last,
//! for what is kept for ever is there by then.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use testbed::running::HANG;
use testbed::tables::Tables;

use crate::counts;
use crate::lab::{Guest, Lab, FIRST_PAGES};
use crate::transfer::ways;

/// Between two looks at memory that is to be given back.
const LOOK: Duration = Duration::from_secs(1);
/// Growth that is none, in KiB.
const NOISE: i64 = 1024;

/// What a domain uses, in KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    slab: i64,
    used: i64,
}

/// Runs a step so many times, with a look at the memory of `domains` after each.
fn rounds(
    lab: &Lab,
    domains: &[&str],
    count: u64,
    mut step: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut second = vec![None; domains.len()];
    let mut last = second.clone();
    for round in 1..=count {
        step(round).with_context(|| format!("round {round}"))?;
        let quarter = (4 * round).div_ceil(count);
        let place = match quarter {
            2 => &mut second,
            4 => &mut last,
            _ => continue,
        };
        for (lowest, domain) in place.iter_mut().zip(domains) {
            *lowest = Some(lower(*lowest, memory(lab, domain)?));
        }
    }
    for (domain, (second, last)) in domains.iter().zip(second.into_iter().zip(last)) {
        let (Some(second), Some(mut last)) = (second, last) else {
            continue;
        };
        // What a program or a kernel gives back a little later is no leak.
        let start = Instant::now();
        while last.slab - second.slab > NOISE || last.used - second.used > NOISE {
            ensure!(
                start.elapsed() < HANG,
                "{domain}: in KiB, {second:?} in the second quarter of {count}, {last:?} in the last"
            );
            thread::sleep(LOOK);
            last = lower(Some(last), memory(lab, domain)?);
        }
        eprintln!("{domain}: second quarter {second:?}, last {last:?}");
    }
    Ok(())
}

fn lower(so_far: Option<Memory>, now: Memory) -> Memory {
    so_far.map_or(now, |so_far| Memory {
        slab: so_far.slab.min(now.slab),
        used: so_far.used.min(now.used),
    })
}

/// Memory that is in use and is no file's: a domain's files are in memory too.
fn memory(lab: &Lab, domain: &str) -> Result<Memory> {
    let text = lab.tb.sh(domain, "sync; cat /proc/meminfo")?.stdout_text();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        let number = number.with_context(|| format!("{domain}: no {name} in meminfo"))?;
        number.parse::<i64>().context("meminfo")
    };
    Ok(Memory {
        slab: value("Slab:")?,
        used: value("MemTotal:")? - value("MemFree:")? - value("Cached:")? - value("Buffers:")?,
    })
}

/// Xen's tables, and what both drivers hold, are so.
fn come_back(lab: &Lab, guest: &Guest, tables: &Tables) -> Result<()> {
    let held = [("dom0", "mapped_pages"), (guest.name, "granted_pages")];
    lab.wait_gauge(guest.name, "region_pages", |pages| pages == FIRST_PAGES)?;
    lab.wait_gauge(guest.name, "pages_awaited", |pages| pages == 0)?;
    for ((domain, name), (_, peer)) in held.into_iter().zip(ways(guest)) {
        let pages = lab.counter(domain, peer, name)?;
        let tunnels = if domain == "dom0" { 2 } else { 1 };
        let wanted = tunnels * (FIRST_PAGES + 1);
        ensure!(pages == wanted, "{domain}: {name} {pages}, not {wanted}");
    }
    lab.tb.wait_tables(tables)
}

/// Channels opened and closed, half of them from either side.
pub fn channels(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    // In ten parts, for the looks between.
    let each = 5 * lab.times;
    rounds(lab, &["dom0", guest.name], 10, |_| {
        counts::cycles(lab, guest, each)
    })?;
    come_back(lab, guest, &before)
}

/// Tunnels attached and detached.
pub fn tunnels(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    rounds(lab, &["dom0", guest.name], 10 * lab.times, |_| {
        lab.tb.detach_tunnel(guest.name)?;
        lab.tb.attach_tunnel(guest.name)
    })?;
    come_back(lab, guest, &before)
}

/// Domains created, with a tunnel that is used, and destroyed.
pub fn domains(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    let count = if lab.times > 1 { 20 } else { 3 };
    rounds(lab, &["dom0"], count, |_| {
        lab.make_guest(guest)?;
        counts::cycles(lab, guest, 2)?;
        lab.drop_guest(guest)?;
        lab.tb.wait_tables(&before)
    })
}

// SPDX-License-Identifier: GPL-2.0
//! Real time of this host, with virtual CPUs that run in parallel, two in each domain. It depends on
//! the host and on what else it does, so of several runs the least and the most are told.

use anyhow::Result;

use super::{is_usual, words, Run, Series};
use crate::bed::Bed;
use crate::figure::{gbits, micros, Better, Case};
use crate::system::System;

/// How often each is run.
const RUNS: usize = 5;
/// What the load calls it, the word for the way, bytes, how many.
const ITEMS: [(&str, &str, u64, u64); 3] = [
    ("rtt", "", 1, 100),
    ("send", "dom0-to-guest", 65536, 256),
    ("recv", "guest-to-dom0", 65536, 256),
];

/// For one system in its usual setting.
pub fn all(bed: &Bed, run: &mut Run, system: &System, mode: &str) -> Result<()> {
    if !is_usual(system) {
        return Ok(());
    }
    for (op, way, bytes, n) in ITEMS {
        let cases = vec![format!("{op}:{bytes}:{n}"); RUNS];
        let mut times = bed.run(system, ["dom0", "u1"], 1, &cases)?;
        times.sort_unstable();
        let (unit, better) = match op {
            "rtt" => ("us", Better::Lower),
            _ => ("Gb/s", Better::Higher),
        };
        for (word, ns) in [("best", times[0]), ("worst", times[times.len() - 1])] {
            let value = match op {
                "rtt" => micros(ns, n),
                _ => gbits(bytes * n, ns),
            };
            let variant = words(&[mode, way, &system.setting(), word]);
            let series = Series {
                system: system.name(),
                variant: &variant,
                guest: bed.kind,
            };
            run.add(Case::Wall, series, (bytes, n), (value, unit, better));
        }
    }
    Ok(())
}

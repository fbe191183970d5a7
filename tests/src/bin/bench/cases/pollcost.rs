// SPDX-License-Identifier: GPL-2.0
//! What waiting costs where little happens: dom0 writes one message after each 10 ms, the guest
//! reads. Not the time that passes is counted, but what all domains run meanwhile.

use anyhow::Result;

use super::{is_usual, words, Run, Series};
use crate::bed::Bed;
use crate::figure::Case;
use crate::system::System;

const BYTES: u64 = 64;
const COUNT: u64 = 300;

/// For one system in its usual setting.
pub fn all(bed: &Bed, run: &mut Run, system: &System, mode: &str) -> Result<()> {
    if !is_usual(system) {
        return Ok(());
    }
    let cases = [format!("every:{BYTES}:{COUNT}")];
    let times = bed.run(system, ["dom0", "u1"], 1, &cases)?;
    let variant = words(&[mode, &system.setting()]);
    let series = Series {
        system: system.name(),
        variant: &variant,
        guest: bed.kind,
    };
    run.micros(Case::Pollcost, series, BYTES, COUNT, times[0]);
    Ok(())
}

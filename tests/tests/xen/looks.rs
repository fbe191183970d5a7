// SPDX-License-Identifier: GPL-2.0
//! Looking again for a while before sleeping, by the front's parameter `poll_us`; how long that may
//! be is core's to test.

use std::time::Instant;

use anyhow::{ensure, Result};
use testbed::running::HANG;

use crate::lab::{parameters_of, Guest, Lab};
use crate::transfer::move_chunks;

/// Off, every wait is a sleep and no look is counted; on, looks pay.
pub fn off_and_on(lab: &Lab, guest: &Guest) -> Result<()> {
    let result = with_looks(lab, guest, 0).and_then(|looks| {
        ensure!(looks == 0, "{looks} looks, though they are off");
        // More than is allowed is cut.
        with_looks(lab, guest, u32::MAX)
    });
    reload(lab, guest, parameters_of(guest.name))?;
    result.map(drop)
}

/// Bytes come to the guest one at a time until it slept for want of them and, if `us` is not 0,
/// until a look has paid. Gives how many have.
fn with_looks(lab: &Lab, guest: &Guest, us: u32) -> Result<u64> {
    let parameters = format!("{} poll_us={us}", parameters_of(guest.name));
    reload(lab, guest, &parameters)?;
    let start = Instant::now();
    loop {
        move_chunks(lab, "dom0", guest.name, 20_000, 1, 4096)?;
        let count = |name: &str| lab.counter(guest.name, "dom0", name);
        let (sleeps, looks) = (count("sleeps")?, count("looks")?);
        if sleeps > 0 && (us == 0 || looks > 0) {
            return Ok(looks);
        }
        let waited = start.elapsed();
        ensure!(waited < HANG, "{sleeps} sleeps, {looks} looks that paid");
    }
}

fn reload(lab: &Lab, guest: &Guest, parameters: &str) -> Result<()> {
    lab.rmmod(guest.name)?;
    lab.tb.load_module_with(guest.name, parameters)?;
    lab.tb.wait_connected(guest.name)
}

// SPDX-License-Identifier: GPL-2.0
//! What opening and closing a channel takes: a caller in dom0 connects, the service in the guest
//! accepts and says a byte, the caller closes, the service sees that and closes.

use anyhow::Result;

use super::{words, Run, Series};
use crate::bed::Bed;
use crate::figure::Case;
use crate::system::System;

/// Connections that are counted.
const COUNT: u64 = 300;

/// For one system. NODELAY says nothing about connecting.
pub fn all(bed: &Bed, run: &mut Run, system: &System, mode: &str) -> Result<()> {
    if *system == (System::Tcp { nodelay: false }) {
        return Ok(());
    }
    let service = bed.serve("greet", system, "u1", "dom0")?;
    let name = system.name().to_string();
    let args = ["setup", &name, &service.to, &COUNT.to_string()];
    let times = bed.load("dom0", &args, &[])?;
    let variant = words(&[mode, &system.setting()]);
    let series = Series {
        system: system.name(),
        variant: &variant,
        guest: bed.kind,
    };
    run.micros(Case::Setup, series, 0, COUNT, times[0]);
    Ok(())
}

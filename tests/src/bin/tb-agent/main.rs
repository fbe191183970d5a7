// SPDX-License-Identifier: GPL-2.0
//! The testbed's agent: runs commands in its domain for the driver.
//!
//! `tb-agent dom0` listens on the emulator's own network device and passes on what is meant for a
//! guest; `tb-agent guest` answers over libxenvchan. Both sleep until somebody calls: figures that
//! are counted in instructions would show anything else.

mod command;
mod dom0;
mod guest;
mod splice;
mod store;
mod vchan;

use std::process::ExitCode;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let result = match role.as_deref() {
        Some("dom0") => dom0::serve(),
        Some("guest") => guest::serve(),
        _ => Err(anyhow::anyhow!("usage: tb-agent dom0|guest")),
    };
    if let Err(error) = result {
        eprintln!("tb-agent: {error:#}");
    }
    ExitCode::FAILURE
}

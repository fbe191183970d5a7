// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr` on the real xenstored of Xen's packages, which runs on a stub of
//! Xen (`tests/host`), without an emulator. Guests are threads that speak to it over
//! rings, as guests do, so that its quotas, permissions and limits hold.
//!
//! The environment names what is tested: `IDTS_TREE` the folder with Xen's
//! packages, which scripts/test knows; `IDTS_PROGRAM`, if it is there, another
//! `tunnel-mgr` than this build's.

mod bed;
mod cases;
mod proxy;

use std::process::ExitCode;

fn main() -> ExitCode {
    idts_host::apart::main(cases::ALL)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Fuzz targets: everything that reads what a peer or xenstore wrote.
//!
//! Each target is a function of bytes that panics if the core breaks a promise.
//! Guided by coverage, with AddressSanitizer, from `idts-common/core`:
//! `cargo +nightly fuzz run NAME -- -max_total_time=60`. Without cargo-fuzz or
//! a nightly compiler `tests/fuzz.rs` calls the same functions.

pub mod control;
mod input;
pub mod ioctl;
pub mod nodes;
pub mod policy;
pub mod record;
pub mod ring;

// SPDX-License-Identifier: GPL-2.0

//! The kernel side of IDTS that both modules share.
//!
//! The floors, lowest first, each using only what is below it; `idts-common/floors.txt` is the
//! table, with the files that are still to move:
//!
//! - [`sys`], [`mem`], [`xen`]: wrappers of Linux, of memory that a peer can write, and of Xen;
//!   most of what is `unsafe`.
//! - [`link`] with [`stats`] and [`accounts`]; [`region`]: the memory that channels lie in.
//! - [`channel`].
//! - [`tunnel`] with [`opening`], [`help`], [`home`], [`payer`], [`asks`].
//! - [`hub`]; [`endpoint`]; [`dev`]; a module is [`loaded`].
//! - For the back: [`mover`] with [`relay`] and [`groups`], [`policy`]; for a guest: [`wish`].
//!
//! [`reaper`] serves several of them. The protocol itself is `idts_core`; the two
//! drivers see what is `pub` here.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

/// Prefix of `pr_*!` lines, which `module!` defines for a module's own crate.
const __LOG_PREFIX: &[u8] = b"idts\0";

mod accounts;
mod asks;
mod channel;
mod dev;
mod endpoint;
mod groups;
mod help;
mod home;
pub mod hub;
mod link;
pub mod loaded;
mod mem;
mod mover;
pub mod opening;
pub mod payer;
mod policy;
mod reaper;
mod region;
mod relay;
mod stats;
pub mod sys;
pub mod tunnel;
mod wish;
pub mod xen;

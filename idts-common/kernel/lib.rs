// SPDX-License-Identifier: GPL-2.0

//! The kernel side of IDTS that both modules share.
//!
//! Wrappers of C and of shared memory, most of what is `unsafe`: [`xenbus`],
//! [`grant`], [`evtchn`], [`shared`], [`wait`], [`work`], [`fault`], [`user`],
//! [`link`], [`chardev`]. On them: [`tunnel`] with [`opening`] and [`segments`],
//! [`channel`] with [`records`], [`endpoint`] with [`patience`] and [`help`], [`hub`],
//! [`reaper`], [`wish`], [`stats`], [`accounts`], [`payer`], [`asks`]. For the back: [`mover`]
//! with [`relay`] and [`groups`],
//! [`policy`], [`home`]. A module is [`loaded`]. The protocol itself is `idts_core`.
//!
//! Only {xenbus, grant, evtchn, shared} reach Xen and peers; the two drivers see
//! loaded, xenbus, hub, tunnel and nothing else.

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
mod chardev;
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
mod records;
mod relay;
mod segments;
mod stats;
pub mod sys;
pub mod tunnel;
mod wish;
pub mod xen;

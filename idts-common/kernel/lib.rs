// SPDX-License-Identifier: GPL-2.0

//! The kernel side of IDTS that both modules share.
//!
//! The floors, lowest first, each using only what is below it; `idts-common/floors.txt` is the
//! table:
//!
//! - [`sys`], [`mem`], [`xen`]: wrappers of Linux, of memory that a peer can write, and of Xen;
//!   most of what is `unsafe`.
//! - [`link`]: doorbells, events and their waiters; [`region`]: the memory that channels lie in.
//! - [`channel`]: one connection.
//! - [`tunnel`]: one peer.
//! - [`context`]: what a module has once.
//! - [`endpoint`]: an open file; [`dev`]: the device; [`module`]: registrations.
//!
//! The protocol itself is `idts_core`. Relays, groups, policy and scheduling are the back's
//! (`idts-back/broker`), a tunnel on demand is the front's (`idts-front/on_demand.rs`): both
//! implement [`context::router::Router`].

// A constructor is `const` where it can be, which `Default` is not.
#![allow(clippy::new_without_default)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

/// Prefix of `pr_*!` lines, which `module!` defines for a module's own crate.
const __LOG_PREFIX: &[u8] = b"idts\0";

pub mod channel;
pub mod context;
mod dev;
mod endpoint;
pub mod link;
mod mem;
pub mod module;
mod region;
pub mod sys;
pub mod tunnel;
pub mod xen;

// SPDX-License-Identifier: GPL-2.0

//! The kernel code that both modules of IDTS share.
//!
//! The floors, lowest first. Each uses only those below it; `idts-common/floors.txt` is the
//! table:
//!
//! - [`sys`], [`mem`], [`xen`]: wrappers of Linux, of memory that a peer can write, and of Xen.
//!   Most of the `unsafe` code is here.
//! - [`link`]: doorbells, events and their waiters; [`region`]: the memory that channels lie in.
//! - [`channel`]: one connection.
//! - [`tunnel`]: one peer.
//! - [`context`]: the parts that a module has once.
//! - [`endpoint`]: an open file; [`dev`]: the device; [`module`]: registrations.
//!
//! `idts_core` has the protocol itself. Relays, groups, policy and scheduling belong to the back
//! (`idts-back/broker`), tunnels on demand to the front (`idts-front/on_demand.rs`); both
//! implement [`context::router::Router`].

// Constructors are `const` where possible, which `Default` cannot be.
#![allow(clippy::new_without_default)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

/// Prefix of `pr_*!` lines; `module!` defines it only in a module's own crate.
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

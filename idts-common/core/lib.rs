// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Protocol, rings and state of IDTS, free of the kernel.
//!
//! The same files are compiled by Kbuild into both modules and by Cargo into
//! programs and tests. Nothing here allocates, sleeps, or is `unsafe`; memory
//! that a peer can write is reached through [`mem::SharedMem`] alone.
//!
//! Suggested order of reading: [`error`], [`wire`], [`mem`], [`index`],
//! [`ring`], [`doorbell`], [`spurious`], [`queues`], [`role`], [`control`], [`allocator`], [`reassembly`],
//! [`life`], [`opening`], [`group`], [`state`], [`nodes`], [`token_bucket`], [`negotiation`], [`uapi`], [`ioctl`],
//! [`busy_poll`], [`policy`], [`sched`], [`log_limit`], [`usage`], [`quota`]. The document that all of it
//! implements is `PROTOCOL.md`.

#![cfg_attr(not(idts_kernel), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

pub mod allocator;
pub mod busy_poll;
pub mod control;
pub mod doorbell;
pub mod error;
pub mod event_count;
pub mod group;
pub mod index;
pub mod ioctl;
pub mod life;
pub mod log_limit;
pub mod mem;
pub mod negotiation;
pub mod nodes;
pub mod opening;
pub mod policy;
pub mod queues;
pub mod quota;
pub mod reassembly;
pub mod record;
pub mod ring;
pub mod role;
pub mod sched;
pub mod spurious;
pub mod state;
pub mod token_bucket;
pub mod uapi;
pub mod usage;
pub mod wire;

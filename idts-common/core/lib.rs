// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Protocol, rings and state of IDTS, free of the kernel.
//!
//! The same files are compiled by Kbuild into both modules and by Cargo into
//! programs and tests. Nothing here allocates, sleeps, or is `unsafe`; memory
//! that a peer can write is reached through [`mem::SharedMem`] alone.
//!
//! Suggested order of reading: [`error`], [`wire`], [`mem`], [`index`],
//! [`ring`], [`doorbell`], [`news`], [`queues`], [`role`], [`control`], [`region`], [`sequence`],
//! [`life`], [`opening`], [`group`], [`state`], [`nodes`], [`pace`], [`terms`], [`uapi`], [`requests`],
//! [`patience`], [`policy`], [`sched`], [`log`], [`ledger`], [`book`]. The document that all of it
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

pub mod armed;
pub mod book;
pub mod control;
pub mod doorbell;
pub mod error;
pub mod group;
pub mod index;
pub mod ledger;
pub mod life;
pub mod log;
pub mod mem;
pub mod news;
pub mod nodes;
pub mod opening;
pub mod pace;
pub mod patience;
pub mod policy;
pub mod queues;
pub mod record;
pub mod region;
pub mod requests;
pub mod ring;
pub mod role;
pub mod sched;
pub mod sequence;
pub mod state;
pub mod terms;
pub mod uapi;
pub mod wire;

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Protocol, rings and decisions of IDTS, free of the kernel.
//!
//! Kbuild compiles these files into both modules, Cargo into programs and tests. Nothing here
//! allocates, sleeps, or is `unsafe`; memory that a peer can write is reached only through
//! [`mem::SharedMem`].
//!
//! Suggested order of reading, by what the modules are about:
//!
//! - the wire: [`error`], [`wire`], [`role`];
//! - shared memory: [`mem`], [`index`], [`ring`], [`record`], [`doorbell`], [`queues`],
//!   [`spurious`], [`control`];
//! - the data region and channels: [`allocator`], [`reassembly`], [`opening`], [`group`];
//! - a tunnel: [`state`], [`nodes`], [`negotiation`], [`registry`];
//! - applications: [`uapi`], [`ioctl`], [`event_count`], [`busy_poll`];
//! - policy and fairness: [`policy`], [`sched`], [`quota`], [`usage`], [`token_bucket`],
//!   [`log_limit`].
//!
//! PROTOCOL.md is the document that all of it implements.

#![cfg_attr(not(idts_kernel), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
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
pub mod registry;
pub mod ring;
pub mod role;
pub mod sched;
pub mod spurious;
pub mod state;
pub mod token_bucket;
pub mod uapi;
pub mod usage;
pub mod wire;

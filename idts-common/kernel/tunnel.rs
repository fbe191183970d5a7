// SPDX-License-Identifier: GPL-2.0

//! A tunnel: the pair of domains, on top of their [`crate::link`].
//!
//! [`setup`] brings it up and takes it down, as [`negotiate`] has it; messages
//! move in [`control`], channels open and close in [`open`]; the parts of the two sides are
//! a tunnel's [`role`]: [`granter`], [`mapper`], or [`loopback`] for both ends in one domain.
//! The parties around a tunnel are in [`host`]. Channels move their data without coming
//! here. The order of locks is in docs/locking.md.

mod channels;
mod control;
mod granter;
pub mod host;
pub(crate) mod inline;
mod loopback;
mod mapper;
pub mod negotiate;
mod open;
pub mod payer;
pub(crate) mod report;
mod role;
pub mod services;
mod setup;
mod shares;
#[allow(clippy::module_inception)]
mod tunnel;

pub use self::granter::keep_idle;
pub use self::tunnel::Tunnel;

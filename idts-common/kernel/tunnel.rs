// SPDX-License-Identifier: GPL-2.0

//! A tunnel: the control connection to one peer domain, on top of their [`crate::link`].
//!
//! [`setup`] sets it up and tears it down, as [`negotiate`] agrees with the peer. [`control`]
//! moves messages, [`open`] opens and closes channels. The two sides differ by their [`role`]:
//! [`granter`], [`mapper`], or [`loopback`] for both ends in one domain. [`host`] has the traits
//! of the parties around a tunnel. Channels move data without the tunnel. docs/locking.md has
//! the order of locks.

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

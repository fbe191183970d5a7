// SPDX-License-Identifier: GPL-2.0

//! One end of a channel: two rings in the shared memory of a link, and the error that ended it.
//!
//! All calls are single attempts. They sleep for nothing but a mutex, which is never held across
//! a sleep. An [`crate::endpoint`] waits, a [`crate::tunnel`] opens and closes channels.
//!
//! - [`stream`], [`record`]: reading and writing;
//! - [`readiness`]: the state for poll, and arming for the next event;
//! - [`close`]: shutdown of a direction, and of the channel;
//! - [`splice`]: moving data from one channel into another.

#[allow(clippy::module_inception)]
mod channel;
mod close;
pub(crate) mod readiness;
mod record;
pub mod splice;
mod stream;

pub use self::channel::{Channel, Owner, Stop};
pub(crate) use self::channel::{Memory, Setup};
pub(crate) use self::readiness::Readiness;

// SPDX-License-Identifier: GPL-2.0

//! A channel: two ring ends over the shared memory of a link, and the error that ended it.
//!
//! All calls are single tries, which never sleep but for a mutex that nobody holds while
//! sleeping. An [`crate::endpoint`] waits, a [`crate::tunnel`] opens and closes.
//!
//! - [`stream`], [`record`]: reading and writing;
//! - [`readiness`]: poll, and arming for the next event;
//! - [`close`]: ends of directions, and of the channel;
//! - [`splice`]: moving from one channel into another.

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

// SPDX-License-Identifier: GPL-2.0

//! A link: the shared memory, the doorbells and the event channels between this domain and
//! one peer, as the channels on it use them.
//!
//! A [`waiter`] is one end of a channel as the event handler knows it, with a [`watch`] of
//! its index words; the [`table`] finds it by the channel's number, and owns it. Entry 0 is
//! the control ring's. A [`queue`] is an event channel with its doorbells, [`irq`] its handler. Nothing here
//! knows tunnels, endpoints, or the content of a channel.

pub(crate) mod accounts;
pub(crate) mod grace;
pub(crate) mod irq;
#[allow(clippy::module_inception)]
mod link;
pub(crate) mod queue;
pub(crate) mod stats;
pub(crate) mod table;
pub mod throttle;
pub mod waiter;
pub(crate) mod watch;

pub use self::link::Link;
pub(crate) use self::link::{Reach, CONTROL};

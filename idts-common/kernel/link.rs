// SPDX-License-Identifier: GPL-2.0

//! The link to one peer: the control page, the doorbells and the event channels between the two
//! domains, as the channels on it use them.
//!
//! A [`waiter`] is one end of a channel as the event handler sees it, with a [`watch`] on its
//! index words. The [`table`] owns the waiters and finds one by its channel id; id 0 is the
//! control ring. A [`queue`] is an event channel with its doorbell words, [`irq`] its handler.
//! Nothing here knows tunnels, endpoints, or the content of a channel.

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

// SPDX-License-Identifier: GPL-2.0

//! Who is told of an event: the event handler's view of a tunnel's channels.
//!
//! A [`waiter`] is one end of a channel as the handler knows it, with a [`watch`] of its
//! index words; the [`table`] finds it by the channel's number, and owns it. Nothing here knows endpoints, tunnels, or
//! what a channel carries.

pub(crate) mod table;
pub(crate) mod waiter;
pub(crate) mod watch;

// SPDX-License-Identifier: GPL-2.0

//! Counters of a link.

use kernel::fmt;

use crate::sys::counter::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of a link, from its set-up on.
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Stats {
            /// Creates counters that are all zero.
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            /// Writes a line `name value` for each counter.
            pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{} {}", stringify!($name), self.$name.get())?;)*
                Ok(())
            }
        }
    };
}

counters! {
    /// Bytes written into rings by this side's applications.
    tx_bytes,
    /// Bytes read from rings by this side's applications.
    rx_bytes,
    /// Bytes relayed from this tunnel to another.
    relayed_in,
    /// Bytes relayed from another tunnel to this one.
    relayed_out,
    /// Channels opened.
    opened,
    /// Channels closed by both sides.
    closed,
    /// Openings refused, by either side.
    refused,
    /// Openings that failed because a limit left no room.
    no_space,
    /// Openings beyond the limit of unanswered requests of a requester.
    too_many_asked,
    /// Openings beyond a domain's share of the region.
    no_share,
    /// Times that an application slept on a channel.
    sleeps,
    /// Times that busy polling found something and saved a sleep.
    looks,
    /// Violations by the peer.
    violations,
    /// Segments added to the data region.
    grown,
    /// Segments removed from the data region.
    shrunk,
}

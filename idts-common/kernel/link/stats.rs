// SPDX-License-Identifier: GPL-2.0

//! Counters of a link.

use kernel::fmt;

use crate::sys::counter::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened on a link since it was set up.
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Stats {
            /// All zero.
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            /// A line `name value` for each counter.
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
    /// Bytes that came from this tunnel and went to another.
    relayed_in,
    /// Bytes that came from another tunnel and went to this one.
    relayed_out,
    /// Channels opened.
    opened,
    /// Channels closed by both sides.
    closed,
    /// Openings refused, by either side.
    refused,
    /// Openings that failed for want of room within the limits.
    no_space,
    /// Openings beyond what an asker may leave unanswered.
    too_many_asked,
    /// Openings beyond the share of the region that a domain may ask for.
    no_share,
    /// Times that an application went to sleep on a channel.
    sleeps,
    /// Times that it looked a little longer instead, and that paid.
    looks,
    /// Rules of the protocol that the peer broke.
    violations,
    /// Segments added to the data region.
    grown,
    /// Segments taken out of the data region.
    shrunk,
}

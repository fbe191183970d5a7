// SPDX-License-Identifier: GPL-2.0

//! Counters of a tunnel and their file, `/sys/kernel/debug/idts/<domid>`: a line
//! `name value` for each.

use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::sync::Arc;

use crate::mover::Mover;
use crate::sys::counter::Counter;
use crate::tunnel::{Lane, Tunnel};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened in a tunnel since it was set up.
        pub(crate) struct Stats {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Stats {
            /// All zero.
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// What the debugfs file shows.
pub(crate) struct Report(pub(crate) Arc<Tunnel>);

impl Report {
    /// Events sent, received, received for nothing, and delayed for that, by us or by
    /// Xen's event code: all, then by queue.
    fn events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |counter: fn(&Lane) -> &Counter| {
            let counts = self.0.lanes().map(|(_, lane)| counter(lane).get());
            counts.fold(0, u64::wrapping_add)
        };
        writeln!(f, "events_sent {}", all(|lane| &lane.sent))?;
        writeln!(f, "events {}", all(|lane| &lane.events))?;
        writeln!(f, "spurious {}", all(|lane| &lane.spurious))?;
        writeln!(f, "events_delayed {}", all(|lane| &lane.delayed))?;
        writeln!(f, "queues {}", self.0.terms.queues.count())?;
        for (queue, lane) in self.0.lanes() {
            let channels = self.0.inner.lock().openings.channels_of(queue);
            writeln!(f, "queue_{queue}_channels {channels}")?;
            writeln!(f, "queue_{queue}_events_sent {}", lane.sent.get())?;
            writeln!(f, "queue_{queue}_events {}", lane.events.get())?;
            writeln!(f, "queue_{queue}_spurious {}", lane.spurious.get())?;
        }
        Ok(())
    }
}

impl Writer for Report {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gauges = self.0.gauges();
        writeln!(f, "version {}", self.0.terms.version)?;
        writeln!(f, "features {}", self.0.terms.features)?;
        writeln!(f, "channels {}", gauges.channels)?;
        writeln!(f, "region_pages {}", gauges.region_pages)?;
        writeln!(f, "segments {}", gauges.segments)?;
        writeln!(f, "broken {}", gauges.broken.map_or("no", |v| v.name()))?;
        writeln!(f, "pages_awaited {}", self.0.hub.reaper.waiting())?;
        writeln!(f, "granted_pages {}", crate::xen::grant::granted())?;
        writeln!(f, "mapped_pages {}", crate::xen::grant::mapped())?;
        if let Some(stats) = self.0.flow_stats() {
            for (name, value) in stats.named() {
                writeln!(f, "flow_{name} {value}")?;
            }
        }
        self.events(f)?;
        self.0.stats.write(f)?;
        self.0.account.write(f)
    }
}

/// What the debugfs file `scheduler` shows.
pub(crate) struct SchedulerReport(pub(crate) Arc<Mover>);

impl Writer for SchedulerReport {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, rate, waiting, totals) = self
            .0
            .with(|s| (s.policy(), s.total_rate(), s.waiting(), s.totals()));
        writeln!(f, "policy {}", policy.name())?;
        writeln!(f, "rate {rate}")?;
        writeln!(f, "waiting {waiting}")?;
        for (name, value) in totals.named() {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

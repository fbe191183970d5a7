// SPDX-License-Identifier: GPL-2.0

//! The debugfs file of a tunnel, `/sys/kernel/debug/idts/<domid>`: a line `name value` for
//! each counter.

use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::sync::Arc;

use super::tunnel::Tunnel;
use crate::link::queue::Queue;
use crate::sys::counter::Counter;
use crate::xen::grant;

/// The content of the file.
pub(crate) struct Report(pub(crate) Arc<Tunnel>);

impl Report {
    /// Events sent, received, received spuriously, and delayed after spurious ones, by this
    /// module or by Xen's event code: the sums, then by queue.
    fn events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.0.link;
        let all = |counter: fn(&Queue) -> &Counter| {
            let counts = link.queues().map(|(_, queue)| counter(queue).get());
            counts.fold(0, u64::wrapping_add)
        };
        writeln!(f, "events_sent {}", all(|queue| &queue.sent))?;
        writeln!(f, "events {}", all(|queue| &queue.events))?;
        writeln!(f, "spurious {}", all(|queue| &queue.spurious))?;
        writeln!(f, "events_delayed {}", all(|queue| &queue.delayed))?;
        writeln!(f, "queues {}", self.0.terms.queues.count())?;
        for (number, queue) in link.queues() {
            let channels = self.0.inner.lock().channels.count_of(number);
            writeln!(f, "queue_{number}_channels {channels}")?;
            writeln!(f, "queue_{number}_events_sent {}", queue.sent.get())?;
            writeln!(f, "queue_{number}_events {}", queue.events.get())?;
            writeln!(f, "queue_{number}_spurious {}", queue.spurious.get())?;
        }
        Ok(())
    }

    /// The current number of channels, pages and segments, and the violation that broke the
    /// tunnel.
    fn gauges(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.inner.lock();
        let pages = inner.segments.windows().wrapping_mul(16);
        writeln!(f, "channels {}", inner.channels.count())?;
        writeln!(f, "region_pages {pages}")?;
        writeln!(f, "segments {}", inner.segments.count())?;
        writeln!(f, "broken {}", inner.broken.map_or("no", |v| v.name()))
    }
}

impl Writer for Report {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version {}", self.0.terms.version)?;
        writeln!(f, "features {}", self.0.terms.features)?;
        self.gauges(f)?;
        writeln!(f, "pages_awaited {}", self.0.services.reclaim.waiting())?;
        writeln!(f, "granted_pages {}", grant::granted())?;
        writeln!(f, "mapped_pages {}", grant::mapped())?;
        if let Some(throttle) = self.0.link.throttle() {
            throttle.report(f)?;
        }
        self.events(f)?;
        self.0.link.stats.write(f)?;
        self.0.link.account.write(f)
    }
}

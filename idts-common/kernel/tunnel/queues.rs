// SPDX-License-Identifier: GPL-2.0

//! The queues of a tunnel: an event channel each, and the doorbells heard on it.
//!
//! A handler looks at its own queue's words alone and takes no lock, so those of
//! several queues run at the same time. PROTOCOL.md section 6.4.

use idts_core::doorbell::Doorbell;
use idts_core::nodes;
use idts_core::wire::QUEUES;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{Arc, ArcBorrow};

use super::Tunnel;
use crate::evtchn::{self, Eoi, EventChannel, Handler};
use crate::link::waiter::Waiter;
use crate::shared::Live;
use crate::stats::Counter;
use crate::xenbus::Device;

/// Names in /proc/interrupts.
const NAMES: [&CStr; QUEUES as usize] = [
    c"idts-q0", c"idts-q1", c"idts-q2", c"idts-q3", c"idts-q4", c"idts-q5", c"idts-q6", c"idts-q7",
];

/// The CPU of events that never come.
const NOWHERE: u32 = u32::MAX;

/// What a tunnel knows of one of its queues.
pub(crate) struct Lane {
    /// Where events are sent to; 0 before the channel is there, which Xen knows
    /// nothing of.
    port: Atomic<u32>,
    /// The CPU that took the last event.
    cpu: Atomic<u32>,
    /// Events that may still come whose doorbells were taken already, together
    /// with another's: they are not the peer's fault.
    early: Atomic<u32>,
    /// Events sent, received, and received for nothing.
    pub(crate) sent: Counter,
    pub(crate) events: Counter,
    pub(crate) spurious: Counter,
}

impl Lane {
    /// Without an event channel.
    pub(super) const fn new() -> Self {
        Self {
            port: Atomic::new(0),
            cpu: Atomic::new(NOWHERE),
            early: Atomic::new(0),
            sent: Counter::new(),
            events: Counter::new(),
            spurious: Counter::new(),
        }
    }

    /// What an event was that brought news of so many channels.
    fn judge(&self, news: u32) -> Eoi {
        if news > 0 {
            self.early.store(news.wrapping_sub(1).min(2), Relaxed);
            return Eoi::Done;
        }
        let early = self.early.load(Relaxed);
        if early > 0 {
            self.early.store(early.wrapping_sub(1), Relaxed);
            return Eoi::Done;
        }
        self.spurious.add(1);
        Eoi::Spurious
    }
}

/// Hears the events of a queue.
pub(crate) struct Ear {
    tunnel: Arc<Tunnel>,
    queue: u32,
    bell: Doorbell,
    /// The words of doorbells that are the queue's.
    words: u64,
}

impl Ear {
    fn new(tunnel: &Arc<Tunnel>, queue: u32) -> Result<Arc<Self>> {
        let ear = Self {
            tunnel: tunnel.clone(),
            queue,
            bell: tunnel.role.hears(queue),
            words: tunnel.terms.queues.words(queue),
        };
        Ok(Arc::new(ear, GFP_KERNEL)?)
    }
}

impl Handler for Ear {
    fn on_event(this: ArcBorrow<'_, Self>) -> Eoi {
        let tunnel = &this.tunnel;
        let (Some(live), Some(lane)) = (tunnel.gate.enter(), tunnel.lane(this.queue)) else {
            return Eoi::Done;
        };
        lane.events.add(1);
        lane.cpu.store(evtchn::this_cpu(), Relaxed);
        let mut news = 0u32;
        this.bell.take(&tunnel.page.words(&live), this.words, |id| {
            let wanted = if id == 0 {
                let armed = tunnel.armed.xchg(0, Full) == 1;
                if armed {
                    tunnel.tell_of_mail();
                }
                armed
            } else {
                tunnel.table.with(id, Waiter::on_event).unwrap_or(false)
            };
            news = news.wrapping_add(wanted.into());
        });
        lane.judge(news)
    }
}

impl Tunnel {
    /// What is known of a queue.
    pub(crate) fn lane(&self, queue: u32) -> Option<&Lane> {
        self.lanes.get(queue as usize)
    }

    /// The queues that there are.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (u32, &Lane)> {
        (0..self.terms.queues.count()).zip(self.lanes.iter())
    }

    /// Front: makes an event channel for each queue, and says their ports.
    pub(super) fn offer_queues(self: &Arc<Self>, device: &Device) -> Result {
        for (((queue, lane), name), node) in self.lanes().zip(NAMES).zip(nodes::EVENT_CHANNELS) {
            let events = EventChannel::offer(device, name, Ear::new(self, queue)?)?;
            let port = events.port();
            self.keep_queue(lane, events)?;
            device.write(node, port)?;
        }
        Ok(())
    }

    /// Back: binds the event channel of each queue.
    pub(super) fn bind_queues(self: &Arc<Self>, device: &Device) -> Result {
        for (((queue, lane), name), node) in self.lanes().zip(NAMES).zip(nodes::EVENT_CHANNELS) {
            let port = device.read_peer(node, 1, u32::MAX)?;
            let events = EventChannel::bind(device, port, name, Ear::new(self, queue)?)?;
            self.keep_queue(lane, events)?;
        }
        Ok(())
    }

    fn keep_queue(&self, lane: &Lane, events: EventChannel<Ear>) -> Result {
        let port = events.port();
        self.inner.lock().events.push(events, GFP_KERNEL)?;
        lane.port.store(port, Release);
        Ok(())
    }

    /// The CPU that takes the events of a channel, as far as that is known.
    pub(crate) fn event_cpu(&self, id: u32) -> u32 {
        let lane = self.lane(self.terms.queues.of(id));
        lane.map_or(NOWHERE, |lane| lane.cpu.load(Relaxed))
    }

    /// Rings the doorbell of a channel and sends the event.
    pub(crate) fn notify(&self, live: &Live, id: u32) {
        if self.device.is_none() {
            // Both ends are here: the other one's number differs in one bit.
            self.table.with(id ^ 1, Waiter::on_event);
            return;
        }
        let queue = self.terms.queues.of(id);
        self.role.rings(queue).ring(&self.page.words(live), id);
        if let Some(lane) = self.lane(queue) {
            lane.sent.add(1);
            evtchn::notify(lane.port.load(Acquire));
        }
    }
}

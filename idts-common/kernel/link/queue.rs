// SPDX-License-Identifier: GPL-2.0

//! A queue of a link: an event channel, and what is known of its events.

use idts_core::spurious::EventCredit;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::sys::counter::Counter;
use crate::xen::evtchn::Eoi;

/// Instead of a CPU: none has handled an event yet.
pub(crate) const NO_CPU: u32 = u32::MAX;

/// One of the queues of a link.
pub(crate) struct Queue {
    /// The interrupt that events are sent by; 0 before it is there.
    irq: Atomic<u32>,
    /// The CPU that took the last event.
    cpu: Atomic<u32>,
    /// What the queue's events may still cost. Written by the handler, or by the work
    /// item that goes on for it, never by both.
    credit: Atomic<u32>,
    /// The last event was spurious.
    was_spurious: Atomic<bool>,
    /// Events sent, received, received for nothing, and delayed for that.
    pub(crate) sent: Counter,
    pub(crate) events: Counter,
    pub(crate) spurious: Counter,
    pub(crate) delayed: Counter,
}

impl Queue {
    /// Without an event channel.
    pub(super) const fn new() -> Self {
        Self {
            irq: Atomic::new(0),
            cpu: Atomic::new(NO_CPU),
            credit: Atomic::new(EventCredit::MAX),
            was_spurious: Atomic::new(false),
            sent: Counter::new(),
            events: Counter::new(),
            spurious: Counter::new(),
            delayed: Counter::new(),
        }
    }

    /// The interrupt at this end, for sending; 0 before there is one.
    pub(super) fn irq(&self) -> u32 {
        self.irq.load(Acquire)
    }

    /// Sends events on `irq` from now on.
    pub(crate) fn bind(&self, irq: u32) {
        self.irq.store(irq, Release);
    }

    /// An event is handled on `cpu`.
    pub(super) fn handled_on(&self, cpu: u32) {
        self.cpu.store(cpu, Relaxed);
    }

    /// The CPU that handled the last event, or [`NO_CPU`].
    pub(super) fn cpu(&self) -> u32 {
        self.cpu.load(Relaxed)
    }

    /// What an event was whose marks were worth so much.
    pub(super) fn judge(&self, worth: u32) -> Eoi {
        let mut credit = EventCredit(self.credit.load(Relaxed));
        let paid = credit.pay(worth);
        self.credit.store(credit.0, Relaxed);
        if paid {
            self.was_spurious.store(false, Relaxed);
            return Eoi::Done;
        }
        self.spurious();
        Eoi::Spurious
    }

    /// Counts an event for nothing. Xen's event code delays what follows the second in a
    /// row by a tick, and begins to count anew then (drivers/xen/events/events_base.c,
    /// `xen_irq_lateeoi_worker`).
    pub(super) fn spurious(&self) {
        self.spurious.add(1);
        let second = self.was_spurious.load(Relaxed);
        if second {
            self.delayed.add(1);
        }
        self.was_spurious.store(!second, Relaxed);
    }
}

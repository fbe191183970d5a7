// SPDX-License-Identifier: GPL-2.0

//! A queue of a link: an event channel, and the accounting of its events.

use idts_core::spurious::EventCredit;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::sys::counter::Counter;
use crate::xen::evtchn::Eoi;

/// Sentinel: no CPU has handled an event yet.
pub(crate) const NO_CPU: u32 = u32::MAX;

/// One of the queues of a link.
pub(crate) struct Queue {
    /// The interrupt of the event channel; 0 before it is bound.
    irq: Atomic<u32>,
    /// The CPU that handled the last event.
    cpu: Atomic<u32>,
    /// Credit for the peer's events, an [`EventCredit`]. Written by the handler, or by the work
    /// item that continues for it, never by both at once.
    credit: Atomic<u32>,
    /// Set if the last event was spurious and the delay of the next one is not counted yet.
    was_spurious: Atomic<bool>,
    /// Counters of events: sent, received, received spuriously, and delayed after spurious ones.
    pub(crate) sent: Counter,
    pub(crate) events: Counter,
    pub(crate) spurious: Counter,
    pub(crate) delayed: Counter,
}

impl Queue {
    /// Creates a queue without an event channel.
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

    /// The interrupt to send events by; 0 before it is bound.
    pub(super) fn irq(&self) -> u32 {
        self.irq.load(Acquire)
    }

    /// Sets the interrupt that events are sent by.
    pub(crate) fn bind(&self, irq: u32) {
        self.irq.store(irq, Release);
    }

    /// Notes that an event is handled on `cpu`.
    pub(super) fn handled_on(&self, cpu: u32) {
        self.cpu.store(cpu, Relaxed);
    }

    /// The CPU that handled the last event, or [`NO_CPU`].
    pub(super) fn cpu(&self) -> u32 {
        self.cpu.load(Relaxed)
    }

    /// Classifies an event whose changes justify `worth` events, and returns how to end its
    /// interrupt.
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

    /// Counts a spurious event. Of two in a row, Xen's event code delays the event that follows
    /// by a tick, and starts to count again (drivers/xen/events/events_base.c,
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

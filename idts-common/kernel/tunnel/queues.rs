// SPDX-License-Identifier: GPL-2.0

//! The queues of a tunnel: an event channel each, and the doorbells heard on it.
//!
//! A handler looks at its own queue's words alone and takes no lock, so those of
//! several queues run at the same time. It looks at a bounded number of channels; a
//! work item looks at the rest, and no other event of the queue comes before it has.
//! What an event was for is judged by `idts_core::spurious`. PROTOCOL.md section 6.4.

use idts_core::doorbell::{each_bit, Doorbell};
use idts_core::nodes;
use idts_core::spurious::EventCredit;
use idts_core::wire::{CHANNELS, QUEUES};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{Arc, ArcBorrow};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

use super::Tunnel;
use crate::link::waiter::Waiter;
use crate::mem::revocable::AccessGuard;
use crate::sys::counter::Counter;
use crate::sys::test_override;
use crate::sys::work;
use crate::xen::evtchn::{self, Eoi, EventChannel, Handler};
use crate::xen::peer::Peer;
use crate::xen::xenbus::Device;

/// Names in /proc/interrupts.
const NAMES: [&CStr; QUEUES as usize] = [
    c"idts-q0", c"idts-q1", c"idts-q2", c"idts-q3", c"idts-q4", c"idts-q5", c"idts-q6", c"idts-q7",
];

/// The CPU of events that never come.
const NOWHERE: u32 = u32::MAX;

/// Channels that a hard interrupt looks at, at most, and the work item before it lets
/// others run.
const LOOKS_MAX: u32 = 64;

/// What a tunnel knows of one of its queues.
pub(crate) struct Lane {
    /// The interrupt that events are sent by; 0 before it is there.
    irq: Atomic<u32>,
    /// The CPU that took the last event.
    cpu: Atomic<u32>,
    /// What the queue's events may still cost. Written by the handler, or by the work
    /// item that goes on for it, never by both.
    purse: Atomic<u32>,
    /// The last event was spurious.
    was_spurious: Atomic<bool>,
    /// Events sent, received, received for nothing, and delayed for that.
    pub(crate) sent: Counter,
    pub(crate) events: Counter,
    pub(crate) spurious: Counter,
    pub(crate) delayed: Counter,
}

impl Lane {
    /// Without an event channel.
    pub(super) const fn new() -> Self {
        Self {
            irq: Atomic::new(0),
            cpu: Atomic::new(NOWHERE),
            purse: Atomic::new(EventCredit::MAX),
            was_spurious: Atomic::new(false),
            sent: Counter::new(),
            events: Counter::new(),
            spurious: Counter::new(),
            delayed: Counter::new(),
        }
    }

    /// What an event was whose marks were worth so much.
    fn judge(&self, worth: u32) -> Eoi {
        let mut purse = EventCredit(self.purse.load(Relaxed));
        let paid = purse.pay(worth);
        self.purse.store(purse.0, Relaxed);
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
    fn spurious(&self) {
        self.spurious.add(1);
        let second = self.was_spurious.load(Relaxed);
        if second {
            self.delayed.add(1);
        }
        self.was_spurious.store(!second, Relaxed);
    }
}

/// Hears the events of a queue.
#[pin_data]
pub(crate) struct Ear {
    tunnel: Arc<Tunnel>,
    queue: u32,
    bell: Doorbell,
    /// The words of doorbells that are the queue's.
    words: u64,
    /// Marks that were taken and not looked at: which words have some, and those. The
    /// handler writes them, or the work item while no handler runs.
    left_words: Atomic<u64>,
    left: [Atomic<u64>; CHANNELS as usize / 64],
    /// What the marks before them were worth, and the interrupt of the event.
    worth: Atomic<u32>,
    irq: Atomic<u32>,
    #[pin]
    work: Work<Ear>,
}

impl_has_work! {
    impl HasWork<Self> for Ear { self.work }
}

impl Ear {
    fn new(tunnel: &Arc<Tunnel>, queue: u32) -> Result<Arc<Self>> {
        let tunnel = tunnel.clone();
        Arc::pin_init(
            pin_init!(Self {
                bell: tunnel.role.rx_doorbell(queue),
                words: tunnel.terms.queues.words(queue),
                tunnel,
                queue,
                left_words: Atomic::new(0),
                left: [const { Atomic::new(0) }; CHANNELS as usize / 64],
                worth: Atomic::new(0),
                irq: Atomic::new(0),
                work <- new_work!("idts_events"),
            }),
            GFP_KERNEL,
        )
    }

    /// Waits for what the handler left to do. Called when none begins any more.
    pub(super) fn finish(&self) {
        work::flush(&self.work);
    }

    /// Looks at what marks mean, at [`LOOKS_MAX`] channels at most; keeps the others.
    /// What they were worth; `true`: some are left.
    fn look(
        &self,
        live: &AccessGuard,
        marks: impl FnOnce(&mut dyn FnMut(u32, u64)),
    ) -> (u32, bool) {
        let (mut worth, mut looks, mut left) = (0u32, 0u32, 0u64);
        marks(&mut |word, marks| {
            let (known, forgiven) = self.tunnel.sort_marks(live, word, marks);
            worth = worth.wrapping_add(forgiven);
            let mut rest = known;
            each_bit(known, |bit| {
                if looks < LOOKS_MAX {
                    looks = looks.wrapping_add(1);
                    rest &= !1u64.wrapping_shl(bit);
                    let id = word.wrapping_mul(64).wrapping_add(bit);
                    worth = worth.wrapping_add(self.tunnel.news_of(live, id));
                }
            });
            if rest != 0 {
                left |= 1u64.wrapping_shl(word);
            }
            if let Some(place) = self.left.get(word as usize) {
                place.store(rest, Relaxed);
            }
        });
        self.left_words.store(left, Relaxed);
        (worth, left != 0)
    }

    /// Goes on with what the handler left. `true`: some is left still.
    fn go_on(&self, lane: &Lane) -> bool {
        let judged = self.tunnel.gate.try_access().map(|live| {
            let words = self.left_words.load(Relaxed);
            self.look(&live, |each_word| {
                each_bit(words, |word| {
                    let marks = self.left.get(word as usize).map_or(0, |m| m.load(Relaxed));
                    each_word(word, marks);
                });
            })
        });
        let Some((worth, more)) = judged else {
            lane.spurious();
            evtchn::late_eoi(self.irq.load(Relaxed), Eoi::Spurious);
            return false;
        };
        let worth = worth.saturating_add(self.worth.load(Relaxed));
        self.worth.store(worth, Relaxed);
        if !more {
            let eoi = lane.judge(worth);
            evtchn::late_eoi(self.irq.load(Relaxed), eoi);
        }
        more
    }
}

impl Handler for Ear {
    fn on_event(this: ArcBorrow<'_, Self>, irq: u32) -> Option<Eoi> {
        let tunnel = &this.tunnel;
        let lane = tunnel.lane(this.queue)?;
        lane.events.add(1);
        let Some(live) = tunnel.gate.try_access() else {
            // The tunnel is dead: nothing can be news.
            lane.spurious();
            return Some(Eoi::Spurious);
        };
        lane.cpu.store(evtchn::this_cpu(), Relaxed);
        let words = tunnel.page.words(&live);
        let (worth, more) = this.look(&live, |each_word| {
            this.bell.take(&words, this.words, each_word);
        });
        if !more {
            return Some(lane.judge(worth));
        }
        this.worth.store(worth, Relaxed);
        this.irq.store(irq, Relaxed);
        // Before the gate is left: who closes it then waits for this work.
        let _ = crate::sys::work::queue().enqueue::<_, 0>(Arc::from(this));
        None
    }
}

impl WorkItem for Ear {
    type Pointer = Arc<Ear>;

    fn run(this: Arc<Ear>) {
        let Some(lane) = this.tunnel.lane(this.queue) else {
            return;
        };
        while this.go_on(lane) {
            // SAFETY: A worker may sleep, and nothing is held.
            unsafe { crate::sys::bindings::idts_cond_resched() };
        }
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
            // The toolstack reads there why the device does not come up.
            let (events, port) =
                EventChannel::alloc_unbound(self.peer, name, Ear::new(self, queue)?).inspect_err(
                    |error| device.report_error(*error, c"allocating an event channel", false),
                )?;
            self.keep_queue(lane, events)?;
            device.write(node, port)?;
        }
        Ok(())
    }

    /// Back: binds the event channel of each queue.
    pub(super) fn bind_queues(self: &Arc<Self>, device: &Device) -> Result {
        let peer = Peer::from(device);
        for (((queue, lane), name), node) in self.lanes().zip(NAMES).zip(nodes::EVENT_CHANNELS) {
            let port = device.read_peer(node, 1, u32::MAX)?;
            let events = EventChannel::bind_interdomain(&peer, port, name, Ear::new(self, queue)?)?;
            self.keep_queue(lane, events)?;
        }
        Ok(())
    }

    fn keep_queue(&self, lane: &Lane, events: EventChannel<Ear>) -> Result {
        let irq = events.irq();
        self.inner.lock().events.push(events, GFP_KERNEL)?;
        lane.irq.store(irq, Release);
        Ok(())
    }

    /// Which of the marks in a word are of channels that are open, and how many others
    /// are forgiven.
    fn sort_marks(&self, live: &AccessGuard, word: u32, marks: u64) -> (u64, u32) {
        // The control ring is always open.
        let control = u64::from(word == 0);
        let open = self.table.open(word) | control;
        let strange = marks & !open;
        if strange == 0 {
            return (marks, 0);
        }
        // An OPEN that nobody has heard yet may be about any number.
        let waits = self.control_watch.has_unread(&self.page.words(live));
        (marks & open, self.table.forgive(word, strange, waits))
    }

    /// Looks at a channel that was marked, and tells whoever waits. What the mark was
    /// worth.
    fn news_of(self: &Arc<Self>, live: &AccessGuard, id: u32) -> u32 {
        if id != 0 {
            let look = |waiter: &Waiter| {
                // The first queue has the control ring, which must go on meanwhile.
                if self.terms.queues.of(id) != 0 {
                    test_override::spin(c"event-lines");
                }
                waiter.on_event(live)
            };
            return self.table.with(id, look).unwrap_or(0);
        }
        let news = self.control_watch.compare(&self.page.words(live));
        if !news.is_none() && self.armed.xchg(0, Full) == 1 {
            self.tell_of_mail();
        }
        news.worth
    }

    /// The CPU that takes the events of a channel, as far as that is known.
    pub(crate) fn event_cpu(&self, id: u32) -> u32 {
        let lane = self.lane(self.terms.queues.of(id));
        lane.map_or(NOWHERE, |lane| lane.cpu.load(Relaxed))
    }

    /// Rings the doorbell of a channel and sends the event.
    pub(crate) fn notify(&self, live: &AccessGuard, id: u32) {
        if self.device.is_none() {
            // Both ends are here: the other one's number differs in one bit.
            self.table.with(id ^ 1, Waiter::tell);
            return;
        }
        let queue = self.terms.queues.of(id);
        self.role
            .tx_doorbell(queue)
            .ring(&self.page.words(live), id);
        if let Some(lane) = self.lane(queue) {
            lane.sent.add(1);
            evtchn::notify(live, lane.irq.load(Acquire));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The interrupt of a queue: the handler of its event channel.
//!
//! A handler reads only the doorbell words of its own queue and takes no lock, so the handlers
//! of several queues run in parallel. It handles a bounded number of channels; a work item
//! handles the rest and then ends the interrupt (`xen_irq_lateeoi`), before which the queue gets
//! no other event. `idts_core::spurious` decides whether an event was spurious. PROTOCOL.md
//! section 6.4.

use idts_core::doorbell::{each_bit, Doorbell};
use idts_core::wire::{CHANNELS, QUEUES};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{Arc, ArcBorrow};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

use super::link::{Link, CONTROL};
use super::queue::Queue;
use super::waiter::Waiter;
use crate::mem::revocable::AccessGuard;
use crate::sys::cpu;
use crate::sys::test_override;
use crate::sys::work;
use crate::xen::evtchn::{self, Eoi, Handler};

/// Names of the interrupts in /proc/interrupts, by queue.
pub(crate) const NAMES: [&CStr; QUEUES as usize] = [
    c"idts-q0", c"idts-q1", c"idts-q2", c"idts-q3", c"idts-q4", c"idts-q5", c"idts-q6", c"idts-q7",
];

/// Most channels that a hard interrupt handles, and that the work item handles before it yields
/// the CPU.
const LOOKS_MAX: u32 = 64;

/// The interrupt of a queue: its handler, and the work item that continues for it.
#[pin_data]
pub(crate) struct QueueIrq {
    link: Arc<Link>,
    number: u32,
    bell: Doorbell,
    /// The doorbell words that belong to the queue, a bit for each.
    words: u64,
    /// Marks that were taken from the doorbell and are not handled yet: the words that have
    /// some, a bit for each, and the marks of each word. Written by the handler, and by the work
    /// item, before which no handler runs again.
    left_words: Atomic<u64>,
    left: [Atomic<u64>; CHANNELS as usize / 64],
    /// Number of events that the marks handled so far justify, and the interrupt of the event.
    worth: Atomic<u32>,
    irq: Atomic<u32>,
    #[pin]
    work: Work<QueueIrq>,
}

impl_has_work! {
    impl HasWork<Self> for QueueIrq { self.work }
}

impl QueueIrq {
    /// Creates the handler of queue `number`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(link: &Arc<Link>, number: u32) -> Result<Arc<Self>> {
        let link = link.clone();
        Arc::pin_init(
            pin_init!(Self {
                bell: link.role.rx_doorbell(number),
                words: link.spread.words(number),
                link,
                number,
                left_words: Atomic::new(0),
                left: [const { Atomic::new(0) }; CHANNELS as usize / 64],
                worth: Atomic::new(0),
                irq: Atomic::new(0),
                work <- new_work!("idts_events"),
            }),
            GFP_KERNEL,
        )
    }

    /// Waits for the work item. The caller has made sure that no handler starts any more.
    pub(crate) fn finish(&self) {
        work::flush(&self.work);
    }

    /// Handles the channels of `marks`, at most [`LOOKS_MAX`], and keeps the other marks.
    ///
    /// Returns the number of events that the changes justify, and true if marks are left.
    fn look(
        &self,
        live: &AccessGuard,
        marks: impl FnOnce(&mut dyn FnMut(u32, u64)),
    ) -> (u32, bool) {
        let (mut worth, mut looks, mut left) = (0u32, 0u32, 0u64);
        marks(&mut |word, marks| {
            let (known, forgiven) = self.link.sort_marks(live, word, marks);
            worth = worth.wrapping_add(forgiven);
            let mut rest = known;
            each_bit(known, |bit| {
                if looks < LOOKS_MAX {
                    looks = looks.wrapping_add(1);
                    rest &= !1u64.wrapping_shl(bit);
                    let id = word.wrapping_mul(64).wrapping_add(bit);
                    worth = worth.wrapping_add(self.link.news_of(live, id));
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

    /// Handles marks that are left, and ends the interrupt once there are none. Returns true if
    /// some are still left.
    fn go_on(&self, queue: &Queue) -> bool {
        let judged = self.link.gate.try_access().map(|live| {
            let words = self.left_words.load(Relaxed);
            self.look(&live, |each_word| {
                each_bit(words, |word| {
                    let marks = self.left.get(word as usize).map_or(0, |m| m.load(Relaxed));
                    each_word(word, marks);
                });
            })
        });
        let Some((worth, more)) = judged else {
            queue.spurious();
            evtchn::late_eoi(self.irq.load(Relaxed), Eoi::Spurious);
            return false;
        };
        let worth = worth.saturating_add(self.worth.load(Relaxed));
        self.worth.store(worth, Relaxed);
        if !more {
            let eoi = queue.judge(worth);
            evtchn::late_eoi(self.irq.load(Relaxed), eoi);
        }
        more
    }
}

impl Handler for QueueIrq {
    fn on_event(this: ArcBorrow<'_, Self>, irq: u32) -> Option<Eoi> {
        let queue = this.link.queue(this.number)?;
        queue.events.add(1);
        let Some(live) = this.link.gate.try_access() else {
            // A revoked link has no changes.
            queue.spurious();
            return Some(Eoi::Spurious);
        };
        queue.handled_on(cpu::this());
        let words = this.link.words(&live);
        let (worth, more) = this.look(&live, |each_word| {
            this.bell.take(&words, this.words, each_word);
        });
        if !more {
            return Some(queue.judge(worth));
        }
        this.worth.store(worth, Relaxed);
        this.irq.store(irq, Relaxed);
        // Queued inside the gate, so that a revocation, which waits for this handler, finds the
        // work.
        let _ = work::queue().enqueue::<_, 0>(Arc::from(this));
        None
    }
}

impl WorkItem for QueueIrq {
    type Pointer = Arc<QueueIrq>;

    fn run(this: Arc<QueueIrq>) {
        let Some(queue) = this.link.queue(this.number) else {
            return;
        };
        while this.go_on(queue) {
            cpu::yield_if_wanted();
        }
    }
}

impl Link {
    /// Splits the marks of a doorbell word. Returns those of open channels, and how many of the
    /// others are forgiven.
    fn sort_marks(&self, live: &AccessGuard, word: u32, marks: u64) -> (u64, u32) {
        let open = self.table.open(word);
        let strange = marks & !open;
        if strange == 0 {
            return (marks, 0);
        }
        // An OPEN that is not handled yet may be about any id.
        let unread = |control: &Waiter| control.has_unread(live);
        let waits = self.table.with(CONTROL, unread).unwrap_or(false);
        (marks & open, self.table.forgive(word, strange, waits))
    }

    /// Compares the index words of a marked channel with the last ones, and wakes its waiter if
    /// they changed. Returns the number of events that the changes justify.
    fn news_of(&self, live: &AccessGuard, id: u32) -> u32 {
        let look = |waiter: &Waiter| {
            // The first queue also carries the control ring, which must not be delayed.
            if self.spread.of(id) != 0 {
                test_override::spin(c"event-lines");
            }
            waiter.on_event(live)
        };
        self.table.with(id, look).unwrap_or(0)
    }
}

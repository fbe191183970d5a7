// SPDX-License-Identifier: GPL-2.0

//! The interrupt of a queue: the handler of its event channel.
//!
//! A handler looks at its own queue's words alone and takes no lock, so those of
//! several queues run at the same time. It looks at a bounded number of channels; a
//! work item looks at the rest, and no other event of the queue comes before it has.
//! `idts_core::spurious` judges the reason of an event. PROTOCOL.md section 6.4.

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

/// Names in /proc/interrupts.
pub(crate) const NAMES: [&CStr; QUEUES as usize] = [
    c"idts-q0", c"idts-q1", c"idts-q2", c"idts-q3", c"idts-q4", c"idts-q5", c"idts-q6", c"idts-q7",
];

/// Channels that a hard interrupt looks at, at most, and the work item before it lets
/// others run.
const LOOKS_MAX: u32 = 64;

/// The interrupt of a queue: its handler, and the work item that goes on for it.
#[pin_data]
pub(crate) struct QueueIrq {
    link: Arc<Link>,
    number: u32,
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
    work: Work<QueueIrq>,
}

impl_has_work! {
    impl HasWork<Self> for QueueIrq { self.work }
}

impl QueueIrq {
    /// The handler of queue `number`.
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

    /// Waits for what the handler left to do. Called when none begins any more.
    pub(crate) fn finish(&self) {
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

    /// Goes on with what the handler left. `true`: some is left still.
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
            // The link is dead: nothing can be news.
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
        // Before the gate is left: who closes it then waits for this work.
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
    /// Sorts the marks of a doorbell word: those of open channels, and how many others are
    /// forgiven.
    fn sort_marks(&self, live: &AccessGuard, word: u32, marks: u64) -> (u64, u32) {
        let open = self.table.open(word);
        let strange = marks & !open;
        if strange == 0 {
            return (marks, 0);
        }
        // An OPEN that is not handled yet may be about any number.
        let unread = |control: &Waiter| control.has_unread(live);
        let waits = self.table.with(CONTROL, unread).unwrap_or(false);
        (marks & open, self.table.forgive(word, strange, waits))
    }

    /// Looks at a channel that was marked, and wakes whoever waits at it. Returns the
    /// events that its news are worth.
    fn news_of(&self, live: &AccessGuard, id: u32) -> u32 {
        let look = |waiter: &Waiter| {
            // The first queue has the control ring, which must go on meanwhile.
            if self.spread.of(id) != 0 {
                test_override::spin(c"event-lines");
            }
            waiter.on_event(live)
        };
        self.table.with(id, look).unwrap_or(0)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The control queue: sending and receiving messages.
//!
//! [`super::open`] and the roles interpret them. Messages wait in an outbox while the ring has
//! no free slot. A work queue handles incoming ones, because that may sleep.

use idts_core::error::Violation;
use idts_core::wire::{Slot, CHANNELS};
use kernel::prelude::*;
use kernel::sync::atomic::{Full, Relaxed, Release};
use kernel::sync::Arc;
use kernel::workqueue::WorkItem;

use super::payer;
use super::tunnel::{Inner, Tunnel};
use crate::link::CONTROL;
use crate::sys::errno::Errno;
use crate::sys::work;

/// Messages that the worker handles before it yields.
const BATCH: usize = 64;
/// Length of the outbox at which this side stops reading messages, so that a peer that does not
/// read its ring cannot make it hoard answers.
///
/// A peer that keeps the rules never gets there: the bound has room for an answer and a CLOSED
/// for every channel, and some for segments and requests. A smaller one could make two sides
/// that both close everything stop reading for ever.
const OUTBOX_MAX: usize = 2 * CHANNELS as usize + 512;
/// Capacity above which an empty outbox frees its memory.
const OUTBOX_KEPT: usize = 256;

impl Tunnel {
    /// Queues a message; [`Self::flush`] sends it.
    pub(super) fn post(&self, inner: &mut Inner, slot: Slot) {
        if inner.outbox.push(slot, GFP_KERNEL).is_err() {
            // A lost message would leave both sides waiting.
            if self.link.may_log() {
                pr_err!("domain {}: out of memory, tunnel closed\n", self.peer);
            }
            inner.channels.fail_all(Errno::ConnReset);
            self.link.gate.revoke_nosync();
            self.switch_closing();
        }
    }

    /// Sends messages while the ring has free slots. An event for the slots that the peer frees
    /// continues with the rest.
    pub(super) fn flush(&self, inner: &mut Inner) {
        let Some(live) = self.link.gate.try_access() else {
            return;
        };
        let words = self.link.words(&live);
        let mut notify = false;
        let mut sent = 0usize;
        let result = loop {
            let Some(slot) = inner.outbox.get(sent).copied() else {
                break Ok(());
            };
            if let Some(reader) = &inner.reader {
                reader.watch.publishes(inner.ring.sent().wrapping_add(1));
            }
            match inner.ring.send(&words, &slot) {
                Ok(Some(wanted)) => {
                    notify |= wanted;
                    sent = sent.wrapping_add(1);
                }
                Ok(None) => {
                    if let Some(reader) = &inner.reader {
                        reader.write.arm();
                    }
                    match inner.ring.arm_send(&words) {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(violation) => break Err(violation),
                    }
                }
                Err(violation) => break Err(violation),
            }
        };
        if sent > 0 {
            let mut index = 0usize;
            inner.outbox.retain(|_| {
                index = index.wrapping_add(1);
                index > sent
            });
        }
        if notify {
            self.link.notify(&live, CONTROL);
        }
        drop(live);
        // Outside the gate, because freeing so much may sleep.
        if inner.outbox.is_empty() && inner.outbox.capacity() > OUTBOX_KEPT {
            inner.outbox = KVVec::new();
        }
        if let Err(violation) = result {
            self.break_down(inner, violation);
        }
    }

    /// Schedules the work that handles messages.
    pub(crate) fn schedule(self: &Arc<Self>) {
        // A worker that is already scheduled finds all messages.
        let _ = work::queue().enqueue::<_, 0>(self.clone());
    }

    /// Receives the next message, if there is one and the outbox has room for the answers.
    ///
    /// # Errors
    /// The violation in the ring's indices or slots.
    fn next_message(&self, inner: &mut Inner) -> Result<Option<Slot>, Violation> {
        if inner.outbox.len() >= OUTBOX_MAX {
            return Ok(None);
        }
        let Some(live) = self.link.gate.try_access() else {
            return Ok(None);
        };
        let words = self.link.words(&live);
        if !inner.ring.has_message(&words)? {
            return Ok(None);
        }
        if let Some(reader) = &inner.reader {
            reader.watch.releases(inner.ring.taken().wrapping_add(1));
        }
        let message = inner.ring.receive(&words)?;
        Ok(message.map(|(slot, notify)| {
            if notify {
                self.link.notify(&live, CONTROL);
            }
            slot
        }))
    }

    /// Requests an event for the next message. Returns true if there is one already.
    fn arm(&self, inner: &mut Inner) -> Result<bool, Violation> {
        let Some(live) = self.link.gate.try_access() else {
            return Ok(false);
        };
        if let Some(reader) = &inner.reader {
            reader.read.arm();
        }
        let there = inner.ring.arm_receive(&self.link.words(&live))?;
        Ok(there && inner.outbox.len() < OUTBOX_MAX)
    }

    /// Handles messages until there are none, or until the budget `most` is used up. Returns
    /// true if there are more.
    fn pump(self: &Arc<Self>, inner: &mut Inner, most: &mut usize) -> Result<bool, Violation> {
        while *most > 0 {
            *most = most.saturating_sub(1);
            match self.next_message(inner)? {
                Some(slot) => self.hear(inner, &slot)?,
                None => {
                    self.flush(inner);
                    if !self.arm(inner)? {
                        return Ok(false);
                    }
                }
            }
        }
        self.flush(inner);
        Ok(true)
    }
}

impl Tunnel {
    /// Handles up to [`BATCH`] messages. Returns true if there are more.
    fn handle_batch(self: &Arc<Self>) -> bool {
        let mut most = BATCH;
        self.handle(&mut most)
    }

    /// Handles up to `most` messages and deducts them. Returns true if there are more.
    pub(crate) fn handle(self: &Arc<Self>, most: &mut usize) -> bool {
        let mut inner = self.inner.lock();
        // No cgroup is charged for messages: the process that handles them inline does not pay.
        let more = match self.link.too_many_broken() {
            Some(violation) => Err(violation),
            None => payer::charge(None, || self.pump(&mut inner, most)),
        };
        more.unwrap_or_else(|violation| {
            self.break_down(&mut inner, violation);
            false
        })
    }

    /// Handles an event of the control ring: the inline processor takes the messages, or else
    /// the worker.
    pub(super) fn tell_of_mail(self: &Arc<Self>) {
        self.mail.store(1, Release);
        if self.services.inline.call() {
            // The processor may have to wait for its CPU, so the worker follows after a tick.
            let _ = work::queue().enqueue_delayed::<_, 1>(self.clone(), 1);
        } else {
            self.schedule();
        }
    }

    /// Takes over the messages. Returns false if there are none, or another thread has taken
    /// them over.
    pub(crate) fn takes_mail(&self) -> bool {
        self.mail.load(Relaxed) != 0 && self.mail.xchg(0, Full) != 0
    }
}

impl WorkItem for Tunnel {
    type Pointer = Arc<Tunnel>;

    fn run(this: Arc<Tunnel>) {
        this.takes_mail();
        if this.handle_batch() && this.link.is_open() {
            this.schedule();
        }
    }
}

impl WorkItem<1> for Tunnel {
    type Pointer = Arc<Tunnel>;

    fn run(this: Arc<Tunnel>) {
        if this.takes_mail() && this.handle_batch() && this.link.is_open() {
            this.schedule();
        }
    }
}

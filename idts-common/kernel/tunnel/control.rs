// SPDX-License-Identifier: GPL-2.0

//! The control queue: messages out, messages in.
//!
//! Their content is for [`super::open`] and the roles. Messages wait in a box of our own
//! while the ring has no slot; they are handled on a work queue, for handling
//! may sleep.

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

/// Messages handled before the worker lets others run.
const BATCH: usize = 64;
/// Messages that may wait for a slot before we stop listening to the peer: one
/// that does not read its ring cannot make us hoard answers. A peer that keeps
/// the rules never drives us there, with an answer and a CLOSED for every channel
/// and some for segments and requests; otherwise two sides that both close
/// everything would both stop listening, for ever.
const OUTBOX_MAX: usize = 2 * CHANNELS as usize + 512;
/// An outbox that was longer gives its memory back once it is empty.
const OUTBOX_KEPT: usize = 256;

impl Tunnel {
    /// Queues a message; [`Self::flush`] sends it.
    pub(super) fn post(&self, inner: &mut Inner, slot: Slot) {
        if inner.outbox.push(slot, GFP_KERNEL).is_err() {
            // A message that cannot be kept would leave both sides waiting.
            if self.link.may_log() {
                pr_err!("domain {}: out of memory, tunnel closed\n", self.peer);
            }
            inner.channels.fail_all(Errno::ConnReset);
            self.link.gate.revoke_nosync();
            self.switch_closing();
        }
    }

    /// Sends what there are slots for. The rest goes when the peer says that it
    /// took some.
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
        // Freeing as much may sleep.
        if inner.outbox.is_empty() && inner.outbox.capacity() > OUTBOX_KEPT {
            inner.outbox = KVVec::new();
        }
        if let Err(violation) = result {
            self.break_down(inner, violation);
        }
    }

    pub(crate) fn schedule(self: &Arc<Self>) {
        // Already scheduled is fine: the worker looks at everything.
        let _ = work::queue().enqueue::<_, 0>(self.clone());
    }

    /// Takes the next message, if there is one and room for its answers.
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

    /// Asks for an event at the next message; `true`: there is one already.
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

    /// Handles messages until there are none, or so many looks for one are counted
    /// off; `true`: there is more to do.
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
    /// Handles the messages that there are, but not too many at once; `true`:
    /// there are more.
    fn handle_batch(self: &Arc<Self>) -> bool {
        let mut most = BATCH;
        self.handle(&mut most)
    }

    /// The same with `most` looks, which are counted off.
    pub(crate) fn handle(self: &Arc<Self>, most: &mut usize) -> bool {
        let mut inner = self.inner.lock();
        // A process that helps does not pay for messages.
        let more = match self.link.too_many_broken() {
            Some(violation) => Err(violation),
            None => payer::charge(None, || self.pump(&mut inner, most)),
        };
        more.unwrap_or_else(|violation| {
            self.break_down(&mut inner, violation);
            false
        })
    }

    /// There are messages, says an event handler.
    pub(super) fn tell_of_mail(self: &Arc<Self>) {
        self.mail.store(1, Release);
        if self.services.inline.call() {
            // It may have to wait for the CPU.
            let _ = work::queue().enqueue_delayed::<_, 1>(self.clone(), 1);
        } else {
            self.schedule();
        }
    }

    /// Whether there are messages that nobody has taken; now somebody has.
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

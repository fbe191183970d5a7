// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Control ring: fixed-size messages in both directions, on the control page.
//!
//! Its lines have the form of a channel's and count slots instead of bytes, so that
//! [`Producer`] and [`Consumer`] serve here too; this file only moves slots. The meaning of a
//! slot is [`super::wire`]'s. PROTOCOL.md section 6.5.

use super::error::Violation;
use super::mem::SharedMem;
use super::ring::{Consumer, Producer};
use super::role::Role;
use super::wire::{page, Slot};

/// Offset of a word of a slot in the control page; `slot` is below [`page::SLOTS`].
const fn word(slots: u32, slot: u32, word: u32) -> u32 {
    slots
        .wrapping_add(slot.wrapping_mul(page::SLOT))
        .wrapping_add(word.wrapping_mul(4))
}

/// One side's ends of the control ring: the producer of one direction, the consumer of the
/// other.
#[derive(Debug)]
pub struct ControlRing {
    role: Role,
    tx: Producer,
    rx: Consumer,
}

impl ControlRing {
    /// The ends of a new control ring, on a zeroed page.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            tx: Producer::new(page::SLOTS),
            rx: Consumer::new(page::SLOTS),
        }
    }

    /// Sends a message. `Ok(None)`: no slot is free. `Ok(Some(notify))`: it is sent, and the
    /// peer must be notified if `notify`.
    ///
    /// # Errors
    /// [`Violation::ConsumerIndex`].
    pub fn send<M: SharedMem>(&mut self, mem: &M, slot: &Slot) -> Result<Option<bool>, Violation> {
        let lines = self.role.control_lines();
        if self.tx.free_seen() == 0 && self.tx.free(mem, lines)? == 0 {
            return Ok(None);
        }
        let at = self.tx.next(1).at;
        for (i, value) in (0u32..).zip(slot.iter()) {
            mem.store(word(self.role.slots(), at, i), *value);
        }
        Ok(Some(self.tx.publish(mem, lines, 1)))
    }

    /// Whether there is a message to receive.
    ///
    /// # Errors
    /// [`Violation::ProducerIndex`].
    pub fn has_message<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        Ok(self.rx.available_seen() > 0 || self.rx.available(mem, self.role.control_lines())? > 0)
    }

    /// This side's producer index: the number of messages sent, modulo 2^32.
    pub const fn sent(&self) -> u32 {
        self.tx.published()
    }

    /// This side's consumer index: the number of messages received, modulo 2^32.
    pub const fn taken(&self) -> u32 {
        self.rx.released()
    }

    /// Receives the next message: a private copy of its slot, and whether the peer must be
    /// notified that a slot became free. `Ok(None)`: there is no message.
    ///
    /// # Errors
    /// [`Violation::ProducerIndex`].
    pub fn receive<M: SharedMem>(&mut self, mem: &M) -> Result<Option<(Slot, bool)>, Violation> {
        let lines = self.role.control_lines();
        if !self.has_message(mem)? {
            return Ok(None);
        }
        let at = self.rx.next(1).at;
        let mut slot = [0; 16];
        for (i, value) in (0u32..).zip(slot.iter_mut()) {
            *value = mem.load(word(self.role.peer().slots(), at, i));
        }
        Ok(Some((slot, self.rx.release(mem, lines, 1))))
    }

    /// Asks the peer for an event at the next message. Whether there is one already.
    ///
    /// # Errors
    /// [`Violation::ProducerIndex`].
    pub fn arm_receive<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        self.rx.arm(mem, self.role.control_lines())
    }

    /// Asks the peer for an event when slots become free. Whether some are free already.
    ///
    /// # Errors
    /// [`Violation::ConsumerIndex`].
    pub fn arm_send<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        self.tx.arm(mem, self.role.control_lines(), 1)
    }
}

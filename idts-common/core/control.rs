// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The control ring: fixed-size messages both ways, on the control page.
//!
//! Its index words have the form of a channel's lines and count slots instead
//! of bytes, so [`Producer`] and [`Consumer`] serve here too; this file only
//! moves slots. PROTOCOL.md section 6.

use super::error::Violation;
use super::mem::SharedMem;
use super::ring::{Consumer, Producer};
use super::role::Role;
use super::wire::{page, Slot};

/// Offset of a word of a slot; `slot` is below [`page::SLOTS`].
const fn word(slots: u32, slot: u32, word: u32) -> u32 {
    slots
        .wrapping_add(slot.wrapping_mul(page::SLOT))
        .wrapping_add(word.wrapping_mul(4))
}

/// Both ends of the control ring that one side has.
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

    /// Sends a message. `Ok(None)`: no slot is free; `Ok(Some(notify))`: sent.
    pub fn send<M: SharedMem>(&mut self, mem: &M, slot: &Slot) -> Result<Option<bool>, Violation> {
        let lines = self.role.lines();
        if self.tx.free_seen() == 0 && self.tx.free(mem, lines)? == 0 {
            return Ok(None);
        }
        let at = self.tx.next(1).at;
        for (i, value) in (0u32..).zip(slot.iter()) {
            mem.store(word(self.role.slots(), at, i), *value);
        }
        Ok(Some(self.tx.publish(mem, lines, 1)))
    }

    /// Whether there is a message to take.
    pub fn has_message<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        Ok(self.rx.available_seen() > 0 || self.rx.available(mem, self.role.lines())? > 0)
    }

    /// This side's own producer index.
    pub const fn sent(&self) -> u32 {
        self.tx.published()
    }

    /// This side's own consumer index.
    pub const fn taken(&self) -> u32 {
        self.rx.released()
    }

    /// Takes the next message: a private copy of its slot, and whether to
    /// notify the peer that a slot became free.
    pub fn receive<M: SharedMem>(&mut self, mem: &M) -> Result<Option<(Slot, bool)>, Violation> {
        let lines = self.role.lines();
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

    /// Asks for an event at the next message; says whether one is there.
    pub fn arm_receive<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        self.rx.arm(mem, self.role.lines())
    }

    /// Asks for an event when slots become free; says whether some are.
    pub fn arm_send<M: SharedMem>(&mut self, mem: &M) -> Result<bool, Violation> {
        self.tx.arm(mem, self.role.lines(), 1)
    }
}

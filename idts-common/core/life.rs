// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Life of a channel: who has a number, and what both sides said about it.
//!
//! Owns a number's generations, and the order in which a channel is opened,
//! answered and closed. Its slices, and those who use it, are left to others.
//! PROTOCOL.md sections 8.1 and 8.2.

use super::error::Violation;

/// What an OPEN still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: it was answered, or is an answer itself.
    Given,
    /// The peer's answer.
    Awaited,
    /// Ours.
    Owed,
}

/// What both sides said about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    answer: Answer,
    closed: bool,
    peer_closed: bool,
}

/// A number, which channels have one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number {
    /// Of the channel that has it, or had it last.
    generation: u32,
    life: Option<Life>,
}

impl Number {
    /// Whether no channel has it.
    pub const fn is_free(&self) -> bool {
        self.life.is_none()
    }

    /// The generation of the channel that has it next.
    pub const fn next(&self) -> u32 {
        self.generation.wrapping_add(1)
    }

    /// A channel of this generation, which must be the next, takes the number.
    pub fn open(&mut self, generation: u32, answer: Answer) -> Result<(), Violation> {
        if !self.is_free() {
            return Err(Violation::ChannelId);
        }
        if generation != self.next() {
            return Err(Violation::Generation);
        }
        self.generation = generation;
        self.life = Some(Life {
            answer,
            closed: false,
            peer_closed: false,
        });
        Ok(())
    }

    fn life(&mut self, generation: u32) -> Result<&mut Life, Violation> {
        let life = self.life.as_mut().ok_or(Violation::ChannelId)?;
        if generation != self.generation {
            return Err(Violation::Generation);
        }
        Ok(life)
    }

    /// Whether the channel of this generation has the number.
    pub fn has(&self, generation: u32) -> bool {
        !self.is_free() && generation == self.generation
    }

    /// The peer answers the OPEN. If it refuses, [`Self::free`] comes next.
    pub fn answered(&mut self, generation: u32) -> Result<(), Violation> {
        let life = self.life(generation)?;
        if life.answer != Answer::Awaited {
            return Err(Violation::MessageOrder);
        }
        life.answer = Answer::Given;
        Ok(())
    }

    /// We answer the OPEN. False if the channel is no more. If we refuse,
    /// [`Self::free`] comes next.
    pub fn answer(&mut self, generation: u32) -> bool {
        let life = self.life(generation);
        life.map(|life| life.answer = Answer::Given).is_ok()
    }

    /// We are done with the channel. `None` if we were before, or it is no more:
    /// nothing is said then. Otherwise whether the peer is done too;
    /// [`Self::free`] comes next then.
    pub fn close(&mut self, generation: u32) -> Option<bool> {
        let life = self.life(generation).ok().filter(|life| !life.closed)?;
        life.closed = true;
        Some(life.peer_closed)
    }

    /// The peer is done with the channel. Whether we are too; [`Self::free`] comes
    /// next then.
    pub fn peer_closed(&mut self, generation: u32) -> Result<bool, Violation> {
        let life = self.life(generation)?;
        if life.peer_closed || life.answer != Answer::Given {
            return Err(Violation::MessageOrder);
        }
        life.peer_closed = true;
        Ok(life.closed)
    }

    /// The channel is no more, or never was: its OPEN was refused.
    pub fn free(&mut self) {
        self.life = None;
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Queues of a tunnel, and the allocation of channel numbers to them.
//!
//! Each queue has an event channel, a doorbell summary and whole double words of doorbells
//! of its own, so that handlers that run at the same time on different CPUs never share a
//! word. Sending and handling events is the drivers'. PROTOCOL.md section 6.4.

use core::num::NonZeroU32;

use super::wire::{CHANNELS, QUEUES};

/// Channels of a double word of doorbells.
const WORD: u32 = 64;
/// Double words of doorbells.
const WORDS: u32 = CHANNELS / WORD;

/// The queues of a tunnel.
///
/// # Invariants
/// There are 1 to [`QUEUES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues(NonZeroU32);

impl Queues {
    /// One queue, the number without the feature ([`super::negotiation::feature::QUEUES`]).
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// `count` queues. `None`: there are none, or more than [`QUEUES`].
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(n) if count <= QUEUES => Some(Self(n)),
            _ => None,
        }
    }

    /// The number of queues.
    pub const fn count(self) -> u32 {
        self.0.get()
    }

    /// The queue of a channel.
    #[inline]
    pub fn of(self, id: u32) -> u32 {
        if self == Self::ONE {
            return 0;
        }
        (id % CHANNELS / WORD) % self.0
    }

    /// The double words of doorbells that belong to a queue, a bit for each.
    pub fn words(self, queue: u32) -> u64 {
        let ours = |w: &u32| *w % self.0 == queue;
        let bit = |w: u32| 1u64.wrapping_shl(w);
        (0..WORDS).filter(ours).fold(0, |all, w| all | bit(w))
    }
}

/// The channel numbers in use, so that new channels are spread evenly over the queues.
///
/// # Invariants
/// `used` has for each queue the number of its bits that are set in `taken`.
#[derive(Clone, Copy, Debug)]
pub struct ChannelIds {
    queues: Queues,
    used: [u32; QUEUES as usize],
    /// A bit for each number, laid out as the doorbells are.
    taken: [u64; WORDS as usize],
}

/// The channel number of the lowest bit that is set in `bits`, which belong to word `w`.
fn lowest(w: u32, bits: u64) -> Option<u32> {
    let number = w.wrapping_mul(WORD).wrapping_add(bits.trailing_zeros());
    (bits != 0).then_some(number)
}

impl ChannelIds {
    /// No number is in use.
    pub const fn new(queues: Queues) -> Self {
        Self {
            queues,
            used: [0; QUEUES as usize],
            taken: [0; WORDS as usize],
        }
    }

    /// Sets whether a number is in use. False: nothing changed.
    fn mark(&mut self, id: u32, taken: bool) -> bool {
        let bit = 1u64.wrapping_shl(id % WORD);
        let Some(word) = self.taken.get_mut((id / WORD) as usize) else {
            return false;
        };
        let was = *word & bit != 0;
        *word = if taken { *word | bit } else { *word & !bit };
        was != taken
    }

    /// Marks a number as in use.
    pub fn insert(&mut self, id: u32) {
        if self.mark(id, true) {
            if let Some(used) = self.used.get_mut(self.queues.of(id) as usize) {
                *used = used.saturating_add(1);
            }
        }
    }

    /// Marks a number as free.
    pub fn remove(&mut self, id: u32) {
        if self.mark(id, false) {
            if let Some(used) = self.used.get_mut(self.queues.of(id) as usize) {
                *used = used.saturating_sub(1);
            }
        }
    }

    /// The free numbers of word `w`, a bit for each. Number 0 is the control ring's and never free.
    fn free(&self, w: u32) -> u64 {
        let taken = self.taken.get(w as usize).copied().unwrap_or(u64::MAX);
        !(taken | u64::from(w == 0))
    }

    /// How many numbers of a queue are in use.
    pub fn in_queue(&self, queue: u32) -> u32 {
        self.used.get(queue as usize).copied().unwrap_or(0)
    }

    /// How many numbers of all queues are in use.
    pub fn in_use(&self) -> u32 {
        self.used.iter().fold(0, |all, n| all.saturating_add(*n))
    }

    /// A free number: the lowest one of the queue with the fewest channels; if that has none
    /// left, the lowest one of all. It stays free until [`Self::insert`].
    pub fn next_free(&self) -> Option<u32> {
        let queues = 0..self.queues.count();
        let least = queues.min_by_key(|q| self.in_queue(*q)).unwrap_or(0);
        let ours = (least..WORDS).step_by(self.queues.count() as usize);
        let first = |w| lowest(w, self.free(w));
        ours.chain(0..WORDS).find_map(first)
    }

    /// The lowest even number that is free together with the one after it: a loopback channel
    /// has one for each end.
    pub fn next_free_pair(&self) -> Option<u32> {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let first = |w| {
            let free = self.free(w);
            lowest(w, free & free.wrapping_shr(1) & EVEN)
        };
        (0..WORDS).find_map(first)
    }
}

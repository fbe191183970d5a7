// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Queues: over which event channel the events of a channel go.
//!
//! A tunnel has an event channel for each of its queues. Whole double words of
//! doorbells belong to a queue, each queue has a summary of its own, so that
//! handlers that run at the same time never look at the same words. Sending and
//! handling events is left to others. PROTOCOL.md section 6.4.

use core::num::NonZeroU32;

use super::wire::{CHANNELS, QUEUES};

/// Channels of a double word of doorbells.
const WORD: u32 = 64;
/// Double words of doorbells.
const WORDS: u32 = CHANNELS / WORD;

/// The queues of a tunnel: how many there are, and what belongs to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues(NonZeroU32);

impl Queues {
    /// One: all that a tunnel has without the feature.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// So many, 1 to [`QUEUES`].
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(n) if count <= QUEUES => Some(Self(n)),
            _ => None,
        }
    }

    /// How many there are.
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

    /// The words of doorbells that belong to a queue, a bit for each.
    pub fn words(self, queue: u32) -> u64 {
        let ours = |w: &u32| *w % self.0 == queue;
        let bit = |w: u32| 1u64.wrapping_shl(w);
        (0..WORDS).filter(ours).fold(0, |all, w| all | bit(w))
    }
}

/// Which numbers channels have, and how many each queue has.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    queues: Queues,
    used: [u32; QUEUES as usize],
    /// A bit for each number, as in the doorbells.
    taken: [u64; WORDS as usize],
}

/// The number of the lowest bit of word `w`.
fn lowest(w: u32, bits: u64) -> Option<u32> {
    let number = w.wrapping_mul(WORD).wrapping_add(bits.trailing_zeros());
    (bits != 0).then_some(number)
}

impl Spread {
    /// No channels yet.
    pub const fn new(queues: Queues) -> Self {
        Self {
            queues,
            used: [0; QUEUES as usize],
            taken: [0; WORDS as usize],
        }
    }

    /// Notes whether a number is taken. False if it was so before.
    fn mark(&mut self, id: u32, taken: bool) -> bool {
        let bit = 1u64.wrapping_shl(id % WORD);
        let Some(word) = self.taken.get_mut((id / WORD) as usize) else {
            return false;
        };
        let was = *word & bit != 0;
        *word = if taken { *word | bit } else { *word & !bit };
        was != taken
    }

    /// Channel `id` came to be.
    pub fn add(&mut self, id: u32) {
        if self.mark(id, true) {
            if let Some(used) = self.used.get_mut(self.queues.of(id) as usize) {
                *used = used.saturating_add(1);
            }
        }
    }

    /// Channel `id` is no more.
    pub fn remove(&mut self, id: u32) {
        if self.mark(id, false) {
            if let Some(used) = self.used.get_mut(self.queues.of(id) as usize) {
                *used = used.saturating_sub(1);
            }
        }
    }

    /// The free numbers of a word, as bits; the control ring's is not free.
    fn free(&self, w: u32) -> u64 {
        let taken = self.taken.get(w as usize).copied().unwrap_or(u64::MAX);
        !(taken | u64::from(w == 0))
    }

    /// Channels of a queue.
    pub fn channels(&self, queue: u32) -> u32 {
        self.used.get(queue as usize).copied().unwrap_or(0)
    }

    /// Channels of all queues.
    pub fn total(&self) -> u32 {
        self.used.iter().fold(0, |all, n| all.saturating_add(*n))
    }

    /// The number for a new channel: the lowest free one of the queue that has
    /// the fewest channels; of another if that has none.
    pub fn next(&self) -> Option<u32> {
        let queues = 0..self.queues.count();
        let least = queues.min_by_key(|q| self.channels(*q)).unwrap_or(0);
        let ours = (least..WORDS).step_by(self.queues.count() as usize);
        let first = |w| lowest(w, self.free(w));
        ours.chain(0..WORDS).find_map(first)
    }

    /// The lowest even number that is free with the one after it.
    pub fn next_pair(&self) -> Option<u32> {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let first = |w| {
            let free = self.free(w);
            lowest(w, free & free.wrapping_shr(1) & EVEN)
        };
        (0..WORDS).find_map(first)
    }
}

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

    /// The numbers of a queue's channels, from the lowest; not the control
    /// ring's.
    fn numbers(self, queue: u32) -> impl Iterator<Item = u32> {
        (queue..WORDS)
            .step_by(self.0.get() as usize)
            .flat_map(|w| {
                let first = w.wrapping_mul(WORD);
                first..first.wrapping_add(WORD)
            })
            .skip_while(|id| *id == 0)
    }
}

/// How many channels each queue has.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    queues: Queues,
    used: [u32; QUEUES as usize],
}

impl Spread {
    /// No channels yet.
    pub const fn new(queues: Queues) -> Self {
        Self {
            queues,
            used: [0; QUEUES as usize],
        }
    }

    fn used_mut(&mut self, id: u32) -> Option<&mut u32> {
        self.used.get_mut(self.queues.of(id) as usize)
    }

    /// Channel `id` came to be.
    pub fn add(&mut self, id: u32) {
        if let Some(used) = self.used_mut(id) {
            *used = used.saturating_add(1);
        }
    }

    /// Channel `id` is no more.
    pub fn remove(&mut self, id: u32) {
        if let Some(used) = self.used_mut(id) {
            *used = used.saturating_sub(1);
        }
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
    pub fn next(&self, is_free: impl Fn(u32) -> bool) -> Option<u32> {
        let queues = 0..self.queues.count();
        let least = queues.min_by_key(|q| self.channels(*q)).unwrap_or(0);
        let lowest = self.queues.numbers(least).find(|id| is_free(*id));
        lowest.or_else(|| (1..CHANNELS).find(|id| is_free(*id)))
    }
}

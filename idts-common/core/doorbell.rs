// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Doorbells: a bitmap of two levels that tells which channels an event is about.
//!
//! Before it sends an event, the sender sets the channel's bit in a word and the word's bit
//! in the summary. The receiver clears the summary, then the words. A bit is only a hint,
//! because the peer can set any: [`super::spurious`] classifies what it brought.
//! PROTOCOL.md section 6.4.

use super::mem::SharedMem;
use super::wire;

/// Position of a queue's doorbells of one direction in the control page: a summary of its
/// own, and the words of all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Byte offset of the summary double word.
    pub summary: u32,
    /// Byte offset of the first of 64 double words.
    pub words: u32,
}

impl Doorbell {
    const fn word(self, index: u32) -> u32 {
        self.words.wrapping_add(index.wrapping_mul(8))
    }

    /// Sender: marks channel `id`. The caller sends the event afterwards.
    pub fn ring<M: SharedMem>(self, mem: &M, id: u32) {
        let id = id % wire::CHANNELS;
        let word = id / 64;
        // ORDER doorbell: pairs with take. The word is set before the summary, so that the
        // receiver finds the word's bit when it has taken the summary's.
        // wrapping_shl takes the count modulo 64.
        mem.or64(self.word(word), 1u64.wrapping_shl(id));
        mem.or64(self.summary, 1u64.wrapping_shl(word));
    }

    /// Receiver: clears all marks in the words of this queue, which have their bits in `ours`,
    /// and calls `marked` with the number and the former marks of each word that had some.
    pub fn take<M: SharedMem>(self, mem: &M, ours: u64, mut marked: impl FnMut(u32, u64)) {
        // ORDER doorbell: pairs with ring.
        let summary = mem.swap64(self.summary, 0) & ours;
        each_bit(summary, |word| {
            marked(word, mem.swap64(self.word(word), 0));
        });
    }
}

/// Calls `f` with the number of each bit that is set, from the lowest on.
pub fn each_bit(mut bits: u64, mut f: impl FnMut(u32)) {
    while bits != 0 {
        f(bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Doorbells: which channels have news, as a bitmap of two levels.
//!
//! Before an event is sent, the sender sets the channel's bit in a word and the
//! word's bit in the summary. The receiver takes the summary, then the words.
//! A bit is a hint and nothing else: what came of it is judged by
//! [`super::spurious`]. PROTOCOL.md section 6.

use super::mem::SharedMem;
use super::wire;

/// A queue's doorbells in one direction: where its summary lies, and where the
/// words of all queues do.
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

    /// Marks channel `id`. The caller then sends the event.
    pub fn ring<M: SharedMem>(self, mem: &M, id: u32) {
        let id = id % wire::CHANNELS;
        let word = id / 64;
        // ORDER doorbell: pairs with take. The word before the summary, so that
        // a summary bit is never taken before its word's bit is there.
        // The shift counts modulo the bits of the word.
        mem.or64(self.word(word), 1u64.wrapping_shl(id));
        mem.or64(self.summary, 1u64.wrapping_shl(word));
    }

    /// Takes all marks in the words `ours`, a bit for each, and calls `news` with the
    /// number of each marked word and its marks.
    pub fn take<M: SharedMem>(self, mem: &M, ours: u64, mut news: impl FnMut(u32, u64)) {
        // ORDER doorbell: pairs with ring.
        let summary = mem.swap64(self.summary, 0) & ours;
        each(summary, |word| {
            news(word, mem.swap64(self.word(word), 0));
        });
    }
}

/// Calls `f` with the number of each bit that is set, from the lowest.
pub fn each(mut bits: u64, mut f: impl FnMut(u32)) {
    while bits != 0 {
        f(bits.trailing_zeros());
        bits &= bits.wrapping_sub(1);
    }
}

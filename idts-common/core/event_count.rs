// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Event count: one word on which several tasks sleep until something happens.
//!
//! Bit 0 says that a task waits; the bits above are the epoch, which grows with each
//! notification. A waiter reads the epoch, arms the word, checks its condition once more,
//! and sleeps while the epoch is unchanged. It must not sleep while the word is *armed*:
//! another waiter may have armed it again for a later event. The functions compute words
//! only; atomic updates and sleeping are the caller's (`Armed` in the kernel crate).

/// A task waits.
const ARMED: u32 = 1;

/// The word with a waiter noted.
pub const fn arm(word: u32) -> u32 {
    word | ARMED
}

/// Whether a task waits, so that an event must wake it.
pub const fn has_waiters(word: u32) -> bool {
    word & ARMED != 0
}

/// The word after all waiters were notified: the next epoch, unarmed. `None` if no task waits.
pub const fn notified(word: u32) -> Option<u32> {
    if has_waiters(word) {
        Some(word.wrapping_add(1))
    } else {
        None
    }
}

/// The number of notifications so far, modulo 2^31.
pub const fn epoch(word: u32) -> u32 {
    word >> 1
}

/// The armed word of an epoch: what the word is while a waiter of that epoch must sleep.
pub const fn armed_at(epoch: u32) -> u32 {
    epoch << 1 | ARMED
}

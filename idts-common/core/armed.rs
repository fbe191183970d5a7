// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The word by which several wait for one kind of news: whether somebody is to be
//! told, and how often those who waited were.
//!
//! Whoever wants to be told notes the count, arms the word, looks, and sleeps while
//! the count is what it was. Not while the word is armed: another may have armed it
//! again by then, for something else.

/// Somebody waits.
const ARMED: u32 = 1;

/// A word that is armed.
pub const fn armed(word: u32) -> u32 {
    word | ARMED
}

/// Whether somebody is to be told.
pub const fn is_armed(word: u32) -> bool {
    word & ARMED != 0
}

/// The word once all who wait were told; none if nobody waits.
pub const fn told(word: u32) -> Option<u32> {
    if is_armed(word) {
        Some(word.wrapping_add(1))
    } else {
        None
    }
}

/// How often somebody was told.
pub const fn count(word: u32) -> u32 {
    word >> 1
}

/// The word of somebody who noted `count` and waits.
pub const fn waiting(count: u32) -> u32 {
    count << 1 | ARMED
}

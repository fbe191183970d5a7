// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How often something may be done for a peer: so many times at once, then one
//! at a time.
//!
//! A bucket of tokens in one word: the moment at which it is full again, if
//! nobody takes another one. Clocks, and how the word is kept, are left to the
//! caller.

/// Tokens that a bucket holds, and the time in which it gains one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tokens of a full bucket; 0 counts as 1.
    pub burst: u32,
    /// Nanoseconds to one token; 0: there is always one.
    pub every_ns: u64,
}

impl Pace {
    /// Nanoseconds until there is a token, in a bucket that is full at `full_at`.
    pub fn wait(self, full_at: u64, now: u64) -> u64 {
        let others = u64::from(self.burst.max(1)).wrapping_sub(1);
        let room = self.every_ns.saturating_mul(others);
        full_at.saturating_sub(now).saturating_sub(room)
    }

    /// When the bucket is full again once a token was taken; none: it has none.
    pub fn take(self, full_at: u64, now: u64) -> Option<u64> {
        (self.wait(full_at, now) == 0).then(|| full_at.max(now).saturating_add(self.every_ns))
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Token bucket: so many actions at once, then one each interval.
//!
//! The state is one word, which the caller keeps: the time at which the bucket is full if no
//! more tokens are taken (the generic cell rate algorithm). The clock is the caller's, too.

/// Size and rate of a bucket.
///
/// ```
/// use idts_core::token_bucket::TokenBucket;
///
/// let bucket = TokenBucket { burst: 2, interval_ns: 10 };
/// let mut full_at = 0;
/// for _ in 0..2 {
///     full_at = bucket.take(full_at, 100).unwrap();
/// }
/// assert_eq!(bucket.take(full_at, 100), None);
/// assert_eq!(bucket.wait(full_at, 100), 10);
/// assert!(bucket.take(full_at, 110).is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Tokens of a full bucket; 0 counts as 1.
    pub burst: u32,
    /// Nanoseconds in which one token is added; 0: the bucket is never empty.
    pub interval_ns: u64,
}

impl TokenBucket {
    /// Nanoseconds until a token can be taken from a bucket that is full at `full_at`.
    pub fn wait(self, full_at: u64, now: u64) -> u64 {
        let others = u64::from(self.burst.max(1)).wrapping_sub(1);
        let room = self.interval_ns.saturating_mul(others);
        full_at.saturating_sub(now).saturating_sub(room)
    }

    /// Takes a token. `Some`: the new time at which the bucket is full. `None`: it is empty.
    pub fn take(self, full_at: u64, now: u64) -> Option<u64> {
        (self.wait(full_at, now) == 0).then(|| full_at.max(now).saturating_add(self.interval_ns))
    }
}

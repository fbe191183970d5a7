// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Token bucket of bytes, for a cap.
//!
//! Its state is one number: the time at which it was, or will be, empty. It fills with `rate`
//! bytes a second, up to a burst. Rounding is to the payer's disadvantage, by less than a
//! nanosecond for each payment.

use super::limits::{QUANTUM, RATE_MAX};
use zerocopy_derive::FromZeros;

const SECOND: u64 = 1_000_000_000;
/// Part of a second whose tokens a bucket must hold before a flow is ready, so that the bytes are
/// worth the wake-up.
const CHUNKS: u64 = 256;
/// Part of a second whose tokens a full bucket holds, so that a timer that fires some ticks late
/// loses none.
const BURSTS: u64 = 20;

/// A token bucket.
#[derive(Clone, Copy, Debug, FromZeros)]
pub(super) struct Bucket {
    /// Bytes a second; 0: no cap.
    rate: u64,
    /// Time at which it was empty; in the future while it is in debt.
    empty_at: u64,
}

impl Bucket {
    /// No cap.
    pub(super) const NONE: Self = Self {
        rate: 0,
        empty_at: 0,
    };

    pub(super) const fn rate(&self) -> u64 {
        self.rate
    }

    pub(super) const fn is_capped(&self) -> bool {
        self.rate != 0
    }

    /// Sets the rate. Another rate starts with an empty bucket without debt; the same one changes
    /// nothing.
    pub(super) fn set(&mut self, rate: u64, now: u64) {
        let rate = rate.min(RATE_MAX);
        if rate != self.rate {
            *self = Self {
                rate,
                empty_at: now,
            };
        }
    }

    /// Nanoseconds in which `bytes` flow in, rounded down, and the remainder.
    fn time(&self, bytes: u64) -> (u64, u64) {
        let product = bytes.saturating_mul(SECOND);
        let whole = product.checked_div(self.rate).unwrap_or(0);
        (whole, product.checked_rem(self.rate).unwrap_or(0))
    }

    /// As [`Self::time`], rounded up.
    fn time_up(&self, bytes: u64) -> u64 {
        let (whole, rest) = self.time(bytes);
        whole.saturating_add((rest != 0).into())
    }

    /// Nanoseconds in which it fills.
    fn depth(&self) -> u64 {
        self.time(u64::from(QUANTUM).max(self.rate / BURSTS)).0
    }

    /// Time from which on it holds enough to serve a flow.
    pub(super) fn ready_at(&self) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        let chunk = (self.rate / CHUNKS).clamp(1, QUANTUM.into());
        self.empty_at.saturating_add(self.time_up(chunk))
    }

    /// Bytes that it holds at `now`.
    pub(super) fn tokens(&self, now: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let age = now.saturating_sub(self.empty_at).min(self.depth());
        age.saturating_mul(self.rate) / SECOND
    }

    /// Takes bytes; it goes into debt for those that it does not hold.
    pub(super) fn spend(&mut self, bytes: u32, now: u64) {
        if self.rate != 0 {
            let full = now.saturating_sub(self.depth());
            let from = self.empty_at.max(full);
            self.empty_at = from.saturating_add(self.time_up(bytes.into()));
        }
    }

    /// Puts bytes back.
    pub(super) fn refund(&mut self, bytes: u32) {
        self.empty_at = self.empty_at.saturating_sub(self.time(bytes.into()).0);
    }

    /// Corrects a payment of `budget` to the `used` bytes.
    pub(super) fn settle(&mut self, budget: u32, used: u32, now: u64) {
        self.refund(budget.saturating_sub(used));
        self.spend(used.saturating_sub(budget), now);
    }
}

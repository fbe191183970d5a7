// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Free-running 32-bit indices, and the one exit from a peer's value to ours.
//!
//! Indices count bytes (or slots) since the ring was made, modulo 2^32. Nothing
//! here can overflow or divide by zero, whatever the values.

use super::error::Violation;

/// A word as read from memory that the peer writes: usable only after a check.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Untrusted(u32);

impl Untrusted {
    /// Wraps a value that was just read, once, from shared memory.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Accepts the peer's producer index.
    ///
    /// `seen` is the last accepted one and `cons` our own consumer index: the
    /// new index lies between `seen` and `cons + size`.
    pub const fn as_producer(self, seen: u32, cons: u32, size: u32) -> Result<u32, Violation> {
        let fill = self.0.wrapping_sub(cons);
        if fill > size || fill < seen.wrapping_sub(cons) {
            return Err(Violation::ProducerIndex);
        }
        Ok(self.0)
    }

    /// Accepts the peer's consumer index.
    ///
    /// `seen` is the last accepted one and `prod` our own producer index: the
    /// new index lies between `seen` and `prod`.
    pub const fn as_consumer(self, seen: u32, prod: u32) -> Result<u32, Violation> {
        if prod.wrapping_sub(self.0) > prod.wrapping_sub(seen) {
            return Err(Violation::ConsumerIndex);
        }
        Ok(self.0)
    }

    /// Accepts a value that is not greater than `limit`.
    pub const fn at_most(self, limit: u32) -> Result<u32, Violation> {
        if self.0 > limit {
            return Err(Violation::MessageField);
        }
        Ok(self.0)
    }
}

/// Whether an index that moves from `old` to `new` passes `event`, that is,
/// whether `event` lies in (`old`, `new`]: the rule of Xen's
/// `RING_PUSH_*_AND_CHECK_NOTIFY` (xen/include/public/io/ring.h).
///
/// `event` may be any value, for it only decides over a notification.
pub const fn passes(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

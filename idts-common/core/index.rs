// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Free-running 32-bit indices, and the checks by which a peer's value becomes usable.
//!
//! An index counts bytes (or slots) since the ring was made, modulo 2^32. No value of any
//! argument makes the arithmetic here overflow. PROTOCOL.md section 6.1.

use super::error::Violation;

/// A word from memory that the peer can write. Its value can be had only through a check.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Untrusted(u32);

impl Untrusted {
    /// Wraps a value that was read once from shared memory.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// Checks the peer's producer index: it lies between `seen`, the last one accepted, and
    /// `cons + size`, where `cons` is the own consumer index.
    ///
    /// # Errors
    /// [`Violation::ProducerIndex`].
    pub const fn as_producer(self, seen: u32, cons: u32, size: u32) -> Result<u32, Violation> {
        let fill = self.0.wrapping_sub(cons);
        if fill > size || fill < seen.wrapping_sub(cons) {
            return Err(Violation::ProducerIndex);
        }
        Ok(self.0)
    }

    /// Checks the peer's consumer index: it lies between `seen`, the last one accepted, and
    /// `prod`, the own producer index.
    ///
    /// # Errors
    /// [`Violation::ConsumerIndex`].
    pub const fn as_consumer(self, seen: u32, prod: u32) -> Result<u32, Violation> {
        if prod.wrapping_sub(self.0) > prod.wrapping_sub(seen) {
            return Err(Violation::ConsumerIndex);
        }
        Ok(self.0)
    }

    /// Checks that the value is not greater than `limit`.
    ///
    /// # Errors
    /// `otherwise`.
    pub const fn at_most(self, limit: u32, otherwise: Violation) -> Result<u32, Violation> {
        if self.0 > limit {
            return Err(otherwise);
        }
        Ok(self.0)
    }
}

/// Whether an index that moves from `old` to `new` passes `event`, that is, whether `event` lies
/// in (`old`, `new`]: the rule of `RING_PUSH_*_AND_CHECK_NOTIFY` (xen/include/public/io/ring.h).
///
/// `event` may be any value of the peer's: it only decides whether the peer is notified.
pub const fn passes(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Access to memory that the peer can write at any moment.
//!
//! Rings, doorbells and the control ring use [`SharedMem`]. The kernel crate implements it over
//! granted pages; tests do over plain atomics, loom's atomics, and a peer that lies. There is
//! never a Rust reference into such memory: an access is one load, one store or one atomic
//! operation.

/// A range of shared memory, addressed by byte offset.
///
/// Callers derive offsets from constants and checked slices, so that they are multiples of the
/// access size and within the range. An implementation must neither fault nor panic at another
/// offset: it loads 0 and ignores stores.
pub trait SharedMem {
    /// Loads a word once, without ordering.
    fn load(&self, at: u32) -> u32;
    /// Loads a word once, before all later accesses (acquire).
    fn load_acquire(&self, at: u32) -> u32;
    /// Stores a word, without ordering.
    fn store(&self, at: u32, value: u32);
    /// Stores a word, after all earlier accesses (release).
    fn store_release(&self, at: u32, value: u32);
    /// Sets bits of a double word atomically, fully ordered.
    fn or64(&self, at: u32, bits: u64);
    /// Exchanges a double word atomically, fully ordered.
    fn swap64(&self, at: u32, value: u64) -> u64;
    /// A full memory barrier (`smp_mb()`).
    fn fence(&self);
}

impl<M: SharedMem + ?Sized> SharedMem for &M {
    fn load(&self, at: u32) -> u32 {
        (**self).load(at)
    }
    fn load_acquire(&self, at: u32) -> u32 {
        (**self).load_acquire(at)
    }
    fn store(&self, at: u32, value: u32) {
        (**self).store(at, value);
    }
    fn store_release(&self, at: u32, value: u32) {
        (**self).store_release(at, value);
    }
    fn or64(&self, at: u32, bits: u64) {
        (**self).or64(at, bits);
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        (**self).swap64(at, value)
    }
    fn fence(&self) {
        (**self).fence();
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Words of memory that the peer can write at any moment.
//!
//! Rings, doorbells and the control ring are written against [`SharedMem`]; the
//! kernel implements it over granted pages, tests over plain atomics, loom's
//! atomics, and a peer that lies. Nobody ever holds a reference into such
//! memory: every access is one load, one store or one atomic exchange.

/// A span of shared memory, addressed by byte offset.
///
/// Offsets are multiples of the access size and inside the span: callers
/// derive them from constants and checked slices. An implementation answers an
/// offset outside with zero (loads) or ignores it (stores): never a fault,
/// never a panic.
pub trait SharedMem {
    /// Reads a word once, with no ordering.
    fn load(&self, at: u32) -> u32;
    /// Reads a word once; later accesses stay behind it.
    fn load_acquire(&self, at: u32) -> u32;
    /// Writes a word, with no ordering.
    fn store(&self, at: u32, value: u32);
    /// Writes a word; earlier accesses stay before it.
    fn store_release(&self, at: u32, value: u32);
    /// Sets bits of a double word in one step, fully ordered.
    fn or64(&self, at: u32, bits: u64);
    /// Exchanges a double word in one step, fully ordered.
    fn swap64(&self, at: u32, value: u64) -> u64;
    /// A full barrier: no access moves across it in either direction.
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

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Shared memory for tests: plain atomics (loom's under `cfg(loom)`), a peer
//! that lies, and three that forget an ordering.
//!
//! Environment of all property tests: `PROPTEST_CASES=N` sets how many cases,
//! `PROPTEST_RNG_SEED=N` repeats a run. A failure prints its smallest input.

#![allow(dead_code, reason = "each test uses some of it")]

use idts_core::doorbell::{each_bit, Doorbell};
use idts_core::mem::SharedMem;
#[cfg(loom)]
use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering::*};
#[cfg(not(loom))]
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering::*};

/// Words and double words, apart: nothing in the protocol is accessed as both.
pub struct AtomicMem {
    words: Vec<AtomicU32>,
    doubles: Vec<AtomicU64>,
}

impl AtomicMem {
    /// `words` words from offset 0, `doubles` double words from offset 0.
    pub fn new(words: usize, doubles: usize) -> Self {
        Self {
            words: (0..words).map(|_| AtomicU32::new(0)).collect(),
            doubles: (0..doubles).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A whole page.
    pub fn page() -> Self {
        Self::new(1024, 512)
    }

    fn word(&self, at: u32) -> &AtomicU32 {
        assert_eq!(at % 4, 0, "misaligned word");
        &self.words[at as usize / 4]
    }

    fn double(&self, at: u32) -> &AtomicU64 {
        assert_eq!(at % 8, 0, "misaligned double word");
        &self.doubles[at as usize / 8]
    }
}

impl SharedMem for AtomicMem {
    fn load(&self, at: u32) -> u32 {
        self.word(at).load(Relaxed)
    }
    fn load_acquire(&self, at: u32) -> u32 {
        self.word(at).load(Acquire)
    }
    fn store(&self, at: u32, value: u32) {
        self.word(at).store(value, Relaxed);
    }
    fn store_release(&self, at: u32, value: u32) {
        self.word(at).store(value, Release);
    }
    fn or64(&self, at: u32, bits: u64) {
        self.double(at).fetch_or(bits, AcqRel);
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        self.double(at).swap(value, AcqRel)
    }
    fn fence(&self) {
        fence(SeqCst);
    }
}

/// What a [`Weak`] memory leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The full barriers: ORDER hold-off.
    Fence,
    /// Acquire and release: ORDER publish, release, end.
    Order,
    /// The order of exchanges: ORDER doorbell.
    Bell,
}

/// A memory that leaves something out, to see that the models notice.
pub struct Weak(pub AtomicMem, pub Without);

impl SharedMem for Weak {
    fn load(&self, at: u32) -> u32 {
        self.0.load(at)
    }
    fn load_acquire(&self, at: u32) -> u32 {
        match self.1 {
            Without::Order => self.0.load(at),
            Without::Fence | Without::Bell => self.0.load_acquire(at),
        }
    }
    fn store(&self, at: u32, value: u32) {
        self.0.store(at, value);
    }
    fn store_release(&self, at: u32, value: u32) {
        match self.1 {
            Without::Order => self.0.store(at, value),
            Without::Fence | Without::Bell => self.0.store_release(at, value),
        }
    }
    fn or64(&self, at: u32, bits: u64) {
        match self.1 {
            Without::Bell => drop(self.0.double(at).fetch_or(bits, Relaxed)),
            Without::Fence | Without::Order => self.0.or64(at, bits),
        }
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        match self.1 {
            Without::Bell => self.0.double(at).swap(value, Relaxed),
            Without::Fence | Without::Order => self.0.swap64(at, value),
        }
    }
    fn fence(&self) {
        if self.1 != Without::Fence {
            self.0.fence();
        }
    }
}

#[cfg(not(loom))]
#[allow(unused_imports, reason = "each test uses some of it")]
pub use evil::{Evil, Lie};

#[cfg(not(loom))]
mod evil {
    use super::{AtomicMem, SharedMem};
    use std::cell::Cell;

    /// What a load gives instead of what was stored.
    #[derive(Clone, Copy, Debug)]
    pub enum Lie {
        /// The truth.
        None,
        /// Any value.
        Any(u64),
        /// The truth and some more, or less.
        Near(i32),
    }

    /// A page whose every load a peer may answer as it likes.
    pub struct Evil {
        mem: AtomicMem,
        lies: Vec<Lie>,
        next: Cell<usize>,
    }

    impl Evil {
        pub fn new(lies: Vec<Lie>) -> Self {
            Self {
                mem: AtomicMem::page(),
                lies,
                next: Cell::new(0),
            }
        }

        fn lie(&self) -> Lie {
            let n = self.next.get();
            self.next.set(n + 1);
            let cycle = self.lies.len().max(1);
            self.lies.get(n % cycle).copied().unwrap_or(Lie::None)
        }

        fn bend(&self, truth: u32) -> u32 {
            match self.lie() {
                Lie::None => truth,
                Lie::Any(value) => value as u32,
                Lie::Near(by) => truth.wrapping_add_signed(by),
            }
        }
    }

    impl SharedMem for Evil {
        fn load(&self, at: u32) -> u32 {
            self.bend(self.mem.load(at))
        }
        fn load_acquire(&self, at: u32) -> u32 {
            self.bend(self.mem.load_acquire(at))
        }
        fn store(&self, at: u32, value: u32) {
            self.mem.store(at, value);
        }
        fn store_release(&self, at: u32, value: u32) {
            self.mem.store_release(at, value);
        }
        fn or64(&self, at: u32, bits: u64) {
            self.mem.or64(at, bits);
        }
        fn swap64(&self, at: u32, value: u64) -> u64 {
            let truth = self.mem.swap64(at, value);
            match self.lie() {
                Lie::Any(value) => value,
                Lie::None | Lie::Near(_) => truth,
            }
        }
        fn fence(&self) {
            self.mem.fence();
        }
    }
}

/// Takes all marks in the words `ours`, and calls `f` for each marked channel.
pub fn take<M: SharedMem>(bell: Doorbell, mem: &M, ours: u64, mut f: impl FnMut(u32)) {
    bell.take(mem, ours, |word, marks| {
        each_bit(marks, |bit| f(64 * word + bit))
    });
}

// SPDX-License-Identifier: GPL-2.0

//! Counters that any CPU counts up.

use kernel::sync::atomic::{Atomic, Relaxed};

/// A counter of events, monotonic, without order towards other memory.
pub struct Counter(Atomic<i64>);

impl Counter {
    /// Creates a counter at 0.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds `n`. Callable in any context.
    pub fn add(&self, n: u64) {
        self.0.add(n as i64, Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed) as u64
    }
}

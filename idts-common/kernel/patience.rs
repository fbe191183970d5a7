// SPDX-License-Identifier: GPL-2.0

//! How long a reader or a writer looks again before it sleeps.
//!
//! Falling asleep and being woken costs more than a short wait, so a short wait
//! is spent looking. The time adapts to whether that pays, as the kernel's halt
//! polling does (Documentation/virt/guest-halt-polling.rst); core/patience.rs
//! has the rule.

use idts_core::patience::{longest_ns, next_ns, SHORTEST_NS};
use kernel::sync::atomic::{Atomic, Relaxed};

use crate::bindings;

/// Looks between two glances at the clock.
const GLANCE: u32 = 16;

/// The longest look of this module, in nanoseconds; 0: never look.
static LONGEST_NS: Atomic<u32> = Atomic::new(0);

/// Sets the longest look of this module.
pub(crate) fn set_longest(us: u32) {
    LONGEST_NS.store(longest_ns(us), Relaxed);
}

/// Nanoseconds since some moment.
pub(crate) fn clock() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::idts_clock() }
}

/// How long one waiter looks before it sleeps.
pub(crate) struct Patience(Atomic<u32>);

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(SHORTEST_NS))
    }

    /// Looks until `ready`, or until the time is over or the CPU is wanted for
    /// something else. Says whether it became ready.
    pub(crate) fn look(&self, mut ready: impl FnMut() -> bool) -> bool {
        let ns = self.0.load(Relaxed).min(LONGEST_NS.load(Relaxed));
        if ns == 0 {
            return false;
        }
        // The clock is dear: a look that pays at once does without it.
        let mut end = None;
        loop {
            for _ in 0..GLANCE {
                if ready() {
                    return true;
                }
                core::hint::spin_loop();
            }
            let now = clock();
            let end = *end.get_or_insert(now.wrapping_add(ns.into()));
            // SAFETY: No requirements.
            if unsafe { bindings::idts_cpu_is_wanted() } || now > end {
                return false;
            }
        }
    }

    /// Sleeps with `sleep`, and learns from how long that was.
    pub(crate) fn learn<R>(&self, sleep: impl FnOnce() -> R) -> R {
        let longest = LONGEST_NS.load(Relaxed);
        if longest == 0 {
            return sleep();
        }
        let start = clock();
        let result = sleep();
        let slept = clock().wrapping_sub(start);
        self.0
            .store(next_ns(self.0.load(Relaxed), slept, longest), Relaxed);
        result
    }
}

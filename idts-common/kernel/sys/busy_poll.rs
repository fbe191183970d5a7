// SPDX-License-Identifier: GPL-2.0

//! How a reader or a writer waits: it looks again for a while, halts the CPU
//! where it stands, and only then sleeps.
//!
//! Falling asleep and being woken costs more than a short wait, so a short wait
//! is spent looking. The time adapts to whether that pays, as the kernel's halt
//! polling does (Documentation/virt/guest-halt-polling.rst); core/busy_poll.rs
//! has the rule. Halting in place is what the idle task does, without the switch
//! there and back, in which most of a sleep's cost lies under Xen. It costs no work
//! at all, but keeps the timer's tick: it is left out after a wait that outlasted
//! one. What it saves, and its price, is in tests/BENCH.md.

use idts_core::busy_poll::{max_ns, next_ns, MIN_NS};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

use crate::sys::bindings;
use crate::sys::clock::{clock, ticks};
use crate::sys::wait::Awaited;

/// Looks between two glances at the clock.
const GLANCE: u32 = 16;

/// The longest look of this module, in nanoseconds; 0: never look.
static LONGEST_NS: Atomic<u32> = Atomic::new(0);

/// Whether waiters of this module halt in place.
static HALTS: Atomic<bool> = Atomic::new(false);

/// How the waiters of a module wait.
#[derive(Clone, Copy)]
pub struct WaitParams {
    /// The longest look, in microseconds; 0: never look.
    pub poll_us: u32,
    /// Whether they halt in place where nothing else is to be run.
    pub halt: bool,
}

/// Sets how the waiters of this module wait.
pub(crate) fn set(waiting: WaitParams) {
    LONGEST_NS.store(max_ns(waiting.poll_us), Relaxed);
    HALTS.store(waiting.halt, Relaxed);
}

/// How one waiter waits.
pub(crate) struct BusyPoll {
    /// How long it looks.
    spin_ns: Atomic<u32>,
    /// Its last wait was over within a tick.
    halts: Atomic<bool>,
    /// When it had nothing to do, 0 otherwise: by the clock, and in ticks.
    since: Atomic<u64>,
    since_ticks: Atomic<usize>,
}

impl BusyPoll {
    pub(crate) const fn new() -> Self {
        Self {
            spin_ns: Atomic::new(MIN_NS),
            halts: Atomic::new(false),
            since: Atomic::new(0),
            since_ticks: Atomic::new(0),
        }
    }

    /// Looks until `ready`, or until the time is over or the CPU is wanted for
    /// something else. Says whether it became ready.
    pub(crate) fn spin(&self, mut ready: impl FnMut() -> bool) -> bool {
        let ns = self.spin_ns.load(Relaxed).min(LONGEST_NS.load(Relaxed));
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

    /// Waits for news that come by an event on `cpu`, with `sleep` at last, and
    /// learns from how long that was.
    pub(crate) fn block(
        &self,
        news: Awaited<'_>,
        cpu: u32,
        sleep: impl FnOnce() -> Result,
    ) -> Result {
        let longest = LONGEST_NS.load(Relaxed);
        if longest == 0 {
            return self.halt_or_sleep(news, cpu, sleep);
        }
        let start = clock();
        let result = self.halt_or_sleep(news, cpu, sleep);
        self.learn(clock().wrapping_sub(start), longest);
        result
    }

    /// Halts in place or sleeps.
    fn halt_or_sleep(&self, news: Awaited<'_>, cpu: u32, sleep: impl FnOnce() -> Result) -> Result {
        if !HALTS.load(Relaxed) {
            return sleep();
        }
        if self.may_halt() && news.armed.halt(news.seen, cpu) {
            return Ok(());
        }
        let start = ticks();
        let result = sleep();
        self.learn_ticks(start);
        result
    }

    /// Whether it is to halt in place before it sleeps.
    pub(crate) fn may_halt(&self) -> bool {
        HALTS.load(Relaxed) && self.halts.load(Relaxed)
    }

    /// Whether it looks at all.
    pub(crate) fn may_spin(&self) -> bool {
        self.spin_ns.load(Relaxed).min(LONGEST_NS.load(Relaxed)) > 0
    }

    /// A worker that waits by being called again has nothing to do.
    pub(crate) fn idle_begin(&self) {
        self.since_ticks.store(ticks().max(1), Relaxed);
        if LONGEST_NS.load(Relaxed) > 0 {
            self.since.store(clock().max(1), Relaxed);
        }
    }

    /// It was called again, and learns from how long that took.
    pub(crate) fn idle_end(&self) {
        let since = self.since.xchg(0, Relaxed);
        if since != 0 {
            self.learn(clock().wrapping_sub(since), LONGEST_NS.load(Relaxed));
        }
        let since = self.since_ticks.xchg(0, Relaxed);
        if since != 0 {
            self.learn_ticks(since);
        }
    }

    /// A sleep began at tick `start`, and is over.
    fn learn_ticks(&self, start: usize) {
        self.halts.store(ticks().wrapping_sub(start) <= 1, Relaxed);
    }

    /// After a look in vain, which is part of it, a wait took `waited`.
    fn learn(&self, waited: u64, longest: u32) {
        let ns = self.spin_ns.load(Relaxed);
        let all = waited.saturating_add(ns.into());
        self.spin_ns.store(next_ns(ns, all, longest), Relaxed);
    }
}

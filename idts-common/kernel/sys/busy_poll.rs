// SPDX-License-Identifier: GPL-2.0

//! How a task waits for the peer: it spins for a while, halts its CPU in place, and sleeps last.
//!
//! Falling asleep and being woken costs more than a short wait, so a short wait is spent
//! spinning. The time grows and shrinks with whether that pays, as the kernel's halt polling
//! does (Documentation/virt/guest-halt-polling.rst); `idts_core` has the rule. Halting in place
//! does what the idle task does without the switch there and back, in which most of a sleep's
//! cost lies under Xen. It takes no work from others but keeps the timer's tick running, so it
//! is left out after a wait that outlasted a tick. tests/BENCH.md has its gain and its price.

use idts_core::busy_poll::{max_ns, next_ns, MIN_NS};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

use crate::sys::bindings;
use crate::sys::clock::{clock, ticks};
use crate::sys::wait::Awaited;

/// Tries between two reads of the clock, which is dear.
const TRIES: u32 = 16;

/// The longest spin of this module, in nanoseconds; 0: never spin.
static MAX_NS: Atomic<u32> = Atomic::new(0);

/// Whether tasks that wait in this module may halt in place.
static HALT: Atomic<bool> = Atomic::new(false);

/// A module's parameters of waiting.
#[derive(Clone, Copy)]
pub struct WaitParams {
    /// The longest spin, in microseconds, capped by `idts_core`; 0: never spin.
    pub poll_us: u32,
    /// Whether to halt in place where nothing else is to be run.
    pub halt: bool,
}

/// Sets the parameters for all that waits in this module, from now on.
pub(crate) fn set(params: WaitParams) {
    MAX_NS.store(max_ns(params.poll_us), Relaxed);
    HALT.store(params.halt, Relaxed);
}

/// Adaptive state of one kind of wait: how long to spin, whether to halt in place.
///
/// Several tasks may share it. Its words are hints, so an update that gets lost costs nothing.
pub struct BusyPoll {
    /// How long the next wait spins, in nanoseconds, before [`MAX_NS`] caps it.
    spin_ns: Atomic<u32>,
    /// Whether the last wait was over within a tick.
    is_short: Atomic<bool>,
    /// When a worker went idle, by the clock; 0: it did not.
    idle_since: Atomic<u64>,
    /// The same in ticks.
    idle_since_ticks: Atomic<usize>,
}

impl BusyPoll {
    /// Creates one that knows nothing: it spins for the shortest time.
    pub const fn new() -> Self {
        Self {
            spin_ns: Atomic::new(MIN_NS),
            is_short: Atomic::new(false),
            idle_since: Atomic::new(0),
            idle_since_ticks: Atomic::new(0),
        }
    }

    /// Spins until `ready`, until the time is over, or until the CPU is wanted for something
    /// else or the task has a signal.
    ///
    /// Returns whether it became ready. The caller should hold no lock: others would spin, too.
    pub fn spin(&self, mut ready: impl FnMut() -> bool) -> bool {
        let ns = self.spin_ns.load(Relaxed).min(MAX_NS.load(Relaxed));
        if ns == 0 {
            return false;
        }
        // A spin that pays at once does without the clock.
        let mut end = None;
        loop {
            for _ in 0..TRIES {
                if ready() {
                    return true;
                }
                core::hint::spin_loop();
            }
            let now = clock();
            let end = *end.get_or_insert(now.wrapping_add(ns.into()));
            // SAFETY: The function reads the state of this CPU and of the current task.
            if unsafe { bindings::idts_cpu_is_wanted() } || now > end {
                return false;
            }
        }
    }

    /// Waits for what an event on `cpu` will tell, by halting in place or by `sleep`, and learns
    /// from how long that took.
    ///
    /// The caller has armed `awaited` and found nothing since. May return early, as `sleep` may:
    /// the caller looks again. Fails as `sleep` does.
    pub fn block(&self, awaited: Awaited<'_>, cpu: u32, sleep: impl FnOnce() -> Result) -> Result {
        let max = MAX_NS.load(Relaxed);
        if max == 0 {
            return self.halt_or_sleep(awaited, cpu, sleep);
        }
        let start = clock();
        let result = self.halt_or_sleep(awaited, cpu, sleep);
        self.learn(clock().wrapping_sub(start), max);
        result
    }

    /// Halts in place, and sleeps if that did not bring it.
    fn halt_or_sleep(
        &self,
        awaited: Awaited<'_>,
        cpu: u32,
        sleep: impl FnOnce() -> Result,
    ) -> Result {
        if !HALT.load(Relaxed) {
            return sleep();
        }
        if self.may_halt() && awaited.armed.halt(awaited.seen, cpu) {
            return Ok(());
        }
        let start = ticks();
        let result = sleep();
        self.learn_ticks(start);
        result
    }

    /// Returns whether the next wait may halt in place before it sleeps.
    pub fn may_halt(&self) -> bool {
        HALT.load(Relaxed) && self.is_short.load(Relaxed)
    }

    /// Returns whether the next wait spins at all.
    pub fn may_spin(&self) -> bool {
        self.spin_ns.load(Relaxed).min(MAX_NS.load(Relaxed)) > 0
    }

    /// Records that a worker goes idle; [`Self::idle_end`] measures the time.
    pub fn idle_begin(&self) {
        self.idle_since_ticks.store(ticks().max(1), Relaxed);
        if MAX_NS.load(Relaxed) > 0 {
            self.idle_since.store(clock().max(1), Relaxed);
        }
    }

    /// Records that an idle worker runs again, and learns from how long it was idle.
    pub fn idle_end(&self) {
        let since = self.idle_since.xchg(0, Relaxed);
        if since != 0 {
            self.learn(clock().wrapping_sub(since), MAX_NS.load(Relaxed));
        }
        let since = self.idle_since_ticks.xchg(0, Relaxed);
        if since != 0 {
            self.learn_ticks(since);
        }
    }

    /// Learns whether to halt in place from a sleep that began at tick `start`.
    fn learn_ticks(&self, start: usize) {
        self.is_short
            .store(ticks().wrapping_sub(start) <= 1, Relaxed);
    }

    /// Grows or shrinks the spin after a sleep of `slept` nanoseconds, before which a spin was
    /// in vain.
    fn learn(&self, slept: u64, max: u32) {
        let ns = self.spin_ns.load(Relaxed);
        let waited = slept.saturating_add(ns.into());
        self.spin_ns.store(next_ns(ns, waited, max), Relaxed);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The time: nanoseconds, and ticks of the timer.

use crate::sys::bindings;

/// Nanoseconds since boot, by the clock of this CPU (`local_clock()`).
///
/// Clocks of two CPUs may differ by less than a tick: compare with `wrapping_sub`, and expect a
/// difference that is a little below zero.
pub fn clock() -> u64 {
    // SAFETY: The function has no requirements.
    unsafe { bindings::idts_clock() }
}

/// Ticks of the timer (`jiffies`) since some moment; wraps.
pub(crate) fn ticks() -> usize {
    // SAFETY: An aligned word that lives for ever and that the kernel counts up.
    unsafe { (&raw const bindings::jiffies).read_volatile() }
}

// SPDX-License-Identifier: GPL-2.0

//! The time: nanoseconds, and ticks of the timer.

use crate::sys::bindings;

/// Nanoseconds since some moment.
pub fn clock() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::idts_clock() }
}

/// Ticks of the timer since some moment.
pub(crate) fn ticks() -> usize {
    // SAFETY: A word that the kernel counts up.
    unsafe { (&raw const bindings::jiffies).read_volatile() }
}

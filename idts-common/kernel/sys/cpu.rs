// SPDX-License-Identifier: GPL-2.0

//! CPUs: which one this is, kicking one that halts, letting others run.

use crate::sys::bindings;

/// The CPU that this runs on, for as long as it does.
pub fn this() -> u32 {
    // SAFETY: No requirements.
    unsafe { bindings::idts_this_cpu() }
}

/// Ends a halt in place of `cpu`, online or not. In any context.
pub fn kick(cpu: u32) {
    // SAFETY: No requirements: a CPU that is none, or offline, is left alone.
    unsafe { bindings::idts_kick_cpu(cpu) };
}

/// Lets others run, in a worker that holds nothing.
pub fn yield_if_wanted() {
    // SAFETY: A worker may sleep.
    unsafe { bindings::idts_cond_resched() };
}

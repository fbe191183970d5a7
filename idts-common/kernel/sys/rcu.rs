// SPDX-License-Identifier: GPL-2.0

//! Waiting for RCU readers.

use crate::sys::bindings;

/// Waits until every RCU read-side section of now is over. May sleep.
pub(crate) fn synchronize() {
    // SAFETY: No requirement but to be allowed to sleep, as documented.
    unsafe { bindings::synchronize_rcu() };
}

/// The same sooner, at some cost to all CPUs: for the xenwatch thread, which all devices
/// share, and where a tunnel's messages wait.
pub(crate) fn synchronize_expedited() {
    // SAFETY: As above.
    unsafe { bindings::synchronize_rcu_expedited() };
}

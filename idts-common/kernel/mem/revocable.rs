// SPDX-License-Identifier: GPL-2.0

//! The gate that keeps accesses to memory that a peer maps, and its teardown, apart.
//!
//! Every access goes through a [`AccessGuard`], which only an open [`Revocable`] hands out.
//! Closing the gate waits for all of them, so that memory can be unmapped or
//! reused afterwards. Nothing sleeps while it holds a `AccessGuard`: it is an RCU
//! read-side section.

use kernel::sync::atomic::{Acquire, Atomic, Release};
use kernel::sync::rcu;

use crate::sys::bindings;

/// Lets accesses to shared memory in until it is closed, once and for all.
pub(crate) struct Revocable {
    revoked: Atomic<bool>,
}

impl Revocable {
    /// An open gate.
    pub(crate) const fn new() -> Self {
        Self {
            revoked: Atomic::new(false),
        }
    }

    /// Whether the gate is open; it may close right after.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Acquire)
    }

    /// Enters, if the gate is open.
    #[inline]
    pub(crate) fn try_access(&self) -> Option<AccessGuard> {
        let guard = rcu::read_lock();
        (!self.is_revoked()).then_some(AccessGuard { _guard: guard })
    }

    /// Lets nobody in from now on; those inside may still be there.
    pub(crate) fn revoke_nosync(&self) {
        self.revoked.store(true, Release);
    }

    /// Shuts the gate and waits until everyone has left. May sleep.
    pub(crate) fn revoke(&self) {
        self.revoke_nosync();
        wait_for_readers();
    }
}

/// Waits until every [`AccessGuard`] of now is gone. May sleep.
pub(crate) fn wait_for_readers() {
    // Expedited: this may be the xenwatch thread, which all devices share, or hold
    // up a tunnel's messages.
    // SAFETY: No requirement but to be allowed to sleep, as documented.
    unsafe { bindings::synchronize_rcu_expedited() };
}

/// Proof that the memory behind a gate stays mapped while this value lives.
pub(crate) struct AccessGuard {
    _guard: rcu::Guard,
}

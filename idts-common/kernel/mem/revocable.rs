// SPDX-License-Identifier: GPL-2.0

//! Revocable access to memory that a peer maps.
//!
//! Follows `kernel::revocable`, for memory that Rust must not refer to: this [`Revocable`] wraps
//! no object. Each access needs an [`AccessGuard`], an RCU read-side section. Revoking waits for
//! all guards, so the memory can be unmapped or reused afterwards.

use kernel::sync::atomic::{Acquire, Atomic, Release};
use kernel::sync::rcu;

use crate::sys::rcu::synchronize_expedited;

/// The permission to access shared memory, until it is revoked once and for all.
///
/// # Invariants
///
/// Once [`Self::revoke`] has returned, no guard of this value exists, and none will.
pub(crate) struct Revocable {
    /// Whether access was revoked. Never reset.
    revoked: Atomic<bool>,
}

impl Revocable {
    /// Creates a permission that is not revoked.
    pub(crate) const fn new() -> Self {
        Self {
            revoked: Atomic::new(false),
        }
    }

    /// Returns whether access was revoked. `false` may be out of date at once: only a guard
    /// keeps the memory.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Acquire)
    }

    /// Permits accesses for as long as the guard lives; `None` once access was revoked.
    ///
    /// Callable in any context, hard interrupts too. The caller must not sleep while it holds
    /// the guard.
    #[inline]
    pub(crate) fn try_access(&self) -> Option<AccessGuard> {
        // The section begins before the look: `revoke` waits for a section that looked too early.
        let guard = rcu::read_lock();
        (!self.is_revoked()).then_some(AccessGuard { _guard: guard })
    }

    /// Revokes access without waiting for guards that exist.
    ///
    /// Callable with locks held. The memory stays in use until [`Self::revoke`] has returned.
    pub(crate) fn revoke_nosync(&self) {
        self.revoked.store(true, Release);
    }

    /// Revokes access and waits for all guards. May sleep.
    pub(crate) fn revoke(&self) {
        self.revoke_nosync();
        wait_for_readers();
    }
}

/// Waits until each [`AccessGuard`] that exists now is dropped. May sleep.
///
/// Memory of a part of a region, which nothing leads to any more, needs this before it is given
/// back while the rest stays accessible.
pub(crate) fn wait_for_readers() {
    synchronize_expedited();
}

/// Proof that access was not revoked, and that revoking waits for this value.
///
/// The type does not name its [`Revocable`]. The owner of the memory hands guards out (a tunnel,
/// for its control page and its channels), and nothing else pairs a guard with memory.
///
/// # Invariants
///
/// An RCU read-side section that began before access was found not to be revoked.
pub(crate) struct AccessGuard {
    /// The section. It makes this type neither `Send` nor `Sync`.
    _guard: rcu::Guard,
}

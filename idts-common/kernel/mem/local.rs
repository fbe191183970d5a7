// SPDX-License-Identifier: GPL-2.0

//! Memory for rings that no other domain maps: of channels inside one domain.

use core::ptr::NonNull;

use kernel::prelude::*;

use crate::mem::shared::SharedSlice;
use crate::sys::bindings;

/// Zeroed pages of this domain, contiguous as addresses.
///
/// # Invariants
///
/// `base` is what `idts_alloc_zeroed` returned for `bytes`, and this value owns the pages.
pub(crate) struct LocalPages {
    /// The first byte, page-aligned.
    base: NonNull<u8>,
    /// The size that was allocated, whole pages.
    bytes: usize,
}

// SAFETY: The value owns its pages, and freeing them is not bound to a thread.
unsafe impl Send for LocalPages {}
// SAFETY: `&LocalPages` gives out addresses only; the pages are accessed by `SharedSlice`.
unsafe impl Sync for LocalPages {}

impl LocalPages {
    /// Allocates `bytes`, a multiple of a page and at most a window, and charges them to the
    /// memory cgroup that is active.
    ///
    /// Fails with `ENOMEM`. No task is killed for the memory.
    pub(crate) fn new(bytes: u32) -> Result<Self> {
        let bytes = bytes as usize;
        // SAFETY: The function has no requirements; its result is checked next.
        let base = unsafe { bindings::idts_alloc_zeroed(bytes, true) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(ENOMEM)?;
        // INVARIANT: Allocated just now, with this size.
        Ok(Self { base, bytes })
    }

    /// The memory, for access by those who keep `self`.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: The pages are mapped until `self` is dropped. Both ends of a channel share
        // `self` and access the memory through themselves alone; the loopback tunnel owns its
        // page as any tunnel does. No reference to the pages is ever made.
        unsafe { SharedSlice::new(self.base, self.bytes as u32) }
    }
}

impl Drop for LocalPages {
    fn drop(&mut self) {
        // SAFETY: Allocated with this size, as the invariant says, and freed once.
        unsafe { bindings::idts_free(self.base.as_ptr().cast(), self.bytes) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Memory for rings that no other domain maps.

use core::ptr::NonNull;

use kernel::prelude::*;

use crate::mem::shared::SharedSlice;
use crate::sys::bindings;

/// Zeroed pages, contiguous as addresses, for a channel inside one domain.
pub(crate) struct LocalPages {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: Owns its pages.
unsafe impl Send for LocalPages {}
// SAFETY: They are reached through pieces only.
unsafe impl Sync for LocalPages {}

impl LocalPages {
    /// Allocates `bytes`, a multiple of a page and at most a window; whoever is
    /// charged at the time pays.
    pub(crate) fn new(bytes: u32) -> Result<Self> {
        let bytes = bytes as usize;
        // SAFETY: No requirements; the result is checked.
        let base = unsafe { bindings::idts_alloc_zeroed(bytes, true) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(ENOMEM)?;
        Ok(Self { base, bytes })
    }

    /// The memory, for access.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: The pages are ours, page-aligned, and live as long as `self`,
        // which the channels on it keep; no reference to them is ever made.
        unsafe { SharedSlice::new(self.base, self.bytes as u32) }
    }
}

impl Drop for LocalPages {
    fn drop(&mut self) {
        // SAFETY: Allocated with this size.
        unsafe { bindings::idts_free(self.base.as_ptr().cast(), self.bytes) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Pages granted to a peer, and a peer's pages mapped here.
//!
//! Owns allocation, granting, mapping, and their undoing. A page that the peer
//! still maps is never reused: ending access is a *try*, and what cannot be
//! ended yet goes to the [`crate::reaper`]. Budgets are checked before anything
//! is taken, so that disks and network interfaces keep their share.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

use crate::mem::shared::SharedSlice;
use crate::sys::bindings;
use crate::xen::xenbus::DeviceRef;

const PAGE: usize = 4096;

/// Grants that this module holds.
static GRANTED: Atomic<i64> = Atomic::new(0);
/// Pages of peers that this module has mapped.
static MAPPED: Atomic<i64> = Atomic::new(0);
/// dom0's default maptrack table: 1024 frames of 512 entries
/// (docs/misc/xen-command-line, `gnttab_max_maptrack_frames`).
const MAPTRACK_ENTRIES: i64 = 1024 * 512;

/// Grants held now, leftovers included.
pub(crate) fn granted() -> i64 {
    GRANTED.load(Relaxed)
}

/// Pages mapped now.
pub(crate) fn mapped() -> i64 {
    MAPPED.load(Relaxed)
}

/// Half of the grant entries that Xen gives this domain: the rest is for others.
fn grant_budget() -> i64 {
    // SAFETY: No requirements.
    let (frames, entries) = unsafe {
        (
            bindings::gnttab_max_grant_frames(),
            bindings::idts_grants_per_frame(),
        )
    };
    i64::from(frames).wrapping_mul(entries.into()) / 2
}

/// Takes `n` from a budget, or fails with `ENOSPC`.
fn take(counter: &Atomic<i64>, n: usize, budget: i64) -> Result {
    let n = n as i64;
    if counter.fetch_add(n, Relaxed).wrapping_add(n) > budget {
        counter.fetch_sub(n, Relaxed);
        return Err(ENOSPC);
    }
    Ok(())
}

/// Zeroed pages of ours, contiguous as addresses, that one peer may map.
pub(crate) struct GrantedPages {
    base: NonNull<u8>,
    pages: usize,
    /// Grants not ended yet.
    refs: KVec<u32>,
}

// SAFETY: Owns its pages; the peer's accesses are not Rust's.
unsafe impl Send for GrantedPages {}

impl GrantedPages {
    /// Allocates `pages` pages and grants them to domain `peer`, writable.
    pub(crate) fn new(peer: u16, pages: usize) -> Result<Self> {
        let mut refs = KVec::with_capacity(pages, GFP_KERNEL)?;
        take(&GRANTED, pages, grant_budget())?;
        let bytes = pages.wrapping_mul(PAGE);
        // SAFETY: No requirements; the result is checked.
        let base = unsafe { bindings::idts_alloc_zeroed(bytes, false) };
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            GRANTED.fetch_sub(pages as i64, Relaxed);
            return Err(ENOMEM);
        };
        for page in 0..pages {
            // SAFETY: Inside the block just allocated.
            let address = unsafe { base.as_ptr().add(page.wrapping_mul(PAGE)) };
            // SAFETY: `address` is a page of ours, whole and zeroed.
            let reference = unsafe {
                let frame = bindings::idts_gfn(address.cast());
                bindings::gnttab_grant_foreign_access(peer, frame, 0)
            };
            if reference < 0 {
                // The counter falls with each grant that is ended.
                GRANTED.fetch_sub(pages.wrapping_sub(page) as i64, Relaxed);
                let partial = Self { base, pages, refs };
                // Nobody was told of these references: nobody maps them.
                drop(partial);
                return Err(ENOSPC);
            }
            refs.push_within_capacity(reference as u32)
                .map_err(|_| ENOMEM)?;
        }
        Ok(Self { base, pages, refs })
    }

    /// The references, one for each page, in order.
    pub(crate) fn refs(&self) -> &[u32] {
        &self.refs
    }

    /// The memory, for access.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: The pages are ours, page-aligned and mapped until `self` is
        // dropped. A tunnel does that once its gate is closed; before, of a
        // segment in which its book has no slice in use, when nobody finds a channel
        // on it any more, and a grace period later. No reference to them is ever made.
        unsafe { SharedSlice::new(self.base, self.pages.wrapping_mul(PAGE) as u32) }
    }

    /// Ends the grants that the peer does not map any more; gives back what is
    /// left. `None`: all are ended and the pages are free.
    pub(crate) fn try_end(mut self) -> Option<Self> {
        self.refs.retain(|reference| {
            // SAFETY: The reference is one of ours and not ended yet.
            let ended = unsafe { bindings::gnttab_try_end_foreign_access(*reference) } != 0;
            if ended {
                GRANTED.fetch_sub(1, Relaxed);
            }
            !ended
        });
        (!self.refs.is_empty()).then_some(self)
    }
}

impl Drop for GrantedPages {
    fn drop(&mut self) {
        // Of `try_end` nothing is left; else it is the last try: of a module that
        // goes, after the reaper gave the peer ample time; of a block that was
        // never told of; or without memory for the reaper's list.
        let mut stuck: i64 = 0;
        for reference in self.refs.iter() {
            // SAFETY: As in `try_end`.
            if unsafe { bindings::gnttab_try_end_foreign_access(*reference) } == 0 {
                stuck = stuck.wrapping_add(1);
                // SAFETY: As above. The kernel goes on trying, and until then has
                // a reference to the page that the grant is of.
                unsafe { bindings::gnttab_end_foreign_access(*reference, core::ptr::null_mut()) };
            }
        }
        // What is stuck takes up entries for as long as the peer likes.
        let ended = (self.refs.len() as i64).wrapping_sub(stuck);
        GRANTED.fetch_sub(ended, Relaxed);
        if stuck > 0 {
            pr_warn!(
                "{} of {} pages are still mapped by the peer; the kernel frees them when it lets go\n",
                stuck,
                self.pages
            );
        }
        // SAFETY: The block was allocated with this size. A page that is still
        // granted outlives it, by the kernel's reference.
        unsafe { bindings::idts_free(self.base.as_ptr().cast(), self.pages.wrapping_mul(PAGE)) };
    }
}

/// Pages of the peer, mapped here contiguously: at most a window.
pub(crate) struct MappedPages {
    device: DeviceRef,
    base: NonNull<u8>,
    pages: usize,
}

// SAFETY: Owns its mapping.
unsafe impl Send for MappedPages {}

impl MappedPages {
    /// Maps the pages of `refs`, at most 16 (`XENBUS_MAX_RING_GRANTS`).
    ///
    /// A reference that Xen refuses is fatal to the device: the kernel's helper
    /// switches it to Closing.
    pub(crate) fn new(device: DeviceRef, refs: &mut [u32]) -> Result<Self> {
        let pages = refs.len();
        take(&MAPPED, pages, MAPTRACK_ENTRIES / 2)?;
        let mut base = core::ptr::null_mut();
        // SAFETY: The device is alive, as a `DeviceRef` holds it; `refs` has
        // `pages` entries; `base` is valid for writing.
        let result = unsafe {
            bindings::xenbus_map_ring_valloc(
                device.as_raw(),
                refs.as_mut_ptr(),
                pages as u32,
                &mut base,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if result == 0 => Ok(Self {
                device,
                base,
                pages,
            }),
            _ => {
                MAPPED.fetch_sub(pages as i64, Relaxed);
                Err(if result < 0 {
                    Error::from_errno(result)
                } else {
                    EIO
                })
            }
        }
    }

    /// The memory, for access.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: Page-aligned and mapped until `self` is dropped, when nobody
        // accesses it any more: as for `GrantedPages`. No reference is made.
        unsafe { SharedSlice::new(self.base, self.pages.wrapping_mul(PAGE) as u32) }
    }
}

impl Drop for MappedPages {
    fn drop(&mut self) {
        // SAFETY: Mapped by `xenbus_map_ring_valloc`, unmapped once.
        let result = unsafe {
            bindings::xenbus_unmap_ring_vfree(self.device.as_raw(), self.base.as_ptr().cast())
        };
        if result != 0 {
            pr_err!("unmapping {} pages failed: {}\n", self.pages, result);
        }
        MAPPED.fetch_sub(self.pages as i64, Relaxed);
    }
}

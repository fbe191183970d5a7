// SPDX-License-Identifier: GPL-2.0

//! Pages granted to a peer, and a peer's pages mapped here. PROTOCOL.md section 5.
//!
//! A page that the peer still maps is never reused: ending a grant is a *try*, since Xen tells
//! only then (XSA-396), and what cannot be ended yet is tried again later. Budgets are checked
//! before anything is taken, so that disks and network interfaces keep their share.

use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

use crate::mem::shared::SharedSlice;
use crate::sys::bindings;
use crate::xen::peer::Peer;

/// The size of a page that Xen grants (`XEN_PAGE_SIZE`), which on x86 is Linux' too.
const PAGE: usize = 4096;

/// Grants that this module holds.
static GRANTED: Atomic<i64> = Atomic::new(0);
/// Pages of peers that this module has mapped.
static MAPPED: Atomic<i64> = Atomic::new(0);
/// Entries of a domain's maptrack table by Xen's default: 1024 frames of 512
/// (`gnttab_max_maptrack_frames`). A domain cannot ask Xen for its own limit.
const MAPTRACK_ENTRIES: i64 = 1024 * 512;

/// Returns the number of grants held, those included that the peer has yet to let go of.
pub(crate) fn granted() -> i64 {
    GRANTED.load(Relaxed)
}

/// Returns the number of pages mapped.
pub(crate) fn mapped() -> i64 {
    MAPPED.load(Relaxed)
}

/// Half of the grant entries that Xen lets this domain have; the rest is for other drivers.
fn grant_budget() -> i64 {
    // SAFETY: Both functions ask Xen and have no requirements.
    let (frames, entries) = unsafe {
        (
            bindings::gnttab_max_grant_frames(),
            bindings::idts_grants_per_frame(),
        )
    };
    i64::from(frames).wrapping_mul(entries.into()) / 2
}

/// Charges `n` to a budget, if it has as many left. Returns whether it had.
fn charge(counter: &Atomic<i64>, n: usize, budget: i64) -> bool {
    let n = n as i64;
    if counter.fetch_add(n, Relaxed).wrapping_add(n) > budget {
        counter.fetch_sub(n, Relaxed);
        return false;
    }
    true
}

/// Zeroed pages of this domain, contiguous as addresses, that one peer may map, writable.
///
/// # Invariants
///
/// - `base` is what `idts_alloc_zeroed` returned for `pages` pages, and this value owns them.
/// - Each of `refs` is a grant of one of these pages that was not ended, and counted in
///   [`GRANTED`].
pub(crate) struct GrantedPages {
    /// The first byte, page-aligned.
    base: NonNull<u8>,
    /// The number of pages.
    pages: usize,
    /// The grants that are not ended yet.
    refs: KVec<u32>,
}

// SAFETY: The value owns its pages and grants, and neither is bound to a thread. The peer's
// accesses are not Rust's.
unsafe impl Send for GrantedPages {}

impl GrantedPages {
    /// Allocates `pages` pages and grants them to domain `peer`, writable.
    ///
    /// Fails with `ENOSPC` if the budget or the grant table is used up, with `ENOMEM`.
    pub(crate) fn new(peer: u16, pages: usize) -> Result<Self> {
        let refs = KVec::with_capacity(pages, GFP_KERNEL)?;
        if !charge(&GRANTED, pages, grant_budget()) {
            return Err(ENOSPC);
        }
        let bytes = pages.wrapping_mul(PAGE);
        // SAFETY: The function has no requirements; its result is checked next.
        let base = unsafe { bindings::idts_alloc_zeroed(bytes, false) };
        let Some(base) = NonNull::new(base.cast::<u8>()) else {
            GRANTED.fetch_sub(pages as i64, Relaxed);
            return Err(ENOMEM);
        };
        // INVARIANT: Allocated just now. No page is granted yet: `GRANTED` is ahead by the rest.
        let mut granted = Self { base, pages, refs };
        while granted.refs.len() < pages {
            if let Err(error) = granted.grant_next(peer) {
                let left = pages.wrapping_sub(granted.refs.len());
                GRANTED.fetch_sub(left as i64, Relaxed);
                // The drop ends the others at once: the peer was not told of them.
                return Err(error);
            }
        }
        Ok(granted)
    }

    /// Grants the first page that is not granted to domain `peer`. For [`Self::new`], which made
    /// room for the reference.
    fn grant_next(&mut self, peer: u16) -> Result {
        let page = self.refs.len();
        // SAFETY: `page` is less than `self.pages`, as `new` checks.
        let address = unsafe { self.base.as_ptr().add(page.wrapping_mul(PAGE)) };
        // SAFETY: `address` is a page of ours, whole and zeroed.
        let reference = unsafe {
            let frame = bindings::idts_gfn(address.cast());
            bindings::gnttab_grant_foreign_access(peer, frame, 0)
        };
        if reference < 0 {
            return Err(Error::from_errno(reference));
        }
        self.refs.push(reference as u32, GFP_KERNEL)?;
        Ok(())
    }

    /// The references, one for each page, in order: for the peer to map.
    pub(crate) fn refs(&self) -> &[u32] {
        &self.refs
    }

    /// The memory, for access by the tunnel that keeps `self`.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: The pages are mapped until `self` is dropped. A tunnel drops it after it has
        // revoked access; or, of a segment in which no slice is allocated, so that no channel
        // leads there, after `wait_for_readers`. No reference to the pages is ever made.
        unsafe { SharedSlice::new(self.base, self.pages.wrapping_mul(PAGE) as u32) }
    }

    /// Ends the grants that the peer does not map any more.
    ///
    /// Returns what is left, to be tried again later; `None` once all grants are ended and the
    /// pages are free.
    pub(crate) fn try_end(mut self) -> Option<Self> {
        self.refs.retain(|reference| {
            // SAFETY: A grant of ours that was not ended yet, as the invariant says.
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
        // After `try_end` has ended all, none is left. Otherwise this is the last try: the
        // module ends and gave the peer ample time, the peer was never told of these pages, or
        // there was no memory to remember them.
        let mut stuck: i64 = 0;
        for reference in self.refs.iter() {
            // SAFETY: As in `try_end`.
            if unsafe { bindings::gnttab_try_end_foreign_access(*reference) } == 0 {
                stuck = stuck.wrapping_add(1);
                // SAFETY: As above. The kernel goes on trying, and meanwhile holds a reference
                // to the page (`gnttab_add_deferred`).
                unsafe { bindings::gnttab_end_foreign_access(*reference, core::ptr::null_mut()) };
            }
        }
        // Grants that are stuck take up entries of the table for as long as the peer likes.
        let ended = (self.refs.len() as i64).wrapping_sub(stuck);
        GRANTED.fetch_sub(ended, Relaxed);
        if stuck > 0 {
            pr_warn!(
                "{} of {} pages are still mapped by the peer; the kernel frees them when it lets go\n",
                stuck,
                self.pages
            );
        }
        // SAFETY: Allocated with this size, as the invariant says, and freed once. A page that
        // is still granted lives on by the kernel's reference.
        unsafe { bindings::idts_free(self.base.as_ptr().cast(), self.pages.wrapping_mul(PAGE)) };
    }
}

/// Why pages of a peer could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapError {
    /// This module has mapped as many pages as it may: half of the maptrack table.
    OverBudget,
    /// This domain lacks memory or address space. The peer is not to blame.
    Local(Error),
    /// Xen refused a reference: the peer did not grant it to us, or not writable, or the maptrack
    /// table is full. Linux has logged it, told the toolstack, and set the device to Closing.
    Refused,
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::OverBudget => ENOSPC,
            MapError::Local(error) => error,
            MapError::Refused => ENOENT,
        }
    }
}

/// Pages of a peer, mapped here contiguously, writable: at most a window.
///
/// Mapped by `xenbus_map_ring_valloc`, which takes a xenbus device, and whose refusals are
/// fatal to it. Xen and Linux offer no better way that serves both kinds of domain. The ring
/// copies want contiguous addresses. `gnttab_map_refs` over unpopulated pages gives none, and
/// `vmap` of such pages makes them on HVM and PVH only: on PV it returns an address without
/// entries, because Xen takes a PTE of a foreign frame from a grant operation alone. PV needs
/// `GNTMAP_contains_pte` on a range of `get_vm_area`, which is not exported to modules, and this
/// function does that. On PV the pages have no `struct page`. drivers/xen/xenbus/xenbus_client.c,
/// `xenbus_map_ring_pv` and `xenbus_map_ring_hvm`.
///
/// # Invariants
///
/// `base` is what `xenbus_map_ring_valloc` returned for `pages` pages of `peer`, counted in
/// [`MAPPED`].
pub(crate) struct MappedPages {
    /// The peer, whose device the mapping was made with.
    peer: Peer,
    /// The first byte, page-aligned.
    base: NonNull<u8>,
    /// The number of pages.
    pages: usize,
}

// SAFETY: The value owns its mapping, which is not bound to a thread.
unsafe impl Send for MappedPages {}

impl MappedPages {
    /// Maps the pages of `refs`, at most 16 (`XENBUS_MAX_RING_GRANTS`), which `peer` granted.
    /// May sleep.
    pub(crate) fn new(peer: &Peer, refs: &mut [u32]) -> Result<Self, MapError> {
        let pages = refs.len();
        if !charge(&MAPPED, pages, MAPTRACK_ENTRIES / 2) {
            return Err(MapError::OverBudget);
        }
        let mut base = core::ptr::null_mut();
        // SAFETY: The device is alive, being counted by `peer`; `refs` has `pages` entries;
        // `base` is valid for writing.
        let result = unsafe {
            bindings::xenbus_map_ring_valloc(
                peer.as_raw(),
                refs.as_mut_ptr(),
                pages as u32,
                &mut base,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            // INVARIANT: Mapped just now, and charged above.
            Some(base) if result == 0 => Ok(Self {
                peer: peer.clone(),
                base,
                pages,
            }),
            _ => {
                MAPPED.fetch_sub(pages as i64, Relaxed);
                // Its one use of this errno, after `xenbus_dev_fatal`.
                let error = Error::from_errno(result);
                Err(match error == ENOENT {
                    true => MapError::Refused,
                    false => MapError::Local(error),
                })
            }
        }
    }

    /// The memory, for access by the tunnel that keeps `self`.
    pub(crate) fn slice(&self) -> SharedSlice {
        // SAFETY: The pages are mapped until `self` is dropped, which is as late as for
        // `GrantedPages::slice`. No reference to them is ever made.
        unsafe { SharedSlice::new(self.base, self.pages.wrapping_mul(PAGE) as u32) }
    }
}

impl Drop for MappedPages {
    fn drop(&mut self) {
        // SAFETY: Mapped by `xenbus_map_ring_valloc` with this device, unmapped once.
        let result = unsafe {
            bindings::xenbus_unmap_ring_vfree(self.peer.as_raw(), self.base.as_ptr().cast())
        };
        if result != 0 {
            // Linux leaks the range and the maptrack entries, so they stay charged.
            pr_err!("unmapping {} pages failed: {}\n", self.pages, result);
            return;
        }
        MAPPED.fetch_sub(self.pages as i64, Relaxed);
    }
}

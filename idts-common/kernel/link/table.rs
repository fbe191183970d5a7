// SPDX-License-Identifier: GPL-2.0

//! Which channel number is whose, for the event handler.
//!
//! The table owns what it points to. The handler reads without locks, so what is taken
//! out is dropped only after all handlers that may have seen it are done (RCU): it
//! comes out as [`Unlisted`], which [`crate::reaper`] drops.

use core::ptr;

use idts_core::wire::CHANNELS;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Release};
use kernel::sync::{rcu, Arc};

use super::waiter::Waiter;

const CHUNK: usize = 64;

/// Waiters of 64 numbers in a row.
struct Chunk([Atomic<*mut Waiter>; CHUNK]);

/// The table. Chunks are allocated at need and live as long as the table. What is in a
/// place is null, or was made by `Arc::into_raw`.
pub(crate) struct Table([Atomic<*mut Chunk>; CHANNELS as usize / CHUNK]);

/// A waiter that a handler may still look at: to be dropped after a grace period.
#[must_use = "a handler may still look at it"]
pub(crate) struct Unlisted(#[expect(dead_code)] Arc<Waiter>);

impl Table {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self([const { Atomic::new(ptr::null_mut()) }; CHANNELS as usize / CHUNK])
    }

    fn chunk(&self, id: u32) -> Option<&Chunk> {
        let chunk = self.0.get(id as usize / CHUNK)?.load(Acquire);
        // SAFETY: Null, or a chunk that lives as long as the table.
        unsafe { chunk.as_ref() }
    }

    fn place(&self, id: u32) -> Option<&Atomic<*mut Waiter>> {
        self.chunk(id)?.0.get(id as usize % CHUNK)
    }

    /// Makes sure that `id` has a place. Called under the tunnel's lock.
    pub(crate) fn prepare(&self, id: u32) -> Result {
        let place = self.0.get(id as usize / CHUNK).ok_or(EINVAL)?;
        if place.load(Acquire).is_null() {
            let chunk = Chunk([const { Atomic::new(ptr::null_mut()) }; CHUNK]);
            place.store(KBox::into_raw(KBox::new(chunk, GFP_KERNEL)?), Release);
        }
        Ok(())
    }

    /// Gives a prepared number to a waiter. Comes back with the one that had it, if
    /// that was not taken out.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn set(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let place = self.place(id)?;
        let old = place.xchg(Arc::into_raw(waiter.clone()).cast_mut(), Full);
        // SAFETY: As the invariant of a place says, and it is out of it now.
        (!old.is_null()).then(|| Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Takes a number back from a waiter. Nothing comes back if another has it by now:
    /// numbers are used again.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn clear(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let own = Arc::as_ptr(waiter).cast_mut();
        let old = self.place(id)?.cmpxchg(own, ptr::null_mut(), Full).ok()?;
        // SAFETY: As the invariant of a place says, and it is out of it now.
        Some(Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Calls `f` with the waiter of a number, if it has one.
    pub(crate) fn with<R>(&self, id: u32, f: impl FnOnce(&Waiter) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let waiter = self.place(id)?.load(Acquire);
        // SAFETY: Null, or a waiter that the table owned when it was loaded: what is
        // taken out after that is dropped at a grace period's end, which comes after
        // `_guard` is dropped.
        unsafe { waiter.as_ref() }.map(f)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for place in &mut self.0 {
            let chunk = *place.get_mut();
            if chunk.is_null() {
                continue;
            }
            // SAFETY: Made by `KBox::into_raw` in `prepare`, freed once.
            let mut chunk = unsafe { KBox::from_raw(chunk) };
            for place in &mut chunk.0 {
                let waiter = *place.get_mut();
                if !waiter.is_null() {
                    // SAFETY: As the invariant of a place says. Whoever may look at
                    // it borrows the table, and nobody does.
                    drop(unsafe { Arc::from_raw(waiter.cast_const()) });
                }
            }
        }
    }
}

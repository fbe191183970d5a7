// SPDX-License-Identifier: GPL-2.0

//! Which endpoint has which channel number, for the event handler.
//!
//! The handler reads without locks; whoever takes an endpoint out keeps it
//! alive until all handlers that may have seen it are done (RCU, by
//! [`crate::reaper`]).

use core::ptr;

use idts_core::wire::CHANNELS;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Release};
use kernel::sync::{rcu, Arc};

use crate::endpoint::Endpoint;

const CHUNK: usize = 64;

/// Endpoints of 64 numbers in a row.
struct Chunk([Atomic<*mut Endpoint>; CHUNK]);

/// The table. Chunks are allocated at need and live as long as the table.
pub(crate) struct Slots([Atomic<*mut Chunk>; CHANNELS as usize / CHUNK]);

impl Slots {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self([const { Atomic::new(ptr::null_mut()) }; CHANNELS as usize / CHUNK])
    }

    fn chunk(&self, id: u32) -> Option<&Chunk> {
        let chunk = self.0.get(id as usize / CHUNK)?.load(Acquire);
        // SAFETY: Null, or a chunk that lives as long as the table.
        unsafe { chunk.as_ref() }
    }

    fn slot(&self, id: u32) -> Option<&Atomic<*mut Endpoint>> {
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

    /// Gives a prepared number to an endpoint.
    pub(crate) fn set(&self, id: u32, endpoint: &Arc<Endpoint>) {
        if let Some(slot) = self.slot(id) {
            slot.store(Arc::as_ptr(endpoint).cast_mut(), Release);
        }
    }

    /// Takes a number back. The endpoint is then to be retired by the reaper.
    pub(crate) fn clear(&self, id: u32) {
        if let Some(slot) = self.slot(id) {
            slot.store(ptr::null_mut(), Release);
        }
    }

    /// Calls `f` with the endpoint of a number, if it has one.
    pub(crate) fn with<R>(&self, id: u32, f: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let endpoint = self.slot(id)?.load(Acquire);
        // SAFETY: Null, or an endpoint that stays alive until a grace period
        // after `clear`, that is, at least until `_guard` is dropped.
        unsafe { endpoint.as_ref() }.map(f)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for place in &mut self.0 {
            let chunk = *place.get_mut();
            if !chunk.is_null() {
                // SAFETY: Made by `KBox::into_raw` in `prepare`, freed once.
                drop(unsafe { KBox::from_raw(chunk) });
            }
        }
    }
}

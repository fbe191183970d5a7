// SPDX-License-Identifier: GPL-2.0

//! The table of a link's waiters by channel id, for the event handler.
//!
//! The table owns its waiters. The handler reads it without locks (RCU), so a removed waiter
//! comes out as [`Unlisted`] and must outlive all handlers that may have seen it.

use core::ptr;

use idts_core::doorbell::each_bit;
use idts_core::spurious::StrayMarks;
use idts_core::wire::CHANNELS;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{rcu, Arc};

use super::waiter::Waiter;

/// Ids of a chunk: one for each bit of a doorbell word.
const CHUNK: usize = 64;

/// The waiters of 64 consecutive ids.
struct Chunk([Atomic<*mut Waiter>; CHUNK]);

/// The state of 64 consecutive ids, a bit for each.
struct Word {
    /// Ids that have a waiter.
    open: Atomic<u64>,
    /// Ids that had a waiter before and have none now.
    closed: Atomic<u64>,
    /// Counts of marks on ids without a waiter, as [`StrayMarks`] encodes them. The handler
    /// writes them, and so does a change of the table; if both do at once, a mark more or less
    /// is forgiven, which does no harm.
    strays: [Atomic<u64>; 2],
    /// Allocated by the first [`Table::prepare`], and freed with the table.
    chunk: Atomic<*mut Chunk>,
}

/// The table.
///
/// # Invariants
///
/// Each pointer to a waiter is null, or comes from `Arc::into_raw` and owns that reference.
pub(crate) struct Table([Word; CHANNELS as usize / CHUNK]);

/// A waiter that was removed from its table. A handler may still access it, so it is dropped
/// only after a grace period: [`super::grace::Grace::drop_later`].
#[must_use = "a handler may still look at it"]
pub(crate) struct Unlisted(#[expect(dead_code)] Arc<Waiter>);

impl Table {
    /// Creates an empty table.
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                Word {
                    open: Atomic::new(0),
                    closed: Atomic::new(0),
                    strays: [const { Atomic::new(0) }; 2],
                    chunk: Atomic::new(ptr::null_mut()),
                }
            }; CHANNELS as usize / CHUNK],
        )
    }

    /// The word of an id.
    fn word(&self, id: u32) -> Option<&Word> {
        self.0.get(id as usize / CHUNK)
    }

    /// The pointer of an id, once it is prepared.
    fn place(&self, id: u32) -> Option<&Atomic<*mut Waiter>> {
        let chunk = self.word(id)?.chunk.load(Acquire);
        // SAFETY: Null, or a chunk that lives as long as the table.
        unsafe { chunk.as_ref() }?.0.get(id as usize % CHUNK)
    }

    /// Allocates the chunk of `id`, so that [`Self::set`] cannot fail. The caller holds the
    /// tunnel's lock.
    ///
    /// # Errors
    /// `EINVAL`: the id is out of range. `ENOMEM`.
    pub(crate) fn prepare(&self, id: u32) -> Result {
        let place = &self.word(id).ok_or(EINVAL)?.chunk;
        if place.load(Acquire).is_null() {
            let chunk = Chunk([const { Atomic::new(ptr::null_mut()) }; CHUNK]);
            place.store(KBox::into_raw(KBox::new(chunk, GFP_KERNEL)?), Release);
        }
        Ok(())
    }

    /// Sets the waiter of a prepared id, and returns the one that was there. The caller holds
    /// the tunnel's lock.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn set(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let place = self.place(id)?;
        let old = place.xchg(Arc::into_raw(waiter.clone()).cast_mut(), Full);
        self.word(id)?.begin_anew(id, true);
        // SAFETY: As the invariant of a place says, and it is out of it now.
        (!old.is_null()).then(|| Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Removes `waiter` from an id. Returns `None` if the id has another waiter by now, since
    /// ids are reused. The caller holds the tunnel's lock.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn clear(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let own = Arc::as_ptr(waiter).cast_mut();
        let old = self.place(id)?.cmpxchg(own, ptr::null_mut(), Full).ok()?;
        self.word(id)?.begin_anew(id, false);
        // SAFETY: As the invariant of a place says, and it is out of it now.
        Some(Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Calls `f` with every waiter.
    pub(crate) fn each(&self, f: impl Fn(&Waiter)) {
        for word in 0..CHANNELS / 64 {
            each_bit(self.open(word), |bit| {
                self.with(word.wrapping_mul(64).wrapping_add(bit), &f);
            });
        }
    }

    /// Calls `f` with the waiter of an id, if it has one, in an RCU read-side section.
    pub(crate) fn with<R>(&self, id: u32, f: impl FnOnce(&Waiter) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let waiter = self.place(id)?.load(Acquire);
        // SAFETY: Null, or a waiter that the table owned when it was loaded: what is
        // taken out after that is dropped at a grace period's end, which comes after
        // `_guard` is dropped.
        unsafe { waiter.as_ref() }.map(f)
    }
}

impl Table {
    /// The ids of a word that have a waiter, a bit for each.
    pub(crate) fn open(&self, word: u32) -> u64 {
        self.0
            .get(word as usize)
            .map_or(0, |w| w.open.load(Acquire))
    }

    /// Counts marks on ids without a waiter, and returns how many are forgiven. Ids that never
    /// had a waiter are forgiven only if `any`. Called by the event handler alone.
    pub(crate) fn forgive(&self, word: u32, marks: u64, any: bool) -> u32 {
        let Some(word) = self.0.get(word as usize) else {
            return 0;
        };
        let closed = word.closed.load(Relaxed);
        word.with_strays(|strays| strays.forgive(marks & if any { u64::MAX } else { closed }))
    }
}

impl Word {
    /// Notes that id `id` has got a waiter, or lost it, and resets its count of stray marks.
    fn begin_anew(&self, id: u32, opens: bool) {
        let bit = 1u64.wrapping_shl(id);
        let (open, closed) = (self.open.load(Relaxed), self.closed.load(Relaxed));
        let with = |bits: u64, has: bool| if has { bits | bit } else { bits & !bit };
        self.with_strays(|strays| strays.forget(bit));
        self.closed.store(with(closed, !opens), Relaxed);
        self.open.store(with(open, opens), Release);
    }

    fn with_strays<R>(&self, f: impl FnOnce(&mut StrayMarks) -> R) -> R {
        let [low, high] = &self.strays;
        let mut strays = StrayMarks::new(low.load(Relaxed), high.load(Relaxed));
        let result = f(&mut strays);
        let words = strays.words();
        low.store(words.0, Relaxed);
        high.store(words.1, Relaxed);
        result
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for word in &mut self.0 {
            let chunk = *word.chunk.get_mut();
            if chunk.is_null() {
                continue;
            }
            // SAFETY: Made by `KBox::into_raw` in `prepare`, freed once.
            let mut chunk = unsafe { KBox::from_raw(chunk) };
            for place in &mut chunk.0 {
                let waiter = *place.get_mut();
                if !waiter.is_null() {
                    // SAFETY: As the invariant of the table says. All readers borrow the table,
                    // and `&mut self` shows that there is none.
                    drop(unsafe { Arc::from_raw(waiter.cast_const()) });
                }
            }
        }
    }
}

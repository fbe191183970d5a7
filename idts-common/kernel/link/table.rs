// SPDX-License-Identifier: GPL-2.0

//! Which channel number is whose, for the event handler.
//!
//! The table owns what it points to. The handler reads without locks, so what is taken
//! out is dropped only after all handlers that may have seen it are done (RCU): it
//! comes out as [`Unlisted`].

use core::ptr;

use idts_core::doorbell::each_bit;
use idts_core::spurious::StrayMarks;
use idts_core::wire::CHANNELS;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{rcu, Arc};

use super::waiter::Waiter;

const CHUNK: usize = 64;

/// Waiters of 64 numbers in a row.
struct Chunk([Atomic<*mut Waiter>; CHUNK]);

/// 64 numbers in a row, a bit for each.
struct Word {
    /// Those that have a waiter.
    open: Atomic<u64>,
    /// Those that had one.
    closed: Atomic<u64>,
    /// Marks of others. The handler writes them, and whoever changes the table; where
    /// these two meet, a mark more or less is forgiven.
    strays: [Atomic<u64>; 2],
    /// Allocated at need, lives as long as the table.
    chunk: Atomic<*mut Chunk>,
}

/// The table. What is in a place is null, or was made by `Arc::into_raw`.
pub(crate) struct Table([Word; CHANNELS as usize / CHUNK]);

/// A waiter that a handler may still look at: to be dropped after a grace period.
#[must_use = "a handler may still look at it"]
pub(crate) struct Unlisted(#[expect(dead_code)] Arc<Waiter>);

impl Table {
    /// An empty table.
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

    fn word(&self, id: u32) -> Option<&Word> {
        self.0.get(id as usize / CHUNK)
    }

    fn place(&self, id: u32) -> Option<&Atomic<*mut Waiter>> {
        let chunk = self.word(id)?.chunk.load(Acquire);
        // SAFETY: Null, or a chunk that lives as long as the table.
        unsafe { chunk.as_ref() }?.0.get(id as usize % CHUNK)
    }

    /// Makes sure that `id` has a place. Called under the tunnel's lock.
    pub(crate) fn prepare(&self, id: u32) -> Result {
        let place = &self.word(id).ok_or(EINVAL)?.chunk;
        if place.load(Acquire).is_null() {
            let chunk = Chunk([const { Atomic::new(ptr::null_mut()) }; CHUNK]);
            place.store(KBox::into_raw(KBox::new(chunk, GFP_KERNEL)?), Release);
        }
        Ok(())
    }

    /// Gives a prepared number to a waiter. Comes back with the one that had it, if
    /// that was not taken out. Called under the tunnel's lock.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn set(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let place = self.place(id)?;
        let old = place.xchg(Arc::into_raw(waiter.clone()).cast_mut(), Full);
        self.word(id)?.begin_anew(id, true);
        // SAFETY: As the invariant of a place says, and it is out of it now.
        (!old.is_null()).then(|| Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Takes a number back from a waiter. Nothing comes back if another has it by now:
    /// numbers are used again. Called under the tunnel's lock.
    #[must_use = "a handler may still look at it"]
    pub(crate) fn clear(&self, id: u32, waiter: &Arc<Waiter>) -> Option<Unlisted> {
        let own = Arc::as_ptr(waiter).cast_mut();
        let old = self.place(id)?.cmpxchg(own, ptr::null_mut(), Full).ok()?;
        self.word(id)?.begin_anew(id, false);
        // SAFETY: As the invariant of a place says, and it is out of it now.
        Some(Unlisted(unsafe { Arc::from_raw(old.cast_const()) }))
    }

    /// Calls `f` with each waiter that there is.
    pub(crate) fn each(&self, f: impl Fn(&Waiter)) {
        for word in 0..CHANNELS / 64 {
            each_bit(self.open(word), |bit| {
                self.with(word.wrapping_mul(64).wrapping_add(bit), &f);
            });
        }
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

impl Table {
    /// The numbers of a word that have a waiter.
    pub(crate) fn open(&self, word: u32) -> u64 {
        self.0
            .get(word as usize)
            .map_or(0, |w| w.open.load(Acquire))
    }

    /// Marks of numbers without a waiter came: how many are forgiven. Only those of
    /// numbers that had one, unless `any`. By the event handler alone.
    pub(crate) fn forgive(&self, word: u32, marks: u64, any: bool) -> u32 {
        let Some(word) = self.0.get(word as usize) else {
            return 0;
        };
        let closed = word.closed.load(Relaxed);
        word.with_strays(|strays| strays.forgive(marks & if any { u64::MAX } else { closed }))
    }
}

impl Word {
    /// Number `id` got a waiter, or lost its.
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
                    // SAFETY: As the invariant of a place says. Whoever may look at
                    // it borrows the table, and nobody does.
                    drop(unsafe { Arc::from_raw(waiter.cast_const()) });
                }
            }
        }
    }
}

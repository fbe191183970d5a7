// SPDX-License-Identifier: GPL-2.0

//! Work items and memory, as the kernel crate does not offer them: the module's own queue,
//! flushing and disabling an item, a box of zeroes.

use core::ptr;

use kernel::alloc::flags::__GFP_ZERO;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;
use kernel::workqueue::{DelayedWork, HasDelayedWork, HasWork, Queue, Work, WorkItem};
use zerocopy::FromZeros;

use crate::sys::bindings;

/// The module's queue, while an [`OwnQueue`] exists.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The queue that all work items of the module run on, destroyed when this value is dropped.
///
/// The module's own, because the relay worker may run without end; unbound, because the other
/// items are rare and short. By the time of the drop all items are disabled, or have run.
pub(crate) struct OwnQueue(());

impl OwnQueue {
    /// Creates the queue. Fails with `ENOMEM`.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`, before any item is queued.
    pub(crate) unsafe fn new() -> Result<Self> {
        // SAFETY: The function has no requirements; its result is checked next.
        let queue = unsafe { bindings::idts_workqueue() };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Relaxed);
        Ok(Self(()))
    }
}

impl Drop for OwnQueue {
    fn drop(&mut self) {
        // SAFETY: Created by `new`, destroyed once. What is queued runs first.
        unsafe { bindings::destroy_workqueue(QUEUE.load(Relaxed)) };
    }
}

/// Returns the queue that all work items of the module run on.
pub fn queue() -> &'static Queue {
    // SAFETY: The module's `init` creates the queue before all that uses it, and destroys it
    // last. The word is written once, before any use.
    unsafe { Queue::from_raw(QUEUE.load(Relaxed)) }
}

/// Disables a work item for good: takes it off the queue, waits for it if it runs, and lets no
/// later queueing succeed (`disable_work_sync`). May sleep.
pub fn disable<T, const ID: u64>(owner: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: The owner is alive, and its item is initialised.
    let queued = unsafe {
        let work = Work::raw_get(T::raw_get_work(Arc::as_ptr(owner).cast_mut()));
        bindings::disable_work_sync(work)
    };
    if queued {
        // SAFETY: As `queued_reference` requires.
        drop(unsafe { queued_reference(owner) });
    }
}

/// As [`disable`], without waiting for an item that runs (`disable_work`).
pub(crate) fn disable_nosync<T, const ID: u64>(owner: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: As in `disable`.
    let queued = unsafe {
        let work = Work::raw_get(T::raw_get_work(Arc::as_ptr(owner).cast_mut()));
        bindings::disable_work(work)
    };
    if queued {
        // SAFETY: As `queued_reference` requires.
        drop(unsafe { queued_reference(owner) });
    }
}

/// As [`disable`], of a delayed item (`disable_delayed_work_sync`).
pub fn disable_delayed<T, const ID: u64>(owner: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    // SAFETY: The owner is alive, and its item is initialised. `HasDelayedWork` promises that
    // the work item is embedded in a delayed one.
    let queued = unsafe {
        let work = Work::raw_get(T::raw_get_work(Arc::as_ptr(owner).cast_mut()));
        bindings::disable_delayed_work_sync(kernel::container_of!(
            work,
            bindings::delayed_work,
            work
        ))
    };
    if queued {
        // SAFETY: As `queued_reference` requires.
        drop(unsafe { queued_reference(owner) });
    }
}

/// Returns the reference that a queued item owned.
///
/// # Safety
///
/// The item was on the queue, and the caller has taken it off, once.
unsafe fn queued_reference<T>(owner: &Arc<T>) -> Arc<T> {
    // SAFETY: `Queue::enqueue` gave this reference away by `Arc::into_raw`, for `run` to take.
    // The item is off the queue, so `run` does not take it.
    unsafe { Arc::from_raw(Arc::as_ptr(owner)) }
}

/// Waits until a work item has run, if it is queued or runs (`flush_work`). May sleep.
pub fn flush<T: ?Sized, const ID: u64>(work: &Work<T, ID>) {
    // SAFETY: A `Work` that can be borrowed is initialised.
    unsafe { bindings::flush_work(Work::raw_get(work)) };
}

/// Runs a delayed work item now, if it is queued, and waits for it (`flush_delayed_work`). May
/// sleep.
pub fn flush_delayed<T: ?Sized, const ID: u64>(work: &DelayedWork<T, ID>) {
    // SAFETY: `DelayedWork` is transparent over the C structure, which is initialised when it
    // can be borrowed.
    unsafe { bindings::flush_delayed_work((&raw const *work).cast_mut().cast()) };
}

/// Allocates a value of zeroes in place, for types that are too large for the stack. Fails with
/// `ENOMEM`.
pub fn zeroed<T: FromZeros>() -> Result<KBox<T>> {
    let place = KBox::<T>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: All bytes are 0, which `FromZeros` says is a valid value.
    Ok(unsafe { place.assume_init() })
}

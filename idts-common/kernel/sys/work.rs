// SPDX-License-Identifier: GPL-2.0

//! Work items and memory as the kernel crate does not offer them: the queue that
//! all of our work runs on, waiting for an item and its end, a box of zeroes.

use core::ptr;

use kernel::alloc::flags::__GFP_ZERO;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;
use kernel::workqueue::{DelayedWork, HasDelayedWork, HasWork, Queue, Work, WorkItem};
use zerocopy::FromZeros;

use crate::sys::bindings;

/// The module's queue, while there is an [`OwnQueue`].
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The queue that all of our work runs on: the module's own, for the mover's may
/// run without end; unbound, for the rest is rare and short. Destroyed when
/// dropped: by then all items are disabled, or owned by nobody.
pub(crate) struct OwnQueue(());

impl OwnQueue {
    /// Makes the queue.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`, before anything is queued.
    pub(crate) unsafe fn new() -> Result<Self> {
        // SAFETY: No requirements; the result is checked.
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
        // SAFETY: Made by `new`, destroyed once. Runs what is queued, first.
        unsafe { bindings::destroy_workqueue(QUEUE.load(Relaxed)) };
    }
}

/// The queue that all of our work runs on.
pub(crate) fn queue() -> &'static Queue {
    // SAFETY: Made before, and destroyed after, all that queues: first and last
    // in the life of a module. The word is written before that, once.
    unsafe { Queue::from_raw(QUEUE.load(Relaxed)) }
}

/// Ends a work item: takes it off the queue, waits until it has run if it does,
/// and leaves it such that nobody can queue it again. May sleep.
pub(crate) fn disable<T, const ID: u64>(owner: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: The owner is alive, and its item initialised.
    let queued = unsafe {
        let work = Work::raw_get(T::raw_get_work(Arc::as_ptr(owner).cast_mut()));
        bindings::disable_work_sync(work)
    };
    if queued {
        // SAFETY: As `queued_reference` requires.
        drop(unsafe { queued_reference(owner) });
    }
}

/// As [`disable`], but if it runs it may go on.
pub(crate) fn disable_later<T, const ID: u64>(owner: &Arc<T>)
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

/// As [`disable`], of a delayed item.
pub(crate) fn disable_delayed<T, const ID: u64>(owner: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    // SAFETY: The owner is alive, and its item initialised; `HasDelayedWork`
    // promises that this work item is a delayed one's.
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

/// The reference that a queued item owned.
///
/// # Safety
///
/// The item was taken off the queue just now, once.
unsafe fn queued_reference<T>(owner: &Arc<T>) -> Arc<T> {
    // SAFETY: `Queue::enqueue` gave this reference away by `Arc::into_raw`, for
    // `run` to take, which does not run any more.
    unsafe { Arc::from_raw(Arc::as_ptr(owner)) }
}

/// Waits until a work item has run, if it is queued or runs. May sleep.
pub(crate) fn flush<T: ?Sized, const ID: u64>(work: &Work<T, ID>) {
    // SAFETY: A `Work` is initialised when it can be borrowed.
    unsafe { bindings::flush_work(Work::raw_get(work)) };
}

/// Runs a delayed work item now, if it is queued, and waits until it has. May
/// sleep.
pub(crate) fn flush_delayed<T: ?Sized, const ID: u64>(work: &DelayedWork<T, ID>) {
    // SAFETY: `DelayedWork` is transparent over the C structure, which is
    // initialised when it can be borrowed.
    unsafe { bindings::flush_delayed_work((&raw const *work).cast_mut().cast()) };
}

/// A box of zeroes, made in place: for what is too large for the stack.
pub(crate) fn zeroed<T: FromZeros>() -> Result<KBox<T>> {
    let place = KBox::<T>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: All of it is 0, which `FromZeros` says is a value.
    Ok(unsafe { place.assume_init() })
}

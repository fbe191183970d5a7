// SPDX-License-Identifier: GPL-2.0

//! Work items and memory as the kernel crate does not offer them: the queue that
//! all of our work runs on, waiting for an item, a box of zeroes.

use idts_core::region::Region;
use kernel::alloc::flags::__GFP_ZERO;
use kernel::prelude::*;
use kernel::workqueue::{DelayedWork, Queue, Work};

use crate::bindings;

/// The queue that all of our work runs on: unbound, for it is rare and short.
pub(crate) fn queue() -> &'static Queue {
    // SAFETY: A queue of the kernel's own, made at boot and never destroyed. The
    // kernel crate's own getters still name the deprecated ones.
    unsafe { Queue::from_raw(kernel::bindings::system_dfl_wq) }
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

/// Types of which zeroes are a value: the empty one.
///
/// # Safety
///
/// They are.
pub(crate) unsafe trait Zeroes {}

// SAFETY: Integers only.
unsafe impl Zeroes for Region {}

/// A box of zeroes, made in place: for what is too large for the stack.
pub(crate) fn zeroed<T: Zeroes>() -> Result<KBox<T>> {
    let place = KBox::<T>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: All of it is 0, which is a value, as the trait says.
    Ok(unsafe { place.assume_init() })
}

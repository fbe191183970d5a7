// SPDX-License-Identifier: GPL-2.0

//! Waiters that have left their table and are kept until no interrupt handler can access them.
//!
//! A grace period costs more than the memory of a waiter, so the waiters of [`GATHER_MS`] share
//! one.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use super::table::Unlisted;
use crate::sys::rcu::synchronize;
use crate::sys::work::{self, disable_delayed, flush_delayed};

/// How long waiters are gathered before a grace period, in milliseconds.
const GATHER_MS: u32 = 20;

/// The waiters of a module that wait for a grace period.
#[pin_data]
pub(crate) struct Grace {
    #[pin]
    work: DelayedWork<Grace>,
    #[pin]
    waiters: Mutex<KVec<Unlisted>>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Grace { self.work }
}

impl Grace {
    /// Creates an empty list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_grace"),
                waiters <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Drops a waiter after a grace period, for which it waits itself if there is no memory. May
    /// sleep.
    pub(crate) fn drop_later(self: &Arc<Self>, waiter: Option<Unlisted>) {
        let Some(waiter) = waiter else {
            return;
        };
        let left = {
            let mut waiters = self.waiters.lock();
            match waiters.reserve(1, GFP_KERNEL) {
                Ok(()) => waiters.push_within_capacity(waiter).err().map(|e| e.0),
                Err(_) => Some(waiter),
            }
        };
        if left.is_none() {
            let delay = msecs_to_jiffies(GATHER_MS);
            let _ = work::queue().enqueue_delayed::<_, 0>(self.clone(), delay);
            return;
        }
        synchronize();
        drop(left);
    }

    /// Waits for the work that is pending, which drops the gathered waiters. May sleep.
    pub(crate) fn flush(&self) {
        flush_delayed(&self.work);
    }

    /// Drops the gathered waiters after a grace period. Sleeps.
    fn pass(&self) {
        let waiters = core::mem::take(&mut *self.waiters.lock());
        if !waiters.is_empty() {
            synchronize();
        }
    }

    /// Finishes at module exit: no work runs afterwards. May sleep.
    pub(crate) fn finish(self: &Arc<Self>) {
        disable_delayed::<_, 0>(self);
        self.pass();
    }
}

impl WorkItem for Grace {
    type Pointer = Arc<Grace>;

    fn run(this: Arc<Grace>) {
        this.pass();
    }
}

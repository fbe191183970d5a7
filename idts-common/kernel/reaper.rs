// SPDX-License-Identifier: GPL-2.0

//! What cannot be freed at once: pages that the peer still maps, and endpoints
//! that an interrupt handler may still look at.
//!
//! The kernel's own fallback for grants that a peer still maps frees ten pages
//! a second; this retries all of them together, as soon and as often as needed,
//! and once more when the module goes.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::bindings;
use crate::endpoint::Endpoint;
use crate::grant::GrantedPages;

/// Between two tries.
const RETRY_MS: u32 = 20;
/// Tries at module exit: five seconds.
const LAST_TRIES: u32 = 250;

struct Lists {
    pages: KVec<GrantedPages>,
    endpoints: KVec<Arc<Endpoint>>,
}

/// Frees later what cannot be freed now.
#[pin_data]
pub(crate) struct Reaper {
    #[pin]
    work: DelayedWork<Reaper>,
    #[pin]
    lists: Mutex<Lists>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Reaper { self.work }
}

impl Reaper {
    /// A reaper with nothing to do.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_reaper"),
                lists <- new_mutex!(Lists { pages: KVec::new(), endpoints: KVec::new() }),
            }),
            GFP_KERNEL,
        )
    }

    /// Ends the grants of `pages`, newest last; what the peer still maps is
    /// tried again later.
    pub(crate) fn end(self: &Arc<Self>, pages: impl IntoIterator<Item = GrantedPages>) {
        let mut left = false;
        {
            let mut lists = self.lists.lock();
            for block in pages {
                if let Some(block) = block.try_end() {
                    left = true;
                    // Without memory for the list the block is dropped, which
                    // tries once more and then gives the pages up, in the log.
                    let _ = lists.pages.push(block, GFP_KERNEL);
                }
            }
        }
        if left {
            self.schedule(RETRY_MS);
        }
    }

    /// Drops an endpoint after all interrupt handlers that may have seen it.
    pub(crate) fn retire(self: &Arc<Self>, endpoint: Arc<Endpoint>) {
        let spare = endpoint.clone();
        if self
            .lists
            .lock()
            .endpoints
            .push(endpoint, GFP_KERNEL)
            .is_ok()
        {
            self.schedule(0);
        } else {
            // SAFETY: May sleep here.
            unsafe { bindings::synchronize_rcu() };
        }
        drop(spare);
    }

    fn schedule(self: &Arc<Self>, ms: u32) {
        // Already scheduled is fine: the work looks at the whole lists.
        let _ = crate::queue().enqueue_delayed(self.clone(), msecs_to_jiffies(ms));
    }

    /// Works once through both lists; says whether pages are left.
    fn pass(&self) -> bool {
        let (pages, endpoints) = {
            let mut lists = self.lists.lock();
            (
                core::mem::take(&mut lists.pages),
                core::mem::take(&mut lists.endpoints),
            )
        };
        if !endpoints.is_empty() {
            // SAFETY: May sleep here.
            unsafe { bindings::synchronize_rcu() };
            drop(endpoints);
        }
        let mut lists = self.lists.lock();
        for block in pages {
            if let Some(block) = block.try_end() {
                let _ = lists.pages.push(block, GFP_KERNEL);
            }
        }
        !lists.pages.is_empty()
    }

    /// Blocks of pages that wait for the peer.
    pub(crate) fn waiting(&self) -> usize {
        self.lists.lock().pages.len()
    }

    /// Runs what is scheduled, now. It is never cancelled, for scheduled work
    /// owns a reference to this reaper.
    fn flush(&self) {
        // SAFETY: `DelayedWork` is transparent over the C structure, which is
        // initialised; process context.
        unsafe { bindings::flush_delayed_work((&raw const self.work).cast_mut().cast()) };
    }

    /// Finishes all work, at module exit: nothing is scheduled afterwards.
    pub(crate) fn finish(self: &Arc<Self>) {
        for _ in 0..LAST_TRIES {
            self.flush();
            if !self.pass() {
                break;
            }
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(RETRY_MS.into()));
        }
        self.flush();
        // What is still mapped is given up here, in the log.
        self.lists.lock().pages.clear();
    }
}

impl WorkItem for Reaper {
    type Pointer = Arc<Reaper>;

    fn run(this: Arc<Reaper>) {
        if this.pass() {
            this.schedule(RETRY_MS);
        }
    }
}

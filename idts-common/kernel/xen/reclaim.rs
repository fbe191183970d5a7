// SPDX-License-Identifier: GPL-2.0

//! Granted pages that the peer still maps: freed once it lets go.
//!
//! The kernel's own fallback for such pages frees ten a second (drivers/xen/grant-table.c,
//! `gnttab_handle_deferred`); this retries all of them together, as soon and as often as
//! needed, and once more when the module goes.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::sys::test_override;
use crate::sys::work::{self, disable_delayed};
use crate::xen::grant::GrantedPages;

/// Between two tries.
const RETRY_MS: u32 = 20;
/// Tries at module exit: five seconds.
const LAST_TRIES: u32 = 250;

/// The pages of a module that wait for their peers.
#[pin_data]
pub(crate) struct Reclaim {
    /// Tries again.
    #[pin]
    work: DelayedWork<Reclaim>,
    /// The pages, block by block.
    #[pin]
    pages: Mutex<KVec<GrantedPages>>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Reclaim { self.work }
}

impl Reclaim {
    /// An empty list.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_reclaim"),
                pages <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Ends the grants of `pages`, newest last, or keeps them to try again.
    pub(crate) fn end(self: &Arc<Self>, pages: impl IntoIterator<Item = GrantedPages>) {
        let mut left = false;
        {
            let mut list = self.pages.lock();
            for block in pages {
                if let Some(block) = block.try_end() {
                    left = true;
                    // Without memory for the list the block is dropped, which
                    // tries once more and then leaves them to the kernel, in the log.
                    let _ = list.push(block, GFP_KERNEL);
                }
            }
        }
        if left {
            self.schedule();
        }
    }

    /// Blocks of pages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.pages.lock().len()
    }

    /// Tries everything once; says whether pages are left.
    fn pass(&self) -> bool {
        let mut list = self.pages.lock();
        let pages = core::mem::take(&mut *list);
        for block in pages {
            if let Some(block) = block.try_end() {
                let _ = list.push(block, GFP_KERNEL);
            }
        }
        !list.is_empty()
    }

    /// Has everything tried again soon.
    fn schedule(self: &Arc<Self>) {
        // Already scheduled is fine: the work looks at the whole list.
        let _ = work::queue().enqueue_delayed::<_, 0>(self.clone(), msecs_to_jiffies(RETRY_MS));
    }

    /// Finishes, at module exit: nothing runs afterwards. Gives the peers ample time;
    /// pages that are mapped even then are left to the kernel, in the log. May sleep.
    pub(crate) fn finish(self: &Arc<Self>) {
        disable_delayed::<_, 0>(self);
        for _ in 0..LAST_TRIES {
            if !self.pass() {
                break;
            }
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(RETRY_MS.into()));
        }
        self.pages.lock().clear();
    }
}

impl WorkItem for Reclaim {
    type Pointer = Arc<Reclaim>;

    fn run(this: Arc<Reclaim>) {
        test_override::delay(c"reaper");
        if this.pass() {
            this.schedule();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What cannot be done at once: pages that the peer still maps, waiters that an
//! interrupt handler may still look at, connects that nobody waits for and
//! that end when their time is over, and segments that go back once they have
//! been idle for long.
//!
//! The kernel's own fallback for grants that a peer still maps frees ten pages
//! a second; this retries all of them together, as soon and as often as needed,
//! and once more when the module goes.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::endpoint::{Attempt, Endpoint};
use crate::link::table::Unlisted;
use crate::sys::bindings;
use crate::sys::clock::clock;
use crate::sys::errno::Errno;
use crate::sys::test_override;
use crate::sys::work::{disable_delayed, flush_delayed};
use crate::tunnel::Tunnel;
use crate::xen::grant::GrantedPages;

/// Between two tries.
const RETRY_MS: u32 = 20;
/// Tries at module exit: five seconds.
const LAST_TRIES: u32 = 250;

/// Attempts to connect that nobody waits for.
const CONNECTING_MAX: usize = 4096;

/// Between two looks at connects that nobody waits for, and at idle segments.
const TICK_MS: u32 = 100;

struct Lists {
    pages: KVec<GrantedPages>,
    /// Waiters that a handler may still look at.
    waiters: KVec<Unlisted>,
    /// Attempts that nobody waits for, one of an endpoint, and when they end.
    connecting: KVec<(Attempt, u64)>,
    /// Tunnels with idle segments.
    tended: KVec<Arc<Tunnel>>,
}

/// Frees later what cannot be freed now.
#[pin_data]
pub(crate) struct Reaper {
    #[pin]
    work: DelayedWork<Reaper>,
    #[pin]
    tick: DelayedWork<Reaper, 1>,
    #[pin]
    lists: Mutex<Lists>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Reaper { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Reaper { self.tick }
}

impl Reaper {
    /// A reaper with nothing to do.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_reaper"),
                tick <- new_delayed_work!("idts_connects"),
                lists <- new_mutex!(Lists {
                    pages: KVec::new(),
                    waiters: KVec::new(),
                    connecting: KVec::new(),
                    tended: KVec::new(),
                }),
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
                    // tries once more and then leaves them to the kernel, in the log.
                    let _ = lists.pages.push(block, GFP_KERNEL);
                }
            }
        }
        if left {
            self.schedule(RETRY_MS);
        }
    }

    /// Drops a waiter after all interrupt handlers that may have seen it.
    pub(crate) fn drop_after_grace(self: &Arc<Self>, waiter: Option<Unlisted>) {
        let Some(waiter) = waiter else {
            return;
        };
        let left = {
            let waiters = &mut self.lists.lock().waiters;
            match waiters.reserve(1, GFP_KERNEL) {
                Ok(()) => waiters.push_within_capacity(waiter).err().map(|e| e.0),
                Err(_) => Some(waiter),
            }
        };
        if left.is_none() {
            // Waiting for a grace period costs more than a waiter weighs: those of a
            // while share one.
            self.schedule(RETRY_MS);
            return;
        }
        // SAFETY: May sleep here.
        unsafe { bindings::synchronize_rcu() };
        drop(left);
    }

    /// Ends an attempt that nobody waits for at `deadline`, and no earlier one of
    /// its endpoint any more. Called under the endpoint's lock.
    pub(crate) fn watch(self: &Arc<Self>, attempt: Attempt, deadline: u64) -> Result {
        let mut lists = self.lists.lock();
        let of = |e: &&mut (Attempt, u64)| Arc::ptr_eq(&e.0.endpoint, &attempt.endpoint);
        if let Some(entry) = lists.connecting.iter_mut().find(of) {
            // The endpoint lives on: this drops no last reference.
            *entry = (attempt, deadline);
        } else if lists.connecting.len() < CONNECTING_MAX {
            lists.connecting.push((attempt, deadline), GFP_KERNEL)?;
        } else {
            return Err(ENOSPC);
        }
        self.schedule_tick();
        Ok(())
    }

    /// The attempt of an endpoint has its answer.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        let forgotten = {
            let mut lists = self.lists.lock();
            let of = |e: &(Attempt, u64)| core::ptr::eq(&*e.0.endpoint, endpoint);
            let position = lists.connecting.iter().position(of);
            position.map(|at| lists.connecting.remove(at))
        };
        drop(forgotten);
    }

    /// Has a tunnel look at its idle segments from time to time.
    pub(crate) fn tend(self: &Arc<Self>, tunnel: Arc<Tunnel>) -> Result {
        self.lists.lock().tended.push(tunnel, GFP_KERNEL)?;
        self.schedule_tick();
        Ok(())
    }

    /// Has tunnels look; forgets those without idle segments. Their locks are
    /// outside of this one's.
    fn look_at_segments(self: &Arc<Self>) {
        let mut index = 0usize;
        loop {
            let Some(tunnel) = self.lists.lock().tended.get(index).cloned() else {
                break;
            };
            if tunnel.look_at_idle() {
                index = index.wrapping_add(1);
            } else {
                let _ = self.lists.lock().tended.remove(index);
            }
        }
        if index > 0 {
            self.schedule_tick();
        }
    }

    fn schedule_tick(self: &Arc<Self>) {
        let _ = crate::sys::work::queue()
            .enqueue_delayed::<_, 1>(self.clone(), msecs_to_jiffies(TICK_MS));
    }

    /// Gives up what is overdue.
    fn look_at_connects(self: &Arc<Self>) {
        let now = clock();
        let mut overdue = KVec::new();
        let mut lists = self.lists.lock();
        lists.connecting.retain(|(attempt, deadline)| {
            // Without memory it is overdue at the next tick.
            *deadline > now || overdue.push(attempt.clone(), GFP_KERNEL).is_err()
        });
        if !lists.connecting.is_empty() {
            self.schedule_tick();
        }
        drop(lists);
        for attempt in overdue {
            attempt.give_up(Errno::TimedOut);
        }
    }

    fn schedule(self: &Arc<Self>, ms: u32) {
        // Already scheduled is fine: the work looks at the whole lists.
        let _ =
            crate::sys::work::queue().enqueue_delayed::<_, 0>(self.clone(), msecs_to_jiffies(ms));
    }

    /// Works once through both lists; says whether pages are left.
    fn pass(&self) -> bool {
        let (pages, waiters) = {
            let mut lists = self.lists.lock();
            (
                core::mem::take(&mut lists.pages),
                core::mem::take(&mut lists.waiters),
            )
        };
        if !waiters.is_empty() {
            // SAFETY: May sleep here.
            unsafe { bindings::synchronize_rcu() };
            drop(waiters);
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
    pub(crate) fn flush(&self) {
        flush_delayed(&self.work);
    }

    /// Finishes all work, at module exit: nothing runs afterwards, whoever asks
    /// for it.
    pub(crate) fn finish(self: &Arc<Self>) {
        disable_delayed::<_, 0>(self);
        disable_delayed::<_, 1>(self);
        let connecting = core::mem::take(&mut self.lists.lock().connecting);
        drop(connecting);
        let tended = core::mem::take(&mut self.lists.lock().tended);
        drop(tended);
        for _ in 0..LAST_TRIES {
            if !self.pass() {
                break;
            }
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(RETRY_MS.into()));
        }
        // What is still mapped is left to the kernel here, in the log.
        self.lists.lock().pages.clear();
    }
}

impl WorkItem<1> for Reaper {
    type Pointer = Arc<Reaper>;

    fn run(this: Arc<Reaper>) {
        this.look_at_connects();
        this.look_at_segments();
    }
}

impl WorkItem for Reaper {
    type Pointer = Arc<Reaper>;

    fn run(this: Arc<Reaper>) {
        test_override::delay(c"reaper");
        if this.pass() {
            this.schedule(RETRY_MS);
        }
    }
}

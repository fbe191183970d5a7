// SPDX-License-Identifier: GPL-2.0

//! Time limits of connects without a task that waits, for example nonblocking ones.

use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::sys::clock::clock;
use crate::sys::errno::Errno;
use crate::sys::work::{self, disable_delayed};
use crate::tunnel::host::{Attempt, Opener};

/// Most attempts that are watched at once.
const ATTEMPTS_MAX: usize = 4096;

/// Period of the checks, in milliseconds.
const TICK_MS: u32 = 100;

/// The attempts of a module without a task that waits for them.
#[pin_data]
pub(crate) struct Timeouts {
    #[pin]
    work: DelayedWork<Timeouts>,
    /// At most one attempt of each opener, and its deadline by [`clock`].
    #[pin]
    attempts: Mutex<KVec<(Attempt, u64)>>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Timeouts { self.work }
}

impl Timeouts {
    /// Creates an empty list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_timeouts"),
                attempts <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Watches an attempt, which ends at `deadline`. It replaces an earlier attempt of its
    /// opener. The caller holds the opener's lock.
    ///
    /// # Errors
    /// `ENOSPC`: too many attempts are watched. `ENOMEM`.
    pub(crate) fn watch(
        self: &Arc<Self>,
        opener: &dyn Opener,
        attempt: Attempt,
        deadline: u64,
    ) -> Result {
        let mut attempts = self.attempts.lock();
        let of = |entry: &&mut (Attempt, u64)| entry.0.is_of(opener);
        if let Some(entry) = attempts.iter_mut().find(of) {
            // The caller keeps the opener, so this drops no last reference.
            *entry = (attempt, deadline);
        } else if attempts.len() < ATTEMPTS_MAX {
            attempts.push((attempt, deadline), GFP_KERNEL)?;
        } else {
            return Err(ENOSPC);
        }
        self.schedule();
        Ok(())
    }

    /// Stops watching the attempt of an opener, which is over.
    pub(crate) fn forget(&self, opener: &dyn Opener) {
        let forgotten = {
            let mut attempts = self.attempts.lock();
            let position = attempts.iter().position(|entry| entry.0.is_of(opener));
            position.map(|at| attempts.remove(at))
        };
        drop(forgotten);
    }

    /// Schedules the next check.
    fn schedule(self: &Arc<Self>) {
        let delay = msecs_to_jiffies(TICK_MS);
        let _ = work::queue().enqueue_delayed::<_, 0>(self.clone(), delay);
    }

    /// Ends the attempts that are overdue, outside the lock, because openers' locks come before
    /// it.
    fn tick(self: &Arc<Self>) {
        let now = clock();
        let mut overdue = KVec::new();
        let mut attempts = self.attempts.lock();
        attempts.retain(|(attempt, deadline)| {
            // Without memory it stays, and is overdue at the next check.
            *deadline > now || overdue.push(attempt.clone(), GFP_KERNEL).is_err()
        });
        if !attempts.is_empty() {
            self.schedule();
        }
        drop(attempts);
        for attempt in overdue {
            attempt.give_up(Errno::TimedOut);
        }
    }

    /// Finishes at module exit: no work runs afterwards. May sleep.
    pub(super) fn finish(self: &Arc<Self>) {
        disable_delayed::<_, 0>(self);
        let attempts = core::mem::take(&mut *self.attempts.lock());
        drop(attempts);
    }
}

impl WorkItem for Timeouts {
    type Pointer = Arc<Timeouts>;

    fn run(this: Arc<Timeouts>) {
        this.tick();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Inline processing: a process that waits for a control message's effect handles the
//! messages itself meanwhile, which saves a wake-up.
//!
//! One process at a time is the module's inline processor, for all tunnels. An event handler
//! leaves a mark on its tunnel and calls the processor; without one it wakes the
//! worker, as it does in any case a little later, for a process must not hold others
//! up.
//!
//! Other domains send what it handles, on its own time, and while it holds a tunnel's lock
//! others wait for it. So it handles no more in one wait than the answer that it waits for
//! may be behind, and a process whose priority is below normal handles none at all; the rest
//! is the worker's.

use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::sys::bindings;
use crate::sys::busy_poll::BusyPoll;
use crate::sys::clock::ticks;
use crate::sys::wait::{Armed, Awaited, WaitQueue, Woken};

/// Looks for a message of a process in one wait, at most. That of a connect or an
/// accept alone takes a handful.
const LOOKS_MAX: usize = 128;

/// The messages that wait. The module's list of tunnels implements it.
pub(crate) trait Pending {
    /// Handles messages with so many looks for one, which are counted off.
    fn process(&self, looks: &mut usize);

    /// Leaves messages to the tunnels' workers.
    fn leave_to_workers(&self);
}

/// The inline processor of a module.
#[pin_data]
pub(crate) struct Inline {
    /// A process is the processor.
    taken: Atomic<bool>,
    /// It may be called.
    call: Armed,
    /// The CPU of the last call.
    cpu: Atomic<u32>,
    /// How it waits.
    busy_poll: BusyPoll,
    #[pin]
    queue: WaitQueue,
}

/// Guard: the holder is the module's only inline processor.
struct Runner<'a> {
    inline: &'a Inline,
    pending: &'a dyn Pending,
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        // A call that found no look is the worker's.
        if !self.inline.call.disarm() {
            self.pending.leave_to_workers();
        }
        self.inline.taken.store(false, Release);
    }
}

impl Inline {
    /// Without a processor.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            taken: Atomic::new(false),
            call: Armed::new(),
            cpu: Atomic::new(u32::MAX),
            busy_poll: BusyPoll::new(),
            queue <- WaitQueue::new(),
        })
    }

    /// There are messages on a tunnel that is marked. `false`: nobody takes them.
    /// Called in hard interrupt context.
    pub(crate) fn call(&self) -> bool {
        let called = self.call.disarm();
        if called {
            self.cpu.store(crate::xen::evtchn::this_cpu(), Relaxed);
            self.queue.wake_all();
        }
        called
    }

    /// Has the processor see whether it still waits.
    pub(crate) fn wake(&self) {
        self.queue.wake_all();
    }

    /// Waits until `news` come by whoever handles messages, at most for `jiffies`,
    /// and handles some of `pending` meanwhile. `None`: another process does that.
    pub(crate) fn wait(
        &self,
        pending: &dyn Pending,
        news: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Option<Result<Woken>> {
        // SAFETY: No requirements in a process.
        if !unsafe { bindings::idts_may_help() } {
            return None;
        }
        self.taken.cmpxchg(false, true, Acquire).ok()?;
        let runner = Runner {
            inline: self,
            pending,
        };
        Some(self.wait_as(runner, news, jiffies))
    }

    fn wait_as(
        &self,
        runner: Runner<'_>,
        news: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Result<Woken> {
        let start = ticks();
        let pending = runner.pending;
        let mut runner = Some(runner);
        let mut looks = LOOKS_MAX;
        loop {
            let mut call = None;
            if runner.is_some() {
                call = Some(Awaited::arm(&self.call));
                pending.process(&mut looks);
            }
            if looks == 0 && runner.is_some() {
                pending.leave_to_workers();
                (runner, call) = (None, None);
            }
            if news.came() {
                return Ok(Woken::Ready);
            }
            let left = jiffies.map(|all| all.saturating_sub_unsigned(ticks().wrapping_sub(start)));
            if left.is_some_and(|left| left <= 0) {
                return Ok(Woken::TimedOut);
            }
            let Some(call) = call else {
                self.queue.wait(left, || news.came())?;
                continue;
            };
            self.busy_poll.block(call, self.cpu.load(Relaxed), || {
                let called = || call.came() || news.came();
                self.queue.wait(left, called).map(|_| ())
            })?;
        }
    }
}

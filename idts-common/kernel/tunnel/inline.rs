// SPDX-License-Identifier: GPL-2.0

//! Inline processing: a task that waits for a control message processes the control ring itself,
//! which saves a wake-up.
//!
//! One task at a time is the module's inline processor, for all tunnels. An event handler marks
//! its tunnel and calls the processor. Without one it wakes the worker. The worker also follows
//! a little later in any case, because a task must not hold up others.
//!
//! Other domains decide how much there is to process, which costs the task time, and others wait
//! for the tunnel's lock meanwhile. So one wait processes at most [`LOOKS_MAX`] messages, about
//! as many as may precede its answer, and a task with less than normal priority none; the worker
//! does the rest.

use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::sys::bindings;
use crate::sys::busy_poll::BusyPoll;
use crate::sys::clock::ticks;
use crate::sys::wait::{Armed, Awaited, WaitQueue, Woken};

/// Most attempts to receive a message in one wait. A connect or an accept alone takes a handful.
const LOOKS_MAX: usize = 128;

/// The tunnels with messages. Implemented by the module's registry.
pub(crate) trait Pending {
    /// Handles messages, with at most `looks` attempts to receive one, which are deducted.
    fn process(&self, looks: &mut usize);

    /// Leaves the remaining messages to the tunnels' workers.
    fn leave_to_workers(&self);
}

/// The inline processor of a module.
#[pin_data]
pub(crate) struct Inline {
    /// Set while a task is the processor.
    taken: Atomic<bool>,
    /// Armed while the processor can be called.
    call: Armed,
    /// The CPU of the last call.
    cpu: Atomic<u32>,
    /// The busy-poll state of the processor's waits.
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
        // A call that the processor has not handled is left to the worker.
        if !self.inline.call.disarm() {
            self.pending.leave_to_workers();
        }
        self.inline.taken.store(false, Release);
    }
}

impl Inline {
    /// Creates the state without a processor.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            taken: Atomic::new(false),
            call: Armed::new(),
            cpu: Atomic::new(u32::MAX),
            busy_poll: BusyPoll::new(),
            queue <- WaitQueue::new(),
        })
    }

    /// Calls the processor for a tunnel that is marked. Returns false if there is none to call.
    /// Callable in hard interrupt context.
    pub(crate) fn call(&self) -> bool {
        let called = self.call.disarm();
        if called {
            self.cpu.store(crate::sys::cpu::this(), Relaxed);
            self.queue.wake_all();
        }
        called
    }

    /// Wakes the processor, so that it checks its own wait.
    pub(crate) fn wake(&self) {
        self.queue.wake_all();
    }

    /// Waits for `news`, at most for `jiffies`, and handles some messages of `pending`
    /// meanwhile. Returns `None` if another task is the processor, or this one may not be.
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

    /// The wait of the processor.
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

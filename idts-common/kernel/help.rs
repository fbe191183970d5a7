// SPDX-License-Identifier: GPL-2.0

//! Processes that wait for what a control message brings, and meanwhile handle
//! the messages themselves: one process less to be woken for each.
//!
//! One process at a time is the module's helper, for all tunnels. An event handler
//! leaves a mark on its tunnel and calls the helper; without one it wakes the
//! worker, as it does in any case a little later, for a helper must not hold others
//! up.
//!
//! What it handles is also what other domains send, on its own time, and while it
//! holds a tunnel's lock others wait for it. So it handles no more in one wait than
//! the answer that it waits for may be behind, and none whose priority is below
//! normal helps at all; the rest is the worker's.

use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::hub::Hub;
use crate::sys::bindings;
use crate::sys::busy_poll::BusyPoll;
use crate::sys::clock::ticks;
use crate::sys::wait::{Armed, Awaited, WaitQueue, Woken};

/// Looks for a message of a process in one wait, at most. That of a connect or an
/// accept alone takes a handful.
const LOOKS_MAX: usize = 128;

/// A module's helper.
#[pin_data]
pub(crate) struct Help {
    /// Somebody helps.
    taken: Atomic<bool>,
    /// The helper may be called.
    call: Armed,
    /// The CPU of the last call.
    cpu: Atomic<u32>,
    /// How helpers wait.
    busy_poll: BusyPoll,
    #[pin]
    queue: WaitQueue,
}

impl Help {
    /// Nobody helps.
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

    /// Has the helper see whether it still waits.
    pub(crate) fn look_up(&self) {
        self.queue.wake_all();
    }
}

/// The helper's office, held by the one who is.
struct Office<'a>(&'a Hub);

impl<'a> Office<'a> {
    /// Takes the office, if nobody has it.
    fn take(hub: &'a Hub) -> Option<Self> {
        let vacant = hub.help.taken.cmpxchg(false, true, Acquire).is_ok();
        vacant.then_some(Self(hub))
    }
}

impl Drop for Office<'_> {
    fn drop(&mut self) {
        // Whoever was called and did not look leaves it to the worker.
        if !self.0.help.call.disarm() {
            self.0.pass_mail_on();
        }
        self.0.help.taken.store(false, Release);
    }
}

impl Hub {
    /// Waits until `news` come by whoever handles messages, at most for `jiffies`,
    /// and handles some of them meanwhile. `None`: others are to do that.
    pub(crate) fn help(&self, news: Awaited<'_>, jiffies: Option<isize>) -> Option<Result<Woken>> {
        // SAFETY: No requirements in a process.
        if !unsafe { bindings::idts_may_help() } {
            return None;
        }
        let office = Office::take(self)?;
        Some(self.help_until(office, news, jiffies))
    }

    fn help_until(
        &self,
        office: Office<'_>,
        news: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Result<Woken> {
        let help = &self.help;
        let start = ticks();
        let mut office = Some(office);
        let mut looks = LOOKS_MAX;
        loop {
            let mut call = None;
            if office.is_some() {
                call = Some(Awaited::arm(&help.call));
                self.take_mail(&mut looks);
            }
            if looks == 0 && office.is_some() {
                self.pass_mail_on();
                (office, call) = (None, None);
            }
            if news.came() {
                return Ok(Woken::Ready);
            }
            let left = jiffies.map(|all| all.saturating_sub_unsigned(ticks().wrapping_sub(start)));
            if left.is_some_and(|left| left <= 0) {
                return Ok(Woken::TimedOut);
            }
            let Some(call) = call else {
                help.queue.wait(left, || news.came())?;
                continue;
            };
            help.busy_poll.block(call, help.cpu.load(Relaxed), || {
                let called = || call.came() || news.came();
                help.queue.wait(left, called).map(|_| ())
            })?;
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Wait queues: sleeping until a condition over atomics holds, and poll.
//!
//! The kernel crate's `CondVar` tests before it prepares to wait, which loses
//! wake-ups from a notifier that takes no lock; this follows `wait_event()`.

use core::pin::Pin;

use idts_core::event_count::{arm, armed_at, epoch, has_waiters, notified};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::barrier::smp_mb;
use kernel::types::Opaque;

use crate::sys::bindings;

/// A `wait_queue_head_t`.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: The queue has its own lock; all of its functions may be called from
// any thread, waking from interrupt context too.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

/// One kind of news that some may wait for (`idts_core::event_count`).
///
/// Whoever wants to be woken notes what was [`Self::seen`], arms it, looks once
/// more, and sleeps until [`Self::came`]. The event handler disarms without any
/// lock.
pub(crate) struct Armed(Atomic<u32>);

impl Armed {
    /// Nobody waits.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// How often news came: before the arming.
    pub(crate) fn seen(&self) -> u32 {
        epoch(self.0.load(Relaxed))
    }

    /// Somebody is about to wait. `true`: another does already.
    pub(crate) fn arm(&self) -> bool {
        // Full: armed before the look that follows.
        let mut word = self.0.load(Relaxed);
        loop {
            match self.0.cmpxchg(word, arm(word), Full) {
                Ok(_) => return has_waiters(word),
                Err(now) => word = now,
            }
        }
    }

    /// There are news; `true`: somebody waits for them.
    pub(crate) fn disarm(&self) -> bool {
        // What is new before the look for who waits for it.
        smp_mb();
        let mut word = self.0.load(Relaxed);
        while let Some(next) = notified(word) {
            match self.0.cmpxchg(word, next, Full) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Whether news came since they were seen.
    pub(crate) fn came(&self, seen: u32) -> bool {
        self.seen() != seen
    }

    /// Halts this CPU until its next interrupt, if the news are to come by an
    /// interrupt of `cpu`, this is it, and it has nothing else to run: the
    /// process stays on the CPU, which spares falling asleep and being woken.
    /// `true`: the news came.
    pub(crate) fn halt(&self, seen: u32, cpu: u32) -> bool {
        // SAFETY: The word lives as long as `self`; a task that may sleep, with
        // interrupts enabled, may halt.
        unsafe { bindings::idts_halt_while(self.0.as_ptr(), armed_at(seen), cpu) };
        self.came(seen)
    }
}

/// News that are waited for, by somebody who saw how often they came before.
#[derive(Clone, Copy)]
pub(crate) struct Awaited<'a> {
    pub(crate) armed: &'a Armed,
    pub(crate) seen: u32,
}

impl<'a> Awaited<'a> {
    /// Of what is to be armed now.
    pub(crate) fn of(armed: &'a Armed) -> Self {
        let seen = armed.seen();
        Self { armed, seen }
    }

    /// Arms them.
    pub(crate) fn arm(armed: &'a Armed) -> Self {
        let news = Self::of(armed);
        armed.arm();
        news
    }

    /// Whether they came.
    pub(crate) fn came(self) -> bool {
        self.armed.came(self.seen)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The condition holds.
    Ready,
    /// The time is over.
    TimedOut,
}

impl WaitQueue {
    /// An empty queue.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|head| {
                // SAFETY: `head` is valid for writing and stays pinned.
                unsafe { bindings::idts_init_waitqueue(head) }
            }),
        })
    }

    /// Wakes everyone. May be called from hard interrupt context.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The head is initialised; no key is passed.
        unsafe {
            // A full barrier first: whoever is not in the queue yet looks once
            // more when it is, and sees what changed.
            if !bindings::idts_has_waiters(self.head.get()) {
                return;
            }
            bindings::__wake_up(
                self.head.get(),
                bindings::TASK_NORMAL,
                0,
                core::ptr::null_mut(),
            )
        };
    }

    /// Sleeps until `condition` holds, at most `timeout` jiffies, and no longer
    /// than to the next signal (`ERESTARTSYS`). Whoever freezes processes lets it
    /// sleep: a saved domain goes on where it was, without a signal.
    ///
    /// `condition` runs while the task is set to sleep: it must not sleep.
    pub(crate) fn wait(
        &self,
        timeout: Option<isize>,
        condition: impl Fn() -> bool,
    ) -> Result<Woken> {
        let mut entry = Opaque::<bindings::wait_queue_entry>::zeroed();
        let mut left = timeout.unwrap_or(isize::MAX);
        // SAFETY: `entry` lives on this stack until `finish_wait` below took it
        // off the queue.
        unsafe { bindings::init_wait_entry(entry.get(), 0) };
        let result = loop {
            // SAFETY: Both are initialised, as above.
            let interrupted = unsafe {
                bindings::prepare_to_wait_event(
                    self.head.get(),
                    entry.get(),
                    (bindings::TASK_INTERRUPTIBLE | bindings::TASK_FREEZABLE) as i32,
                )
            };
            if condition() {
                break Ok(Woken::Ready);
            }
            if left == 0 {
                break Ok(Woken::TimedOut);
            }
            if interrupted != 0 {
                break Err(ERESTARTSYS);
            }
            // SAFETY: The task is prepared to wait; sleeping is allowed here.
            left = unsafe { bindings::schedule_timeout(left) };
            if condition() {
                break Ok(Woken::Ready);
            }
        };
        // SAFETY: As above. This also sets the task running again.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        let _ = &mut entry;
        result
    }

    /// Adds the queue to a poll.
    ///
    /// # Safety
    ///
    /// `file` and `table` are what `file_operations.poll` was called with, and
    /// the queue outlives the file.
    pub(crate) unsafe fn poll(
        self: Pin<&Self>,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) {
        // SAFETY: As this function requires.
        unsafe { bindings::idts_poll_wait(file, self.head.get(), table) };
    }
}

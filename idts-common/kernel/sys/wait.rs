// SPDX-License-Identifier: GPL-2.0

//! Wait queues and event counts: sleeping until a condition over atomics holds, and poll.
//!
//! The kernel crate's `CondVar` tests its condition before it prepares to wait, which loses a
//! wake-up from a notifier that takes no lock. [`WaitQueue::wait`] follows `wait_event()`
//! (include/linux/wait.h).

use core::pin::Pin;

use idts_core::event_count::{arm, armed_at, epoch, has_waiters, notified};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::barrier::smp_mb;
use kernel::types::Opaque;

use crate::sys::bindings;

/// A `wait_queue_head_t`: tasks that sleep, and polls.
#[pin_data]
pub struct WaitQueue {
    /// The C structure, initialised by [`Self::new`].
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: The queue has its own lock. All of its functions may be called from any thread, and
// waking from interrupt context, too.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

/// An event count for one kind of news (`idts_core::event_count` computes its word).
///
/// A task that wants to be woken notes [`Self::seen`], arms the word, checks its condition once
/// more, and sleeps until [`Self::came`]. The event handler disarms without a lock.
pub struct Armed(Atomic<u32>);

impl Armed {
    /// Creates a word on which no task waits.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Returns how often waiters were notified. To be noted before [`Self::arm`].
    pub fn seen(&self) -> u32 {
        epoch(self.0.load(Relaxed))
    }

    /// Arms the word, with a full barrier: the caller's next look at its condition comes after.
    ///
    /// Returns whether another task had armed it already.
    pub fn arm(&self) -> bool {
        // Full: pairs with the barrier in `disarm`. Either the look that follows sees the news,
        // or the notifier sees the word armed.
        let mut word = self.0.load(Relaxed);
        loop {
            match self.0.cmpxchg(word, arm(word), Full) {
                Ok(_) => return has_waiters(word),
                Err(now) => word = now,
            }
        }
    }

    /// Disarms the word: news is there. Callable in any context, without a lock.
    ///
    /// Returns whether a task waits, which the caller then wakes.
    pub fn disarm(&self) -> bool {
        // The news is written before the word is read; pairs with `arm`.
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

    /// Returns whether waiters were notified since `seen`.
    pub fn came(&self, seen: u32) -> bool {
        self.seen() != seen
    }

    /// Halts this CPU until its next interrupt, if it is `cpu`, whose interrupt brings the news,
    /// and has nothing else to run. The task stays on the CPU, which spares falling asleep and
    /// being woken.
    ///
    /// Returns whether the news came. The caller may sleep, and has interrupts enabled.
    pub fn halt(&self, seen: u32, cpu: u32) -> bool {
        // SAFETY: The word lives as long as `self`, and C reads it by `READ_ONCE`. A task that
        // may sleep, with interrupts enabled, may halt.
        unsafe { bindings::idts_halt_while(self.0.as_ptr(), armed_at(seen), cpu) };
        self.came(seen)
    }
}

/// A wait for news: the [`Armed`] word, and how often it was notified before the wait.
#[derive(Clone, Copy)]
pub struct Awaited<'a> {
    /// The word.
    pub(crate) armed: &'a Armed,
    /// The value of [`Armed::seen`] when the wait began.
    pub(crate) seen: u32,
}

impl<'a> Awaited<'a> {
    /// Begins a wait for `armed`, which the caller arms next.
    pub(crate) fn of(armed: &'a Armed) -> Self {
        let seen = armed.seen();
        Self { armed, seen }
    }

    /// Begins a wait for `armed`, and arms it.
    pub(crate) fn arm(armed: &'a Armed) -> Self {
        let news = Self::of(armed);
        armed.arm();
        news
    }

    /// Returns whether the news came.
    pub(crate) fn came(self) -> bool {
        self.armed.came(self.seen)
    }
}

/// How a wait ended that no signal interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The condition holds.
    Ready,
    /// The time is over, and the condition does not hold.
    TimedOut,
}

impl WaitQueue {
    /// Creates an empty queue.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|head| {
                // SAFETY: `head` is valid for writing and stays pinned.
                unsafe { bindings::idts_init_waitqueue(head) }
            }),
        })
    }

    /// Wakes all tasks and polls. Callable in hard interrupt context.
    pub fn wake_all(&self) {
        // SAFETY: The head is initialised; no key is passed.
        unsafe {
            // Begins with a full barrier: a task that is not in the queue yet checks its
            // condition after it is, and sees what changed.
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

    /// Sleeps until `condition` holds, for at most `timeout` jiffies.
    ///
    /// Fails with `ERESTARTSYS` on a signal. The freezer does not wake the task: a domain that
    /// was saved goes on where it was. `condition` runs while the task is set to sleep, so it
    /// must not sleep.
    pub fn wait(&self, timeout: Option<isize>, condition: impl Fn() -> bool) -> Result<Woken> {
        let entry = Opaque::<bindings::wait_queue_entry>::zeroed();
        let mut left = timeout.unwrap_or(isize::MAX);
        // SAFETY: `entry` lives on this stack, unmoved, until `finish_wait` below has taken it
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
        result
    }

    /// Adds the queue to a poll, before the caller looks at its condition.
    ///
    /// # Safety
    ///
    /// - `file` and `table` are what `file_operations.poll` was called with.
    /// - The queue outlives the file.
    pub(crate) unsafe fn poll(
        self: Pin<&Self>,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) {
        // SAFETY: As this function requires.
        unsafe { bindings::idts_poll_wait(file, self.head.get(), table) };
    }
}

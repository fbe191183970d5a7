// SPDX-License-Identifier: GPL-2.0

//! One end of a channel as the event handler sees it: the conditions that it is armed for, and
//! the object to wake.

use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, SetOnce};

use super::watch::Watch;
use crate::mem::revocable::AccessGuard;
use crate::mem::shared::SharedSlice;
use crate::sys::wait::Armed;

/// The reason of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeReason {
    /// There may be data to read, or the end of the stream.
    pub read: bool,
    /// There may be room to write, or writing has ended.
    pub write: bool,
}

impl WakeReason {
    /// All reasons.
    pub const ALL: Self = Self {
        read: true,
        write: true,
    };
}

/// An object to wake. Called by the event handler and [`Waiter::kick`]; implemented by an open
/// file, a relay end, and a tunnel for its control ring.
pub trait Wake: Send + Sync {
    /// Wakes all tasks that wait for `why`. Callable in hard interrupt context.
    fn wake(self: ArcBorrow<'_, Self>, why: WakeReason);
}

/// The conditions that one end of a channel waits for.
///
/// A task arms the word of a condition, checks the condition once more, and waits until the word
/// is disarmed. The event handler disarms without a lock.
pub struct Waiter {
    /// Armed for data to read.
    pub(crate) read: Armed,
    /// Armed for room to write.
    pub(crate) write: Armed,
    /// For an end of the peer's, whatever there is to read and to write.
    pub ends: Armed,
    /// For the tunnel's next turn, where a cap lets nothing move.
    pub(crate) turn: Armed,
    /// The object to wake. Empty before the end has an owner, and then no word is armed.
    whom: SetOnce<Arc<dyn Wake>>,
    /// The memory of the index blocks, and the words of them that were seen last.
    lines: SharedSlice,
    pub(crate) watch: Watch,
}

impl Waiter {
    /// Creates a waiter for `lines`, which are zeroed. No word is armed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(lines: SharedSlice, watch: Watch) -> Result<Arc<Self>> {
        let waiter = Self {
            read: Armed::new(),
            write: Armed::new(),
            ends: Armed::new(),
            turn: Armed::new(),
            whom: SetOnce::new(),
            lines,
            watch,
        };
        Ok(Arc::new(waiter, GFP_KERNEL_ACCOUNT)?)
    }

    /// Sets the object to wake. Only the first call has an effect.
    pub fn belongs_to(&self, whom: Arc<dyn Wake>) {
        self.whom.populate(whom);
    }

    /// Handles a mark of the peer: compares the index words and wakes for what changed. Returns
    /// the number of events that the changes justify. Called by the event handler alone.
    pub(crate) fn on_event(&self, live: &AccessGuard) -> u32 {
        // The words are read before the armed words: a task that arms after that checks its
        // condition later, and finds the change itself.
        let news = self.watch.compare(&self.lines.words(live));
        if !news.is_none() {
            self.tell_of(news.data, news.room, news.flags);
        }
        news.worth
    }

    /// Returns whether the peer published data that this side has not consumed.
    pub(crate) fn has_unread(&self, live: &AccessGuard) -> bool {
        self.watch.has_unread(&self.lines.words(live))
    }

    /// Wakes the tasks whose word is armed, for data, room and flags.
    pub(crate) fn tell(&self) {
        self.tell_of(true, true, true);
    }

    /// Disarms the words that a change concerns, and wakes if one was armed.
    fn tell_of(&self, data: bool, room: bool, ends: bool) {
        let read = (data || ends) && self.read.disarm();
        let write = (room || ends) && self.write.disarm();
        let told = ends && self.ends.disarm();
        if read || write || told {
            // An end is about both directions, whichever of them waits for an event.
            self.wake(WakeReason {
                read: read || ends,
                write: write || ends,
            });
        }
    }

    /// Wakes the tasks that are armed for a turn of the throttle.
    pub(crate) fn tell_turn(&self) {
        if self.turn.disarm() {
            self.wake(WakeReason::ALL);
        }
    }

    /// Wakes all tasks, whatever they wait for.
    pub fn kick(&self) {
        self.read.disarm();
        self.write.disarm();
        self.ends.disarm();
        self.turn.disarm();
        self.wake(WakeReason::ALL);
    }

    /// Wakes the owner, if there is one.
    fn wake(&self, why: WakeReason) {
        if let Some(whom) = self.whom.as_ref() {
            whom.as_arc_borrow().wake(why);
        }
    }
}

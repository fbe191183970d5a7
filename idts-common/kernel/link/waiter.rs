// SPDX-License-Identifier: GPL-2.0

//! One end of a channel as the event handler knows it: who waits for what, and whom to
//! wake.

use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, SetOnce};

use super::watch::Watch;
use crate::mem::revocable::AccessGuard;
use crate::mem::shared::SharedSlice;
use crate::sys::wait::Armed;

/// The reason of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// There may be something to read, or an end.
    pub read: bool,
    /// There may be room to write, or an end.
    pub write: bool,
}

impl Woken {
    /// Any reason.
    pub const ALL: Self = Self {
        read: true,
        write: true,
    };
}

/// Somebody to wake. The event handler and [`Waiter::kick`] call; an open file, a relay's
/// end, and a tunnel for its control ring implement it.
pub trait Wake: Send + Sync {
    /// Wakes everyone who waits for `why`. Called in hard interrupt context, too.
    fn wake(self: ArcBorrow<'_, Self>, why: Woken);
}

/// Who waits for what at one end of a channel.
///
/// Whoever wants to be told arms a word, looks once more, and waits until it is
/// disarmed, which takes no lock.
pub struct Waiter {
    /// For something to read.
    pub(crate) read: Armed,
    /// For room to write.
    pub(crate) write: Armed,
    /// For an end of the peer's, whatever there is to read and to write.
    pub(crate) ends: Armed,
    /// For the tunnel's next turn, where a cap lets nothing move.
    pub(crate) turn: Armed,
    /// Set once there is somebody. Before that nobody waits.
    whom: SetOnce<Arc<dyn Wake>>,
    /// Where the lines lie, and what of them was seen.
    lines: SharedSlice,
    pub(crate) watch: Watch,
}

impl Waiter {
    /// Nobody waits. `lines` are fresh.
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

    /// Has news told to `whom`, from now on and for ever.
    pub fn belongs_to(&self, whom: Arc<dyn Wake>) {
        self.whom.populate(whom);
    }

    /// The peer says that there are news. How many events they are worth. By the event
    /// handler alone.
    pub(crate) fn on_event(&self, live: &AccessGuard) -> u32 {
        // First what is new, then who waits for it: whoever is armed after that looks
        // after that, too.
        let news = self.watch.compare(&self.lines.words(live));
        if !news.is_none() {
            self.tell_of(news.data || news.flags, news.room || news.flags, news.flags);
        }
        news.worth
    }

    /// Whether the peer published something that this side has not taken.
    pub(crate) fn has_unread(&self, live: &AccessGuard) -> bool {
        self.watch.has_unread(&self.lines.words(live))
    }

    /// There may be news: wakes who waits for some.
    pub(crate) fn tell(&self) {
        self.tell_of(true, true, true);
    }

    fn tell_of(&self, data: bool, room: bool, ends: bool) {
        let read = data && self.read.disarm();
        let write = room && self.write.disarm();
        let ends = ends && self.ends.disarm();
        if read || write || ends {
            self.wake(Woken {
                read: read || ends,
                write: write || ends,
            });
        }
    }

    /// It is the tunnel's turn: wakes who waits for that.
    pub(crate) fn tell_turn(&self) {
        if self.turn.disarm() {
            self.wake(Woken::ALL);
        }
    }

    /// Wakes everyone, whatever they wait for.
    pub fn kick(&self) {
        self.read.disarm();
        self.write.disarm();
        self.ends.disarm();
        self.turn.disarm();
        self.wake(Woken::ALL);
    }

    fn wake(&self, why: Woken) {
        if let Some(whom) = self.whom.as_ref() {
            whom.as_arc_borrow().wake(why);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One end of a channel as the event handler knows it: who waits for what, and whom to
//! wake.

use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow, SetOnce};

use crate::wait::Armed;

/// Who is woken by news.
pub(crate) trait Wake: Send + Sync {
    /// Wakes everyone. Called in hard interrupt context, too.
    fn wake(self: ArcBorrow<'_, Self>);
}

/// Who waits for what at one end of a channel.
///
/// Whoever wants to be told arms a word, looks once more, and waits until it is
/// disarmed, which takes no lock.
pub(crate) struct Waiter {
    /// For something to read.
    pub(crate) read: Armed,
    /// For room to write.
    pub(crate) write: Armed,
    /// Set once there is somebody. Before that nobody waits.
    whom: SetOnce<Arc<dyn Wake>>,
}

impl Waiter {
    /// Nobody waits.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let waiter = Self {
            read: Armed::new(),
            write: Armed::new(),
            whom: SetOnce::new(),
        };
        Ok(Arc::new(waiter, GFP_KERNEL)?)
    }

    /// Has news told to `whom`, from now on and for ever.
    pub(crate) fn belongs_to(&self, whom: Arc<dyn Wake>) {
        self.whom.populate(whom);
    }

    /// There may be news. `true`: somebody waited. In hard interrupt context.
    pub(crate) fn on_event(&self) -> bool {
        let read = self.read.disarm();
        let write = self.write.disarm();
        if read || write {
            self.wake();
        }
        read || write
    }

    /// Wakes everyone, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.read.disarm();
        self.write.disarm();
        self.wake();
    }

    fn wake(&self) {
        if let Some(whom) = self.whom.as_ref() {
            whom.as_arc_borrow().wake();
        }
    }
}

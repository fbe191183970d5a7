// SPDX-License-Identifier: GPL-2.0

//! The link to one peer as a whole.

use idts_core::error::Violation;
use idts_core::queues::Queues;
use idts_core::role::Role;
use idts_core::wire::{BROKEN_MAX, QUEUES};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed};
use kernel::sync::{Arc, SetOnce};

use super::accounts::Account;
use super::queue::{Queue, NO_CPU};
use super::stats::Stats;
use super::table::Table;
use super::throttle::Throttle;
use super::waiter::Waiter;
use crate::mem::revocable::{AccessGuard, Revocable};
use crate::mem::shared::{SharedSlice, SharedWords};
use crate::xen::evtchn;

/// Id of the control ring in the [`Table`].
pub(crate) const CONTROL: u32 = 0;

/// The place of a link's peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Another domain, over doorbells and event channels.
    Domain,
    /// This domain: the ids of a channel's two ends differ in the lowest bit.
    Loopback,
}

/// The link to one peer.
///
/// # Invariants
///
/// While [`Self::gate`] is open, `page` and the memory of all channels in [`Self::table`]
/// stay mapped, and the event channels stay bound whose interrupts the queues know.
#[pin_data]
pub struct Link {
    /// The role of this side on the wire.
    pub(crate) role: Role,
    /// The peer's domain id.
    pub peer: u16,
    reach: Reach,
    /// The gate of the link. Revoking it ends access to the control page and the index blocks,
    /// and the sending of events, before teardown.
    pub(crate) gate: Arc<Revocable>,
    /// Counters.
    pub stats: Stats,
    /// The peer's account, which outlives its tunnels.
    pub(crate) account: Arc<Account>,
    /// The waiters of the channels, for the event handlers.
    pub(crate) table: Table,
    /// The control page, with the doorbells.
    page: SharedSlice,
    pub(super) spread: Queues,
    queues: [Queue; QUEUES as usize],
    /// The throttle; empty in a module without a scheduler.
    throttle: SetOnce<Arc<dyn Throttle>>,
    /// Set while this domain's programs must charge the bytes that they move.
    is_capped: Atomic<bool>,
    /// Number of channels that the peer broke, and its violation on the last of them.
    broken_channels: Atomic<u32>,
    last_violation: Atomic<u32>,
}

impl Link {
    /// Creates a link over the control page `page`, without event channels.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(
        (role, reach): (Role, Reach),
        peer: u16,
        account: Arc<Account>,
        page: SharedSlice,
        gate: Arc<Revocable>,
        spread: Queues,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                role,
                peer,
                reach,
                gate,
                stats: Stats::new(),
                account,
                table: Table::new(),
                page,
                spread,
                queues: [const { Queue::new() }; QUEUES as usize],
                throttle: SetOnce::new(),
                is_capped: Atomic::new(false),
                broken_channels: Atomic::new(0),
                last_violation: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns whether both ends are in this domain.
    pub(crate) fn is_loopback(&self) -> bool {
        self.reach == Reach::Loopback
    }

    /// Returns whether the link is in use: its gate is not revoked.
    pub fn is_open(&self) -> bool {
        !self.gate.is_revoked()
    }

    /// The words of the control page, to be read or written while `live` is held.
    pub(crate) fn words<'a>(&'a self, live: &'a AccessGuard) -> SharedWords<'a> {
        self.page.words(live)
    }

    /// The queue with number `queue`.
    pub(crate) fn queue(&self, queue: u32) -> Option<&Queue> {
        self.queues.get(queue as usize)
    }

    /// The queues in use, with their numbers.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (u32, &Queue)> {
        (0..self.spread.count()).zip(self.queues.iter())
    }

    /// The CPU that handled the last event of channel `id`'s queue, or [`NO_CPU`].
    pub(crate) fn event_cpu(&self, id: u32) -> u32 {
        self.queue(self.spread.of(id))
            .map_or(NO_CPU, |queue| queue.cpu())
    }

    /// Marks channel `id` in the peer's doorbell and sends an event. On a loopback link it wakes
    /// the other end instead.
    pub(crate) fn notify(&self, live: &AccessGuard, id: u32) {
        if self.reach == Reach::Loopback {
            self.table.with(id ^ 1, Waiter::tell);
            return;
        }
        let number = self.spread.of(id);
        self.role.tx_doorbell(number).ring(&self.words(live), id);
        if let Some(queue) = self.queue(number) {
            queue.sent.add(1);
            evtchn::notify(live, queue.irq());
        }
    }

    /// Wakes the waiter at the other end of channel `id` of a loopback link, because no message
    /// announces there that this end is closed.
    pub(crate) fn tell_other_end(&self, id: u32) {
        self.table.with(id ^ 1, Waiter::kick);
    }

    /// Returns whether a log line that the peer causes may be written now.
    pub(crate) fn may_log(&self) -> bool {
        self.account.may_say()
    }

    /// Counts a violation by the peer.
    pub(crate) fn violated(&self, violation: Violation) {
        self.stats.violations.add(1);
        self.account.violated(violation);
    }

    /// Counts a violation on one channel. At the last one that is tolerated it wakes the reader
    /// of the control ring, which finds [`Self::too_many_broken`].
    ///
    /// The caller is inside the gate, so this happens before the link ends.
    pub(crate) fn channel_broken(&self, violation: Violation) {
        self.violated(violation);
        self.last_violation.store(violation as u32, Relaxed);
        let before = self.broken_channels.fetch_add(1, Full);
        if before.wrapping_add(1) == BROKEN_MAX {
            self.table.with(CONTROL, Waiter::kick);
        }
    }

    /// Returns the last violation once the peer has broken too many channels.
    pub(crate) fn too_many_broken(&self) -> Option<Violation> {
        if self.broken_channels.load(Acquire) < BROKEN_MAX {
            return None;
        }
        let index = self.last_violation.load(Relaxed) as usize;
        Violation::ALL.get(index).copied()
    }
}

/// Access to the throttle.
impl Link {
    /// Sets the throttle. Only the first call has an effect.
    pub fn set_throttle(&self, throttle: Arc<dyn Throttle>) {
        self.throttle.populate(throttle);
    }

    /// Sets whether this domain's programs must charge the bytes that they move.
    pub fn set_capped(&self, is_capped: bool) {
        self.is_capped.store(is_capped, Relaxed);
    }

    /// The throttle, if there is one.
    pub fn throttle(&self) -> Option<&Arc<dyn Throttle>> {
        self.throttle.as_ref()
    }

    /// The throttle, while this domain's programs must charge the bytes that they move.
    #[inline]
    pub(crate) fn cap(&self) -> Option<&Arc<dyn Throttle>> {
        if self.is_capped.load(Relaxed) {
            self.throttle.as_ref()
        } else {
            None
        }
    }

    /// Wakes, at every channel, the waiters that are armed for a turn.
    pub fn tell_turn(&self) {
        self.table.each(Waiter::tell_turn);
    }
}

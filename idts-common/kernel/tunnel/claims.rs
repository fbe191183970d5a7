// SPDX-License-Identifier: GPL-2.0

//! A tunnel as the back's scheduler knows it: its flow, and the turns of this
//! domain's own programs where a cap makes them wait.
//!
//! Who is served next is decided by `idts_core::sched`, which [`crate::mover`]
//! asks.

use idts_core::sched::{Claim, FlowId, FlowStats};
use idts_core::wire::CHANNELS;
use kernel::prelude::*;
use kernel::sync::atomic::{Full, Relaxed};

use super::Tunnel;
use crate::channel::{Channel, Stop};
use crate::sys::clock::clock;

/// A claim where there is no cap.
pub(crate) const ALL: u32 = u32::MAX;

impl Tunnel {
    /// Back: obeys what is set for the domain.
    pub(crate) fn obey(&self) {
        let Some(flow) = self.flow() else {
            return;
        };
        let _obeying = self.hub.policies.one_at_a_time();
        let numbers = self.hub.policies.load(&self.hub, self.peer);
        if self.gate.is_revoked() {
            // It is being stopped, and may have been forgotten already.
            self.hub.policies.forget(self.peer);
        }
        self.hub.mover.set(flow, numbers.params);
        self.capped.store(self.hub.mover.is_capped(flow), Relaxed);
    }

    /// Whether programs of this domain must claim what they move.
    #[inline]
    pub(crate) fn is_capped(&self) -> bool {
        self.capped.load(Relaxed)
    }

    /// What this domain's program may move now of `want` bytes, at least 1: all,
    /// without a cap; otherwise what it is granted, and it may have to wait for a
    /// turn first. [`Self::settle`] ends the claim.
    pub(crate) fn claim(&self, want: u32) -> Result<u32, Stop> {
        let seen = self.turns.load(Relaxed);
        let claim = self.flow().map(|flow| self.hub.mover.claim(flow, want));
        match claim.unwrap_or(Claim::Gone) {
            Claim::Granted(bytes) => Ok(bytes),
            Claim::Free | Claim::Gone => Ok(ALL),
            Claim::Queued => Err(Stop::Turn(seen)),
        }
    }

    /// Whether a claim would be granted now; if not, a turn comes.
    pub(crate) fn may_claim(&self) -> bool {
        let flow = self.flow();
        flow.is_none_or(|flow| self.hub.mover.may_claim(flow))
    }

    /// Sleeps until there was a turn after so many, or `channel` is over.
    pub(crate) fn wait_turn(&self, seen: u32, channel: &Channel) -> Result {
        let is_over = || channel.error() != 0 || self.turns.load(Relaxed) != seen;
        self.turn.wait(None, is_over).map(|_| ())
    }

    /// Has those who sleep for a turn see whether their channel is over.
    pub(crate) fn look_up(&self) {
        self.turn.wake_all();
    }

    /// Has the next turn told to who does not sleep for it at `channel`.
    pub(crate) fn arm_turn(&self, channel: &Channel) {
        channel.waiter.turn.arm();
        // Full: whoever has a turn after this sees it.
        self.turn_armed.xchg(true, Full);
    }

    /// Ends a claim: gives back what was not used, and pays for what a record was
    /// longer.
    #[inline]
    pub(crate) fn settle(&self, claimed: u32, used: u32) {
        if claimed != ALL {
            self.settle_claim(claimed, used);
        }
    }

    fn settle_claim(&self, claimed: u32, used: u32) {
        if let Some(flow) = self.flow() {
            self.hub.mover.settle(flow, claimed, used);
        }
    }

    /// The scheduler's name for this tunnel is `flow`.
    pub(crate) fn set_flow(&self, flow: FlowId) {
        self.flow.populate(flow);
    }

    /// What the scheduler counted.
    pub(crate) fn flow_stats(&self) -> Option<FlowStats> {
        let flow = self.flow()?;
        self.hub.mover.with(|s| s.stats(flow, clock()))
    }

    /// The scheduler's name for this tunnel.
    pub(crate) fn flow(&self) -> Option<FlowId> {
        self.flow.copy()
    }

    /// This domain's programs may claim again.
    pub(crate) fn grant_turn(&self) {
        self.turns.add(1, Relaxed);
        self.turn.wake_all();
        if self.turn_armed.xchg(false, Full) {
            for word in 0..CHANNELS / 64 {
                let mut open = self.table.open(word);
                while open != 0 {
                    let id = word.wrapping_mul(64).wrapping_add(open.trailing_zeros());
                    open &= open.wrapping_sub(1);
                    self.table.with(id, |waiter| waiter.tell_turn());
                }
            }
        }
    }
}

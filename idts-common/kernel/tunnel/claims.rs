// SPDX-License-Identifier: GPL-2.0

//! A tunnel as the back's scheduler knows it: its flow, and the turns of this
//! domain's own programs where a cap makes them wait.
//!
//! Who is served next is decided by `idts_core::sched`, which [`crate::mover`]
//! asks.

use idts_core::sched::{Claim, FlowId, FlowStats};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

use super::Tunnel;
use crate::patience::clock;

impl Tunnel {
    /// Back: obeys what is set for the domain.
    pub(crate) fn obey(&self) {
        let Some(flow) = self.flow() else {
            return;
        };
        let numbers = self.hub.policies.load(&self.hub, self.peer);
        if !self.gate.is_open() {
            // It is being stopped, and may have been forgotten already.
            self.hub.policies.forget(self.peer);
        }
        self.hub.mover.set(flow, numbers.params);
        self.capped.store(self.hub.mover.is_capped(flow), Relaxed);
    }

    /// Whether programs of this domain must claim what they move.
    pub(crate) fn is_capped(&self) -> bool {
        self.capped.load(Relaxed)
    }

    /// What this domain's program may move now of `want` bytes: all, without a
    /// cap; otherwise it waits for its turn, even with O_NONBLOCK, as a read of
    /// a disk does. [`Self::settle`] gives the rest back.
    pub(crate) fn claim(&self, want: u32) -> Result<u32> {
        loop {
            if !self.capped.load(Relaxed) {
                return Ok(u32::MAX);
            }
            let Some(flow) = self.flow() else {
                return Ok(u32::MAX);
            };
            let seen = self.turns.load(Relaxed);
            match self.hub.mover.claim(flow, want) {
                Claim::Granted(bytes) => return Ok(bytes),
                Claim::Free | Claim::Gone => return Ok(u32::MAX),
                Claim::Queued => {
                    self.turn.wait(None, || self.turns.load(Relaxed) != seen)?;
                }
            }
        }
    }

    /// Gives back what is left of a claim.
    pub(crate) fn settle(&self, claimed: u32, used: usize) {
        if claimed != u32::MAX {
            if let Some(flow) = self.flow() {
                let unused = claimed.saturating_sub(used as u32);
                self.hub.mover.refund(flow, unused);
            }
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
    }
}

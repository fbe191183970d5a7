// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! State of one flow, and its transitions.

use super::bucket::Bucket;
use super::limits::{BUDGET_MIN, GRACE, PICK_COST, PRIORITY_MAX, QUANTUM, WEIGHT_MAX};
use super::types::{FlowStats, Params, Policy};
use zerocopy_derive::FromZeros;

/// Use of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
#[repr(u8)]
enum SlotState {
    Vacant,
    /// A flow has the slot.
    Member,
    /// The flow was removed while a worker serves it.
    Leaving,
}

/// The slot of a flow.
#[derive(Clone, Copy, Debug, FromZeros)]
pub(super) struct Flow {
    /// Number of flows that had this slot before.
    pub(super) generation: u32,
    slot: SlotState,
    /// Whether a worker serves it.
    pub(super) running: bool,
    /// Whether there is work for a worker beyond what one serves now.
    pub(super) work: bool,
    /// Whether a program sleeps on a claim.
    pub(super) direct: bool,
    /// Whether programs were served last, so that both kinds of work get their share.
    was_direct: bool,
    backlogged: bool,
    pub(super) priority: u8,
    pub(super) weight: u32,
    pub(super) bucket: Bucket,
    /// Deficit counter: bytes left of its turn; below 0: bytes owed to its next turns.
    pub(super) turn: i64,
    /// Bytes that the worker that serves it may move.
    budget: u32,
    /// Bytes granted to programs that none has taken yet.
    pub(super) allowance: u32,
    waits_since: u64,
    backlog_since: u64,
    backlog_end: u64,
    stats: FlowStats,
}

impl Flow {
    pub(super) const NONE: Self = Self {
        generation: 0,
        slot: SlotState::Vacant,
        running: false,
        work: false,
        direct: false,
        was_direct: false,
        backlogged: false,
        priority: 0,
        weight: 0,
        bucket: Bucket::NONE,
        turn: 0,
        budget: 0,
        allowance: 0,
        waits_since: 0,
        backlog_since: 0,
        backlog_end: 0,
        stats: FlowStats {
            served: 0,
            picks: 0,
            throttled: 0,
            waited: 0,
            longest_wait: 0,
            backlogs: 0,
            backlogged: 0,
        },
    };

    pub(super) fn is_vacant(&self) -> bool {
        self.slot == SlotState::Vacant
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.slot == SlotState::Leaving
    }

    /// Whether the flow of that generation has the slot.
    pub(super) fn is(&self, generation: u32) -> bool {
        self.slot == SlotState::Member && self.generation == generation
    }

    pub(super) fn open(&mut self, params: Params, now: u64) {
        *self = Self {
            generation: self.generation,
            slot: SlotState::Member,
            ..Self::NONE
        };
        self.set(params, now);
    }

    /// Frees the slot for a flow of the next generation.
    pub(super) fn close(&mut self) {
        *self = Self {
            generation: self.generation.wrapping_add(1),
            ..Self::NONE
        };
    }

    /// Removes the flow, at once or when the worker is done. Its allowance, to be refunded.
    pub(super) fn leave(&mut self) -> u32 {
        let allowance = core::mem::take(&mut self.allowance);
        if self.running {
            self.slot = SlotState::Leaving;
        } else {
            self.close();
        }
        allowance
    }

    pub(super) fn set(&mut self, params: Params, now: u64) {
        self.weight = params.weight.clamp(1, WEIGHT_MAX);
        self.priority = params.priority.min(PRIORITY_MAX);
        self.bucket.set(params.rate, now);
    }

    pub(super) fn has_work(&self) -> bool {
        self.work || self.direct
    }

    /// Whether its own cap allows it to be served.
    pub(super) fn is_ready(&self, now: u64) -> bool {
        self.bucket.ready_at() <= now
    }

    /// Begins to have work. After a pause of more than [`GRACE`] its turn and its debt are void; a
    /// program that uses its grant and then claims more makes no such pause.
    pub(super) fn begin_backlog(&mut self, now: u64) {
        self.backlogged = true;
        self.backlog_since = self.backlog_end;
        if now.saturating_sub(self.backlog_end) > GRACE {
            self.turn = 0;
        } else if self.stats.backlogs > 0 {
            return;
        }
        self.backlog_since = now;
        self.stats.backlogs = self.stats.backlogs.wrapping_add(1);
    }

    pub(super) fn end_backlog(&mut self, now: u64) {
        if self.backlogged {
            let time = now.saturating_sub(self.backlog_since);
            self.stats.backlogged = self.stats.backlogged.wrapping_add(time);
        }
        self.backlogged = false;
        self.backlog_end = now;
    }

    pub(super) fn begin_wait(&mut self, now: u64) {
        self.waits_since = now;
        if !self.is_ready(now) {
            self.stats.throttled = self.stats.throttled.wrapping_add(1);
        }
    }

    /// Ends a wait: the flow was picked.
    pub(super) fn end_wait(&mut self, now: u64) {
        let time = now.saturating_sub(self.waits_since);
        self.stats.waited = self.stats.waited.wrapping_add(time);
        self.stats.longest_wait = self.stats.longest_wait.max(time);
    }

    /// Limits the deficit counter to what the policy allows: at most one turn, and debts only under
    /// `drr`.
    pub(super) fn trim(&mut self, policy: Policy) {
        self.turn = self.turn.min(policy.turn(self.weight));
        if policy != Policy::Drr {
            self.turn = self.turn.max(0);
        }
    }

    /// Number of turns of `size` bytes until it is out of debt.
    pub(super) fn rounds_of_debt(&self, size: i64) -> i64 {
        let whole = self.turn.saturating_neg().checked_div(size).unwrap_or(0);
        whole.saturating_add(1)
    }

    /// Bytes that it may be served now, at least 1: bounded by its turn, its bucket and the tokens
    /// of the `total` bucket.
    pub(super) fn budget(&self, total: u64, now: u64) -> u32 {
        let most = self.turn.clamp(BUDGET_MIN.into(), QUANTUM.into());
        let tokens = self.bucket.tokens(now).min(total).max(1);
        u32::try_from(most).map_or(BUDGET_MIN, |most| {
            u32::try_from(tokens).unwrap_or(u32::MAX).min(most)
        })
    }

    /// Whether the next pick serves programs, and not a worker.
    pub(super) fn is_for_programs(&self) -> bool {
        self.direct && !(self.work && self.was_direct)
    }

    /// Grants bytes, which are paid for, to programs.
    pub(super) fn grant(&mut self, bytes: u32) {
        self.stats.picks = self.stats.picks.wrapping_add(1);
        self.direct = false;
        self.was_direct = true;
        self.allowance = self.allowance.saturating_add(bytes);
        self.turn = self.turn.saturating_sub(bytes.into());
    }

    /// Takes at most `want` bytes of the grants for a program.
    pub(super) fn take_allowance(&mut self, want: u32) -> u32 {
        let taken = want.min(self.allowance);
        self.allowance = self.allowance.wrapping_sub(taken);
        self.stats.served = self.stats.served.wrapping_add(taken.into());
        taken
    }

    /// Takes back bytes that a program did not move.
    pub(super) fn refund(&mut self, bytes: u32) {
        self.bucket.refund(bytes);
        self.turn = self.turn.saturating_add(bytes.into());
        self.stats.served = self.stats.served.wrapping_sub(bytes.into());
    }

    /// Charges bytes that a program moved without a grant.
    pub(super) fn charge(&mut self, bytes: u32, now: u64) {
        self.bucket.spend(bytes, now);
        self.turn = self.turn.saturating_sub(bytes.into());
        self.stats.served = self.stats.served.wrapping_add(bytes.into());
    }

    /// Begins to serve all present work by a worker.
    pub(super) fn run(&mut self, budget: u32) {
        self.stats.picks = self.stats.picks.wrapping_add(1);
        self.running = true;
        self.work = false;
        self.was_direct = false;
        self.budget = budget;
    }

    /// Ends the service by a worker. The budget that it had.
    pub(super) fn end_run(&mut self, used: u32, more: bool, now: u64) -> u32 {
        self.running = false;
        self.work |= more;
        self.turn = self.turn.saturating_sub(used.max(PICK_COST).into());
        self.stats.served = self.stats.served.wrapping_add(used.into());
        self.bucket.settle(self.budget, used, now);
        core::mem::take(&mut self.budget)
    }

    /// The counters, with the wait and the backlog under way.
    pub(super) fn stats_at(&self, waits: bool, now: u64) -> FlowStats {
        let mut stats = self.stats;
        if waits {
            let time = now.saturating_sub(self.waits_since);
            stats.waited = stats.waited.wrapping_add(time);
            stats.longest_wait = stats.longest_wait.max(time);
        }
        if self.backlogged {
            let time = now.saturating_sub(self.backlog_since);
            stats.backlogged = stats.backlogged.wrapping_add(time);
        }
        stats
    }
}

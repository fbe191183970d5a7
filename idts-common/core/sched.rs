// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Scheduler of the backend: which tunnel is served next, and with how many bytes.
//!
//! A *flow* is one tunnel with all work that waits on it. There is no clock, thread or lock
//! here: callers pass `now` in nanoseconds, keep one lock around the [`Scheduler`], and do what
//! a [`Pick`] says. PROTOCOL.md section 3.2.
//!
//! Two kinds of work wait on a flow:
//! - work for a worker (relay, fan-out, control requests): [`Scheduler::wake`], then a worker
//!   gets [`Pick::Run`], does it, and calls [`Scheduler::done`];
//! - reads and writes of programs of this domain, while a cap exists
//!   ([`Scheduler::is_capped`]): they [`Scheduler::claim`] bytes before they copy, and sleep if
//!   the claim is queued, until a worker gets [`Pick::Grant`] and wakes them.
//!
//! All waiting flows are on one list, in the order in which they began to wait. A flow is served
//! in *turns* (quanta of deficit round robin): a flow in its turn goes on, else the first of the
//! list begins a turn. The policies differ only in the length of a turn and in which flows may
//! begin one, so the policy can change at any time.
//!
//! ```
//! use idts_core::sched::{Params, Pick, Scheduler};
//!
//! let mut scheduler = Box::new(Scheduler::new());
//! let flow = scheduler.add_flow(Params::DEFAULT, 0).expect("there is room for it");
//! assert!(scheduler.wake(flow, 0), "a worker must be woken");
//! let Pick::Run { flow, budget } = scheduler.next(0) else { panic!("nothing to do") };
//! scheduler.done(flow, budget, false, 1_000);
//! assert_eq!(scheduler.next(1_000), Pick::Idle);
//! ```

mod bucket;
mod flow;
mod limits;
mod run_queue;
mod types;

use bucket::Bucket;
use flow::Flow;
pub use limits::{
    BUDGET_MIN, FIFO_TURN, FLOWS, GRACE, PICK_COST, PRIORITY, PRIORITY_MAX, QUANTUM, RATE_MAX,
    WEIGHT_MAX,
};
use run_queue::RunQueue;
pub use types::{Claim, FlowId, FlowStats, Params, Pick, Policy, Totals};
use zerocopy_derive::FromZeros;

/// All flows.
///
/// All-zero memory is a valid scheduler, equal to [`Self::new`]: it is too large for a kernel's
/// stack and is made on the heap.
///
/// # Invariants
/// A flow is in `queue` exactly if it has work and is not being served.
#[derive(Debug, FromZeros)]
pub struct Scheduler {
    policy: Policy,
    total: Bucket,
    flows: [Flow; FLOWS],
    queue: RunQueue,
    /// The flow served last, as slot + 1; 0: none.
    last: usize,
    totals: Totals,
}

/// The state of a flow as a claim finds it.
enum ClaimState {
    /// The flow has left.
    Gone,
    /// No cap exists.
    Uncapped,
    /// A cap exists. `at_once`: no flow waits and this one is in its turn, so that the claim can be
    /// granted without queueing.
    Capped { slot: usize, at_once: bool },
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl Scheduler {
    /// A scheduler without flows and caps, with the policy `drr`.
    pub const fn new() -> Self {
        Self {
            policy: Policy::Drr,
            total: Bucket::NONE,
            flows: [Flow::NONE; FLOWS],
            queue: RunQueue::EMPTY,
            last: 0,
            totals: Totals {
                served: 0,
                picks: 0,
                throttled: 0,
            },
        }
    }

    fn find(&mut self, id: FlowId) -> Option<(usize, &mut Flow)> {
        let slot = usize::from(id.slot);
        let flow = self.flows.get_mut(slot)?;
        flow.is(id.generation).then_some((slot, flow))
    }

    fn id(&self, slot: usize) -> Option<FlowId> {
        Some(FlowId {
            slot: slot.try_into().ok()?,
            generation: self.flows.get(slot)?.generation,
        })
    }

    /// Adds a flow without work. `None`: there are [`FLOWS`] already.
    pub fn add_flow(&mut self, params: Params, now: u64) -> Option<FlowId> {
        let slot = self.flows.iter().position(Flow::is_vacant)?;
        self.flows.get_mut(slot)?.open(params, now);
        self.id(slot)
    }

    /// Removes a flow with all work that waits on it. A worker that serves it now still calls
    /// [`Self::done`]; the caller must wake the programs that sleep on claims.
    pub fn remove_flow(&mut self, id: FlowId) {
        let Some((slot, flow)) = self.find(id) else {
            return;
        };
        let allowance = flow.leave();
        self.total.refund(allowance);
        self.queue.remove(slot);
    }

    /// Sets weight, priority and cap, also while the flow has work.
    pub fn set(&mut self, id: FlowId, params: Params, now: u64) {
        let policy = self.policy;
        if let Some((_, flow)) = self.find(id) {
            flow.set(params, now);
            flow.trim(policy);
        }
    }

    /// The policy.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Changes the policy, also while flows have work: all turns end, the order of the list stays.
    pub fn set_policy(&mut self, policy: Policy) {
        if policy != self.policy {
            self.policy = policy;
            self.flows.iter_mut().for_each(|f| f.turn = 0);
        }
    }

    /// The cap of all flows together, in bytes a second; 0: none.
    pub const fn total_rate(&self) -> u64 {
        self.total.rate()
    }

    /// Sets the cap of all flows together, in bytes a second; 0: none.
    pub fn set_total_rate(&mut self, rate: u64, now: u64) {
        self.total.set(rate, now);
    }

    /// Whether programs must claim bytes before they move them on this flow.
    pub fn is_capped(&self, id: FlowId) -> bool {
        let flow = self.flows.get(usize::from(id.slot));
        let own = flow.is_some_and(|f| f.is(id.generation) && f.bucket.is_capped());
        own || self.total.is_capped()
    }

    /// Notes work for a worker on this flow. True: the flow did not wait before, so that a worker
    /// must be woken.
    pub fn wake(&mut self, id: FlowId, now: u64) -> bool {
        let Some((slot, flow)) = self.find(id) else {
            return false;
        };
        flow.work = true;
        self.begin_waiting(slot, now)
    }

    /// Puts a flow with new work on the list, unless it is being served or is on it already.
    fn begin_waiting(&mut self, slot: usize, now: u64) -> bool {
        let Some(flow) = self.flows.get_mut(slot) else {
            return false;
        };
        if flow.running || self.queue.contains(slot) {
            return false;
        }
        flow.begin_backlog(now);
        self.enqueue(slot, now);
        true
    }

    fn enqueue(&mut self, slot: usize, now: u64) {
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.begin_wait(now);
            self.queue.push(slot);
        }
    }

    /// Ends the service of a flow: it waits again, or has no more work.
    fn settle(&mut self, slot: usize, now: u64) {
        let policy = self.policy;
        let Some(flow) = self.flows.get_mut(slot) else {
            return;
        };
        flow.trim(policy);
        if flow.has_work() {
            self.enqueue(slot, now);
            return;
        }
        if policy == Policy::Fifo {
            flow.turn = 0;
        }
        flow.end_backlog(now);
    }

    /// The next thing for a worker to do. To be asked again when a worker is done, at the time of a
    /// [`Pick::WaitUntil`], and after every wake-up and every change of policy, parameters or caps.
    pub fn next(&mut self, now: u64) -> Pick {
        if self.queue.is_empty() {
            return Pick::Idle;
        }
        if self.total.ready_at() > now {
            self.totals.throttled = self.totals.throttled.wrapping_add(1);
            return Pick::WaitUntil(self.total.ready_at());
        }
        match self.choose(now) {
            Ok(slot) => self.start(slot, now).unwrap_or(Pick::Idle),
            Err(time) => Pick::WaitUntil(time),
        }
    }

    /// The flow to serve, which is in its turn. `Err`: the time at which there will be one.
    fn choose(&mut self, now: u64) -> Result<usize, u64> {
        let level = self.level(now)?;
        let at_level = |f: &Flow| f.is_ready(now) && level.is_none_or(|l| f.priority == l);
        if let Some(slot) = self.first(|f| at_level(f) && f.turn > 0) {
            return Ok(slot);
        }
        // Each flow in order begins a turn. One that is still in debt waits for the next round,
        // behind the others.
        for _ in 0..self.queue.len() {
            let Some(slot) = self.first(at_level) else {
                break;
            };
            if self.credit(slot, 1) > 0 {
                return Ok(slot);
            }
            self.queue.remove(slot);
            self.queue.push(slot);
        }
        self.skip_rounds(at_level);
        self.first(|f| at_level(f) && f.turn > 0).ok_or(now)
    }

    /// The priority to serve; `None` if the policy ignores priorities. `Err`: the time at which a
    /// flow will be ready.
    fn level(&self, now: u64) -> Result<Option<u8>, u64> {
        let mut found = None;
        let mut earliest = u64::MAX;
        for flow in self.queue.iter().filter_map(|s| self.flows.get(s)) {
            if flow.is_ready(now) {
                found = found.max(Some(flow.priority));
            } else {
                earliest = earliest.min(flow.bucket.ready_at());
            }
        }
        let level = found.ok_or(earliest)?;
        Ok((self.policy == Policy::Prio).then_some(level))
    }

    /// The first flow of the list for which `wanted` holds.
    fn first(&self, wanted: impl Fn(&Flow) -> bool) -> Option<usize> {
        self.queue
            .iter()
            .find(|slot| self.flows.get(*slot).is_some_and(&wanted))
    }

    /// Adds turns to a flow's deficit counter. Its new value.
    fn credit(&mut self, slot: usize, turns: i64) -> i64 {
        let policy = self.policy;
        self.flows.get_mut(slot).map_or(0, |flow| {
            let size = policy.turn(flow.weight);
            flow.turn = flow.turn.saturating_add(size.saturating_mul(turns));
            flow.turn
        })
    }

    /// Skips the rounds in which no flow would be served, because all are in debt.
    fn skip_rounds(&mut self, wanted: impl Fn(&Flow) -> bool) {
        let policy = self.policy;
        let waiting = self.queue.iter().filter_map(|slot| self.flows.get(slot));
        let rounds = waiting
            .filter(|f| wanted(f))
            .map(|f| f.rounds_of_debt(policy.turn(f.weight)))
            .min()
            .unwrap_or(0);
        let mut cursor = self.queue.first();
        while let Some(slot) = cursor {
            cursor = self.queue.after(slot);
            if self.flows.get(slot).is_some_and(&wanted) {
                self.credit(slot, rounds);
            }
        }
    }

    /// Begins to serve a flow that is in its turn.
    fn start(&mut self, slot: usize, now: u64) -> Option<Pick> {
        let id = self.id(slot)?;
        let tokens = self.total.tokens(now);
        self.queue.remove(slot);
        self.totals.picks = self.totals.picks.wrapping_add(1);
        let flow = self.flows.get_mut(slot)?;
        self.last = slot.wrapping_add(1);
        flow.end_wait(now);
        let budget = flow.budget(tokens, now);
        flow.bucket.spend(budget, now);
        self.total.spend(budget, now);
        if flow.is_for_programs() {
            flow.grant(budget);
            self.settle(slot, now);
            return Some(Pick::Grant { flow: id });
        }
        flow.run(budget);
        Some(Pick::Run { flow: id, budget })
    }

    /// Ends a [`Pick::Run`] in which a worker moved `used` bytes; `more`: there is work left. The
    /// caller wakes another worker if [`Self::next`] has one.
    pub fn done(&mut self, id: FlowId, used: u32, more: bool, now: u64) {
        let slot = usize::from(id.slot);
        let Some(flow) = self.flows.get_mut(slot) else {
            return;
        };
        if !flow.running || flow.generation != id.generation {
            return;
        }
        let budget = flow.end_run(used, more, now);
        self.totals.served = self.totals.served.wrapping_add(used.into());
        self.total.settle(budget, used, now);
        if flow.is_leaving() {
            flow.close();
        } else {
            self.settle(slot, now);
        }
    }

    /// Claims `want` bytes, at least 1, that a program of this domain wants to move on the flow.
    pub fn claim(&mut self, id: FlowId, want: u32, now: u64) -> Claim {
        let want = want.max(1);
        let (slot, at_once) = match self.claim_state(id, now) {
            ClaimState::Gone => return Claim::Gone,
            ClaimState::Uncapped => return Claim::Free,
            ClaimState::Capped { slot, at_once } => (slot, at_once),
        };
        let (policy, tokens) = (self.policy, self.total.tokens(now));
        let Some(flow) = self.flows.get_mut(slot) else {
            return Claim::Gone;
        };
        if flow.allowance == 0 && at_once {
            // The flow is in its turn and no other waits: it need not queue and be woken.
            let budget = flow.budget(tokens, now).min(want);
            flow.bucket.spend(budget, now);
            flow.grant(budget);
            flow.trim(policy);
            self.last = slot.wrapping_add(1);
            self.total.spend(budget, now);
            self.totals.picks = self.totals.picks.wrapping_add(1);
        }
        let taken = flow.take_allowance(want);
        if taken > 0 {
            self.totals.served = self.totals.served.wrapping_add(taken.into());
            return Claim::Granted(taken);
        }
        flow.direct = true;
        self.begin_waiting(slot, now);
        Claim::Queued
    }

    /// Whether a claim of any size would be granted now. If not, the flow waits as with a claim:
    /// the caller wakes a worker, and asks again when it is woken.
    pub fn may_claim(&mut self, id: FlowId, now: u64) -> bool {
        let ClaimState::Capped { slot, at_once } = self.claim_state(id, now) else {
            return true;
        };
        let Some(flow) = self.flows.get_mut(slot) else {
            return true;
        };
        if flow.allowance > 0 || at_once {
            return true;
        }
        flow.direct = true;
        self.begin_waiting(slot, now);
        false
    }

    /// The state that a claim finds. If no other flow waits or was served since, a turn begins.
    fn claim_state(&mut self, id: FlowId, now: u64) -> ClaimState {
        let free = self.queue.is_empty() && self.total.ready_at() <= now;
        let (policy, capped, last) = (self.policy, self.total.is_capped(), self.last);
        let Some((slot, flow)) = self.find(id) else {
            return ClaimState::Gone;
        };
        if !capped && !flow.bucket.is_capped() {
            return ClaimState::Uncapped;
        }
        if free && flow.turn <= 0 && (last == 0 || last == slot.wrapping_add(1)) {
            flow.turn = policy.turn(flow.weight);
        }
        let at_once = free && !flow.direct && flow.turn > 0 && flow.is_ready(now);
        ClaimState::Capped { slot, at_once }
    }

    /// Charges bytes that a program moved beyond its claim, because a record cannot be split. The
    /// flow goes into debt for them.
    pub fn charge(&mut self, id: FlowId, bytes: u32, now: u64) {
        let policy = self.policy;
        let Some((_, flow)) = self.find(id) else {
            return;
        };
        flow.charge(bytes, now);
        flow.trim(policy);
        self.total.spend(bytes, now);
        self.totals.served = self.totals.served.wrapping_add(bytes.into());
    }

    /// Returns the unused part of a claim.
    pub fn refund(&mut self, id: FlowId, unused: u32) {
        let policy = self.policy;
        let Some((_, flow)) = self.find(id) else {
            return;
        };
        flow.refund(unused);
        flow.trim(policy);
        self.total.refund(unused);
        self.totals.served = self.totals.served.wrapping_sub(unused.into());
    }

    /// The counters of a flow, with what is under way at `now`. `None`: it has left.
    pub fn stats(&self, id: FlowId, now: u64) -> Option<FlowStats> {
        let slot = usize::from(id.slot);
        let flow = self.flows.get(slot).filter(|f| f.is(id.generation))?;
        Some(flow.stats_at(self.queue.contains(slot), now))
    }

    /// The counters of all flows together.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Number of flows that wait to be served.
    pub const fn waiting(&self) -> usize {
        self.queue.len()
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What callers of the scheduler say and are told.

use super::limits::{FIFO_TURN, PRIORITY, QUANTUM};
#[cfg(doc)]
use super::limits::{FLOWS, GRACE, PRIORITY_MAX, WEIGHT_MAX};
use zerocopy_derive::FromZeros;

/// Who is served next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(u8)]
pub enum Policy {
    /// Deficit round robin: turns of weight times [`QUANTUM`].
    #[default]
    Drr,
    /// Whoever waits longest, until it has no more or had [`FIFO_TURN`].
    Fifo,
    /// Round robin: turns of [`QUANTUM`].
    Rr,
    /// The highest priority that waits, and round robin among equals.
    Prio,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Drr, Self::Fifo, Self::Rr, Self::Prio];

    /// Its name for people and in xenstore.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drr => "drr",
            Self::Fifo => "fifo",
            Self::Rr => "rr",
            Self::Prio => "prio",
        }
    }

    /// Bytes of a turn.
    pub(super) fn turn(self, weight: u32) -> i64 {
        match self {
            Self::Drr => i64::from(QUANTUM).saturating_mul(weight.into()),
            Self::Fifo => FIFO_TURN.into(),
            Self::Rr | Self::Prio => QUANTUM.into(),
        }
    }
}

/// What is set for a flow. Values out of range count as the nearest in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Its share under `drr`: 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Its rank under `prio`: 0 to [`PRIORITY_MAX`], which is first.
    pub priority: u8,
    /// Bytes a second, at most; 0 for no cap.
    pub rate: u64,
}

impl Params {
    /// What holds when nothing is set.
    pub const DEFAULT: Self = Self {
        weight: 1,
        priority: PRIORITY,
        rate: 0,
    };
}

impl Default for Params {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Names a flow; worth nothing once the flow has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

impl FlowId {
    /// A number below [`FLOWS`] that no other member has.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pick {
    /// Serve this flow: move `budget` bytes or fewer, then call
    /// [`Scheduler::done`](super::Scheduler::done). No other worker gets the flow before.
    Run {
        /// Whom to serve.
        flow: FlowId,
        /// Bytes, at least 1. Going over is allowed where work cannot be split,
        /// and is paid for later.
        budget: u32,
    },
    /// Wake the programs that sleep on a claim of this flow, and ask again.
    Grant {
        /// Whose programs.
        flow: FlowId,
    },
    /// Nothing can be served before this time, unless something changes.
    WaitUntil(u64),
    /// Nothing waits.
    Idle,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// No cap exists: go on.
    Free,
    /// Move so many bytes or fewer; [`Scheduler::refund`](super::Scheduler::refund) what is left over, and
    /// [`Scheduler::charge`](super::Scheduler::charge) what a record was longer.
    Granted(u32),
    /// Kick a worker, and claim again when woken.
    Queued,
    /// The flow has left.
    Gone,
}

/// What happened to a flow. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct FlowStats {
    /// Bytes served.
    pub served: u64,
    /// Times picked.
    pub picks: u64,
    /// Times that it began to wait and its own cap did not let it.
    pub throttled: u64,
    /// Time for which it had work and was not being served.
    pub waited: u64,
    /// The longest of these waits.
    pub longest_wait: u64,
    /// Times that it got work after it had none for longer than [`GRACE`].
    pub backlogs: u64,
    /// Time for which it had work, waiting or being served, with all pauses but
    /// these.
    pub backlogged: u64,
}

impl FlowStats {
    /// Every counter with the name that it is shown under.
    pub const fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("served_bytes", self.served),
            ("picks", self.picks),
            ("throttled", self.throttled),
            ("waited_ns", self.waited),
            ("longest_wait_ns", self.longest_wait),
            ("backlogs", self.backlogs),
            ("backlogged_ns", self.backlogged),
        ]
    }
}

/// What happened to all flows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Totals {
    /// Bytes served.
    pub served: u64,
    /// Flows picked.
    pub picks: u64,
    /// Times that flows waited and the total cap let none be picked.
    pub throttled: u64,
}

impl Totals {
    /// Every counter with the name that it is shown under.
    pub const fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("served_bytes", self.served),
            ("picks", self.picks),
            ("throttled", self.throttled),
        ]
    }
}

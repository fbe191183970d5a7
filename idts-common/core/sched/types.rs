// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Types of the scheduler's interface.

use super::limits::{FIFO_TURN, PRIORITY, QUANTUM};
#[cfg(doc)]
use super::limits::{FLOWS, GRACE, PRIORITY_MAX, WEIGHT_MAX};
use zerocopy_derive::FromZeros;

/// Order in which flows are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(u8)]
pub enum Policy {
    /// Deficit round robin: turns of weight times [`QUANTUM`].
    #[default]
    Drr,
    /// The flow that waits longest, until it has no more work or had [`FIFO_TURN`].
    Fifo,
    /// Round robin: turns of [`QUANTUM`].
    Rr,
    /// The highest priority that waits; round robin among equals.
    Prio,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 4] = [Self::Drr, Self::Fifo, Self::Rr, Self::Prio];

    /// The name in xenstore and for people.
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

/// Parameters of a flow. Values out of range count as the nearest in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Weight under `drr`: 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Priority under `prio`: 0 to [`PRIORITY_MAX`], which is served first.
    pub priority: u8,
    /// Cap in bytes a second; 0: none.
    pub rate: u64,
}

impl Params {
    /// The parameters without any setting.
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

/// Identity of a flow. No flow has it once this one has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

impl FlowId {
    /// A number below [`FLOWS`] that no other flow has at the same time.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// The next thing for a worker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pick {
    /// Serve this flow: move at most `budget` bytes, then call
    /// [`Scheduler::done`](super::Scheduler::done). No other worker gets the flow until then.
    Run {
        /// The flow.
        flow: FlowId,
        /// Bytes, at least 1. More are allowed if work cannot be split; the flow pays for them
        /// later.
        budget: u32,
    },
    /// Wake the programs that sleep on a claim of this flow, and ask again.
    Grant {
        /// The flow.
        flow: FlowId,
    },
    /// Sleep until this time, unless something changes: no flow can be served before.
    WaitUntil(u64),
    /// Sleep: no flow waits.
    Idle,
}

/// Result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// No cap exists: move as many bytes as wanted.
    Free,
    /// Move at most so many bytes; [`Scheduler::refund`](super::Scheduler::refund) those not moved,
    /// and [`Scheduler::charge`](super::Scheduler::charge) those that a record was longer.
    Granted(u32),
    /// Wake a worker, sleep, and claim again when woken.
    Queued,
    /// The flow has left.
    Gone,
}

/// Counters of a flow. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct FlowStats {
    /// Bytes served.
    pub served: u64,
    /// Number of picks.
    pub picks: u64,
    /// Number of waits at whose beginning its own cap was exhausted.
    pub throttled: u64,
    /// Time in which it had work and was not served.
    pub waited: u64,
    /// Longest of these waits.
    pub longest_wait: u64,
    /// Number of times that it got work after a pause of more than [`GRACE`].
    pub backlogs: u64,
    /// Time in which it had work, waiting or being served, with the pauses up to [`GRACE`].
    pub backlogged: u64,
}

impl FlowStats {
    /// All counters with the names under which they are shown.
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

/// Counters of all flows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Totals {
    /// Bytes served.
    pub served: u64,
    /// Number of picks.
    pub picks: u64,
    /// Number of times that flows waited and the total cap was exhausted.
    pub throttled: u64,
}

impl Totals {
    /// All counters with the names under which they are shown.
    pub const fn named(&self) -> [(&'static str, u64); 3] {
        [
            ("served_bytes", self.served),
            ("picks", self.picks),
            ("throttled", self.throttled),
        ]
    }
}

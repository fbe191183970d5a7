// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Numbers of the scheduler. PROTOCOL.md section 3.2.

/// Flows, at most.
pub const FLOWS: usize = 256;
/// What is served at once, at most; and, a weight of 1, a turn.
pub const QUANTUM: u32 = 64 * 1024;
/// A turn under `fifo`: what can have been there when the flow began to wait.
pub const FIFO_TURN: u32 = 4 * 1024 * 1024;
/// What a turn pays for being served at all, so that empty work ends it too.
pub const PICK_COST: u32 = 512;
/// What is left of a turn is served at once when it is less than this.
pub const BUDGET_MIN: u32 = 4096;
/// A flow that has work again within so many nanoseconds goes on with its turn.
pub const GRACE: u64 = 10_000_000;
/// Highest weight; the lowest is 1.
pub const WEIGHT_MAX: u32 = 1024;
/// Highest priority, which is served first; the lowest is 0.
pub const PRIORITY_MAX: u8 = 7;
/// Priority of a flow of which nothing is said.
pub const PRIORITY: u8 = 3;
/// Highest rate, in bytes a second.
pub const RATE_MAX: u64 = 1 << 40;

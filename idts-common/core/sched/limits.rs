// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Limits and constants of the scheduler. PROTOCOL.md section 3.2.

/// Largest number of flows.
pub const FLOWS: usize = 256;
/// Largest number of bytes served at once; and the bytes of a turn of weight 1.
pub const QUANTUM: u32 = 64 * 1024;
/// Bytes of a turn under `fifo`: as many as a flow can have had when it began to wait.
pub const FIFO_TURN: u32 = 4 * 1024 * 1024;
/// Smallest number of bytes that a pick is charged with, so that work without bytes ends a turn
/// too.
pub const PICK_COST: u32 = 512;
/// A rest of a turn below this number of bytes is served together with the bytes before it.
pub const BUDGET_MIN: u32 = 4096;
/// Nanoseconds within which a flow that gets work again goes on with its turn.
pub const GRACE: u64 = 10_000_000;
/// Highest weight; the lowest is 1.
pub const WEIGHT_MAX: u32 = 1024;
/// Highest priority, which is served first; the lowest is 0.
pub const PRIORITY_MAX: u8 = 7;
/// Default priority.
pub const PRIORITY: u8 = 3;
/// Highest rate, in bytes a second.
pub const RATE_MAX: u64 = 1 << 40;

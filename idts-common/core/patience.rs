// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How long a reader or a writer looks again before it sleeps.
//!
//! Owns the rule: a sleep that ended soon makes the look longer, a long one
//! shorter, down to nothing. Clocks, and the looking, are left to the kernel's
//! part.

/// The longest time that may be asked for, in microseconds.
pub const MAX_US: u32 = 200;
/// The shortest look that is worth it, and the first step from nothing, in
/// nanoseconds.
pub const SHORTEST_NS: u32 = 4_000;

/// The longest look, in nanoseconds, if `us` microseconds are asked for; 0:
/// never look.
pub fn longest_ns(us: u32) -> u32 {
    us.min(MAX_US).saturating_mul(1000)
}

/// How long to look before the next sleep, after one of `slept` nanoseconds
/// before which it was `ns`, where `longest` is the most.
pub fn next_ns(ns: u32, slept: u64, longest: u32) -> u32 {
    let next = if slept <= longest.into() {
        ns.saturating_mul(2).max(SHORTEST_NS)
    } else if ns > SHORTEST_NS {
        ns / 2
    } else {
        0
    };
    // A most that is less than the shortest look is not a mistake.
    next.min(longest)
}

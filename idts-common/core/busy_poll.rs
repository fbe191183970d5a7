// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Adaptive busy polling: how long a reader or a writer spins before it sleeps.
//!
//! The rule is that of KVM's halt polling (`grow_halt_poll_ns`, `shrink_halt_poll_ns` in
//! linux/virt/kvm/kvm_main.c): a sleep that ended soon lets the next spin grow, a long one
//! lets it shrink, down to none. Clocks and the spinning itself are the kernel crate's.

/// Largest spin time that a module parameter can set, in microseconds.
pub const MAX_US: u32 = 200;
/// Shortest spin that is worth its cost, and the first step up from none, in nanoseconds.
pub const MIN_NS: u32 = 4_000;

/// The largest spin time in nanoseconds, for a module parameter of `us` microseconds. 0 turns
/// spinning off.
pub fn max_ns(us: u32) -> u32 {
    us.min(MAX_US).saturating_mul(1000)
}

/// The next spin time, after a spin of `spun_ns` and a sleep of `slept_ns`: doubled if the
/// sleep was not longer than `max_ns`, halved otherwise.
pub fn next_ns(spun_ns: u32, slept_ns: u64, max_ns: u32) -> u32 {
    let next = if slept_ns <= max_ns.into() {
        spun_ns.saturating_mul(2).max(MIN_NS)
    } else if spun_ns > MIN_NS {
        spun_ns / 2
    } else {
        0
    };
    // `max_ns` may be below MIN_NS.
    next.min(max_ns)
}

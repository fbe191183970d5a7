// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How long a waiter looks before it sleeps: bounds, growth, decay, off.
//!
//! Seed and number of cases: see common/mod.rs.

#![cfg(not(loom))]

use idts_core::busy_poll::{max_ns, next_ns, MAX_US, MIN_NS};
use proptest::prelude::*;

/// A sleep that is longer than any look.
const LONG: u64 = 1 << 40;

#[test]
fn what_is_asked_for_is_cut() {
    assert_eq!([0, 1, 199].map(max_ns), [0, 1000, 199_000]);
    for us in [MAX_US, MAX_US + 1, u32::MAX] {
        assert_eq!(max_ns(us), 200_000);
    }
}

#[test]
fn short_sleeps_double_it_up_to_the_most() {
    let longest = max_ns(50);
    let mut looks = vec![0];
    while looks.last() != Some(&longest) {
        looks.push(next_ns(looks[looks.len() - 1], longest.into(), longest));
    }
    assert_eq!(looks, [0, 4000, 8000, 16000, 32000, 50000]);
    assert_eq!(next_ns(longest, 0, longest), longest);
}

#[test]
fn long_sleeps_halve_it_down_to_nothing() {
    let longest = max_ns(50);
    let mut looks = vec![50000];
    while looks.last() != Some(&0) {
        looks.push(next_ns(looks[looks.len() - 1], LONG, longest));
    }
    assert_eq!(looks, [50000, 25000, 12500, 6250, 3125, 0]);
    assert_eq!(next_ns(MIN_NS, u64::from(longest) + 1, longest), 0);
    assert_eq!(next_ns(0, LONG, longest), 0);
}

/// A time, often one that something begins or ends at.
fn time() -> impl Strategy<Value = u32> {
    let edges = [0, MIN_NS, MAX_US * 1000];
    let near =
        prop::sample::select(edges.to_vec()).prop_flat_map(|at| at.saturating_sub(2)..at + 3);
    prop_oneof![near, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_look_is_longer_than_the_most(us in time(), ns in time(), slept in any::<u64>()) {
        let longest = max_ns(us);
        for slept in [slept, u64::from(longest), LONG] {
            let next = next_ns(ns, slept, longest);
            prop_assert!(next <= longest);
            // It grows for a sleep that a look would have spared, and for no other.
            prop_assert!(next <= ns || slept <= longest.into());
        }
    }
}

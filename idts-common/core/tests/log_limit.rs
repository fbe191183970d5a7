// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
//! A peer that does its worst fills no log.

use idts_core::log_limit::{LogLimit, INTERVAL_NS};
use proptest::prelude::*;

#[test]
fn the_first_is_written_whenever_it_comes() {
    for now in [0, 1, INTERVAL_NS, u64::MAX] {
        let mut limit = LogLimit::NEW;
        assert_eq!(limit.allow(now), Some(0), "at {now}");
    }
}

#[test]
fn one_a_pause_tells_what_was_left_out() {
    let mut limit = LogLimit::NEW;
    assert_eq!(limit.allow(5), Some(0));
    for now in [5, 6, INTERVAL_NS + 4] {
        assert_eq!(limit.allow(now), None, "at {now}");
    }
    assert_eq!(limit.allow(INTERVAL_NS + 5), Some(3));
    assert_eq!(limit.allow(INTERVAL_NS + 6), None);
    assert_eq!(limit.allow(2 * INTERVAL_NS + 5), Some(1));
    assert_eq!(limit.allow(9 * INTERVAL_NS), Some(0));
    assert_eq!(limit.suppressed(), 4);
}

#[test]
fn a_clock_that_steps_back_writes_nothing() {
    let mut limit = LogLimit::NEW;
    assert_eq!(limit.allow(INTERVAL_NS), Some(0));
    assert_eq!(limit.allow(INTERVAL_NS - 1), None);
    assert_eq!(limit.allow(0), None);
}

proptest! {
    /// Whatever comes when: all of it is written or counted, and no two lines
    /// are nearer than a pause.
    #[test]
    fn all_is_written_or_counted(steps in prop::collection::vec(0..2 * INTERVAL_NS, 1..200)) {
        let (mut limit, mut now, mut written) = (LogLimit::NEW, 0u64, Vec::new());
        let mut told = 0;
        for step in &steps {
            now += step / 8;
            if let Some(left_out) = limit.allow(now) {
                written.push(now);
                told += left_out;
            }
        }
        prop_assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= INTERVAL_NS));
        prop_assert_eq!(written.len() as u64 + limit.suppressed(), steps.len() as u64);
        prop_assert!(told <= limit.suppressed());
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
//! A peer that does its worst fills no log.

use idts_core::log::{Lines, PAUSE};
use proptest::prelude::*;

#[test]
fn the_first_is_written_whenever_it_comes() {
    for now in [0, 1, PAUSE, u64::MAX] {
        let mut lines = Lines::NONE;
        assert_eq!(lines.take(now), Some(0), "at {now}");
    }
}

#[test]
fn one_a_pause_tells_what_was_left_out() {
    let mut lines = Lines::NONE;
    assert_eq!(lines.take(5), Some(0));
    for now in [5, 6, PAUSE + 4] {
        assert_eq!(lines.take(now), None, "at {now}");
    }
    assert_eq!(lines.take(PAUSE + 5), Some(3));
    assert_eq!(lines.take(PAUSE + 6), None);
    assert_eq!(lines.take(2 * PAUSE + 5), Some(1));
    assert_eq!(lines.take(9 * PAUSE), Some(0));
    assert_eq!(lines.left_out(), 4);
}

#[test]
fn a_clock_that_steps_back_writes_nothing() {
    let mut lines = Lines::NONE;
    assert_eq!(lines.take(PAUSE), Some(0));
    assert_eq!(lines.take(PAUSE - 1), None);
    assert_eq!(lines.take(0), None);
}

proptest! {
    /// Whatever comes when: all of it is written or counted, and no two lines
    /// are nearer than a pause.
    #[test]
    fn all_is_written_or_counted(steps in prop::collection::vec(0..2 * PAUSE, 1..200)) {
        let (mut lines, mut now, mut written) = (Lines::NONE, 0u64, Vec::new());
        let mut told = 0;
        for step in &steps {
            now += step / 8;
            if let Some(left_out) = lines.take(now) {
                written.push(now);
                told += left_out;
            }
        }
        prop_assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE));
        prop_assert_eq!(written.len() as u64 + lines.left_out(), steps.len() as u64);
        prop_assert!(told <= lines.left_out());
    }
}

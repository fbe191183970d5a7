// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Buckets of tokens, against one that counts tokens and time apart.
//!
//! Seed and number of cases: see common/mod.rs.

#![cfg(not(loom))]

use idts_core::token_bucket::TokenBucket;
use proptest::prelude::*;

const PACE: TokenBucket = TokenBucket {
    burst: 8,
    interval_ns: 5_000,
};

/// Tokens, and what is there of the next one.
struct Counted {
    tokens: u64,
    part: u64,
}

impl Counted {
    fn pass(&mut self, pace: TokenBucket, ns: u64) {
        let all = self.part + ns;
        let burst = u64::from(pace.burst.max(1));
        self.tokens = (self.tokens + all / pace.interval_ns).min(burst);
        self.part = if self.tokens == burst {
            0
        } else {
            all % pace.interval_ns
        };
    }
}

#[test]
fn a_burst_then_one_at_a_time() {
    let mut full_at = 0;
    let mut taken = Vec::new();
    for now in (0..100_000).step_by(100) {
        if let Some(next) = PACE.take(full_at, now) {
            full_at = next;
            taken.push(now);
        }
    }
    let burst = (0..8).map(|n| n * 100);
    assert_eq!(taken[..8], burst.collect::<Vec<_>>());
    assert!(taken[8..].iter().zip(1..).all(|(at, n)| *at == n * 5_000));
    assert_eq!(taken.len(), 8 + 19);
}

#[test]
fn no_time_is_no_limit_and_no_burst_is_one() {
    let free = TokenBucket {
        burst: 0,
        interval_ns: 0,
    };
    assert_eq!(free.take(0, 7), Some(7));
    assert_eq!(free.take(7, 7), Some(7));
    let one = TokenBucket {
        burst: 0,
        interval_ns: 10,
    };
    assert_eq!(one.take(0, 7), Some(17));
    assert_eq!((one.take(17, 7), one.wait(17, 7)), (None, 10));
    assert_eq!(one.take(17, 17), Some(27));
}

#[test]
fn the_end_of_time_is_no_mistake() {
    let endless = TokenBucket {
        burst: u32::MAX,
        interval_ns: u64::MAX,
    };
    assert_eq!(endless.take(0, u64::MAX), Some(u64::MAX));
    assert_eq!(PACE.take(u64::MAX, 0), None);
    assert_eq!(PACE.wait(u64::MAX, 0), u64::MAX - 7 * PACE.interval_ns);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_is_a_bucket(
        burst in 0u32..5,
        interval_ns in 1u64..50,
        steps in proptest::collection::vec(0u64..60, 1..200),
    ) {
        let pace = TokenBucket { burst, interval_ns };
        let mut model = Counted { tokens: burst.max(1).into(), part: 0 };
        let (mut full_at, mut now) = (0, 0);
        for step in steps {
            now += step;
            model.pass(pace, step);
            let wait = pace.wait(full_at, now);
            prop_assert_eq!(wait == 0, model.tokens > 0);
            if model.tokens > 0 {
                model.tokens -= 1;
                full_at = pace.take(full_at, now).unwrap();
            } else {
                prop_assert_eq!(wait, interval_ns - model.part);
                prop_assert_eq!(pace.take(full_at, now), None);
            }
        }
    }
}

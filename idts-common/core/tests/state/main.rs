// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The life of a tunnel: both tables of `state.rs` driven against each other.
//!
//! A model of two drivers, of xenbus between them, and of what is granted and
//! mapped walks through *every* order of events: duplicates, either side
//! unbound and bound or broken, detach. Reading the peer's state and acting on
//! it are two steps, as in life. The tables themselves are held against
//! PROTOCOL.md by spec/. Proves F-4, F-5, F-6, B-3, B-4, B-5, B-6, B-16.

#![cfg(not(loom))]

mod world;

use idts_core::state::XenbusState as X;
use std::collections::{HashMap, HashSet, VecDeque};
use world::{Move, Rules, World, CALM, ROUGH, RULES};

/// Every world that can come to be, and how it came to be first.
struct Explored {
    rules: Rules,
    cause: HashMap<World, Option<(World, Move)>>,
}

impl Explored {
    fn new(rules: Rules) -> Self {
        let mut cause = HashMap::from([(World::START, None)]);
        let mut todo = VecDeque::from([World::START]);
        while let Some(w) = todo.pop_front() {
            for m in CALM.into_iter().chain(ROUGH) {
                if let Some(next) = w.after(m, rules) {
                    cause.entry(next).or_insert_with(|| {
                        todo.push_back(next);
                        Some((w, m))
                    });
                }
            }
        }
        Self { rules, cause }
    }

    fn calm(&self, w: World) -> impl Iterator<Item = World> + '_ {
        CALM.into_iter().filter_map(move |m| w.after(m, self.rules))
    }

    /// Worlds from which no calm order of events leads to a good rest, or that
    /// rest and are not good.
    fn stuck(&self) -> Vec<World> {
        let mut before: HashMap<World, Vec<World>> = HashMap::new();
        for w in self.cause.keys() {
            for next in self.calm(*w) {
                before.entry(next).or_default().push(*w);
            }
        }
        let rests = |w: &&World| w.is_good() && self.calm(**w).next().is_none();
        let mut todo: Vec<World> = self.cause.keys().filter(rests).copied().collect();
        let mut good: HashSet<World> = todo.iter().copied().collect();
        while let Some(w) = todo.pop() {
            let found = before.get(&w).into_iter().flatten();
            todo.extend(found.filter(|b| good.insert(**b)));
        }
        let lost = self.cause.keys().filter(|w| !good.contains(w));
        lost.copied().collect()
    }

    /// The shortest story that leads to one of `worlds`.
    fn story<'a>(&self, worlds: impl IntoIterator<Item = &'a World>) -> String {
        let story = |end: &World| {
            let mut lines = vec![format!("{end:?}")];
            let mut at = *end;
            while let Some(Some((from, m))) = self.cause.get(&at) {
                lines.push(format!("{m:?} of {from:?}"));
                at = *from;
            }
            lines.reverse();
            lines
        };
        let shortest = worlds.into_iter().map(story).min_by_key(Vec::len);
        shortest.unwrap_or_default().join("\n")
    }
}

#[test]
fn every_order_of_events_ends_well() {
    let all = Explored::new(RULES);
    let stuck = all.stuck();
    assert!(stuck.is_empty(), "stuck:\n{}", all.story(&stuck));
    assert!(all.cause.len() > 1000, "the model lost its worlds");
}

#[test]
fn release_waits_for_the_unmap() {
    let all = Explored::new(RULES);
    let torn: Vec<_> = all.cause.keys().filter(|w| w.torn).collect();
    assert!(
        torn.is_empty(),
        "released while mapped:\n{}",
        all.story(torn)
    );
}

/// B-16: whatever a front does, a back without a token stays closed, and each
/// set-up costs one: none of it is undone but by time and by the toolstack.
#[test]
fn set_ups_cost_what_time_alone_gives() {
    let all = Explored::new(RULES);
    let held = all.cause.keys().filter(|w| w.is_held()).count();
    assert!(held > 0, "no back ever waits");
    for w in all.cause.keys() {
        for m in CALM.into_iter().chain(ROUGH) {
            let Some(next) = w.after(m, RULES) else {
                continue;
            };
            let begins = !w.back_is(X::InitWait) && next.back_is(X::InitWait);
            let right = match m {
                Move::TimePasses => next.tokens == w.tokens + 1 && !begins,
                Move::BackBinds => begins,
                _ => next.tokens + u8::from(begins) == w.tokens,
            };
            assert!(right, "{m:?} of\n{}", all.story([w]));
            let waits = next.back_is(X::Closed) || w.tokens > 0 || next.tokens > 0;
            assert!(!w.is_held() || waits, "{m:?} of\n{}", all.story([w]));
        }
    }
}

#[test]
fn each_rule_is_needed() {
    let without = [
        Rules {
            front_looks_again: false,
            ..RULES
        },
        Rules {
            back_compares_offers: false,
            ..RULES
        },
        Rules {
            back_looks_again: false,
            ..RULES
        },
    ];
    for (n, rules) in without.into_iter().enumerate() {
        assert!(!Explored::new(rules).stuck().is_empty(), "rule {n} is idle");
    }
}

#[test]
fn unknown_numbers_are_no_state() {
    for number in (9..200).chain([u32::MAX]) {
        assert_eq!(X::from_wire(number), X::Unknown);
    }
    for number in 0..=X::Reconfigured as u32 {
        assert_eq!(X::from_wire(number) as u32, number);
    }
}

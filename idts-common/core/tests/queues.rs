// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Queues, their doorbells, and the terms that two sides agree on.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-2, F-13, F-18, B-2,
//! B-12.

#![cfg(not(loom))]

mod common;

use common::{take, AtomicMem};
use idts_core::negotiation::{feature, Capabilities, NegotiationError};
use idts_core::queues::{ChannelIds, Queues};
use idts_core::role::Role;
use idts_core::wire::{CHANNELS, QUEUES};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn all() -> impl Iterator<Item = Queues> {
    (1..=QUEUES).map(|n| Queues::new(n).unwrap())
}

fn queues() -> impl Strategy<Value = Queues> {
    (1..=QUEUES).prop_map(|n| Queues::new(n).unwrap())
}

#[test]
fn one_to_eight() {
    for count in [0, QUEUES + 1, u32::MAX] {
        assert_eq!(Queues::new(count), None);
    }
    assert_eq!(Queues::new(1), Some(Queues::ONE));
    assert_eq!(all().map(Queues::count).max(), Some(QUEUES));
}

/// Every word belongs to one queue, and its channels with it; the control ring
/// to the first.
#[test]
fn words_are_shared_out() {
    for queues in all() {
        let words: Vec<_> = (0..queues.count()).map(|q| queues.words(q)).collect();
        assert_eq!(words.iter().fold(0, |all, w| all ^ w), u64::MAX);
        assert_eq!(words.iter().map(|w| w.count_ones()).sum::<u32>(), 64);
        for id in 0..CHANNELS {
            let queue = queues.of(id);
            assert_eq!(words[queue as usize] >> (id / 64) & 1, 1, "{queues:?} {id}");
        }
        assert_eq!(queues.of(0), 0);
    }
}

/// All numbers can be used, each once, and 0 never.
#[test]
fn every_number_is_given_once() {
    for queues in [1, 3, QUEUES].map(|n| Queues::new(n).unwrap()) {
        let mut spread = ChannelIds::new(queues);
        let mut used = [false; CHANNELS as usize];
        while let Some(id) = spread.next_free() {
            assert!(!used[id as usize], "{queues:?}: {id} again");
            used[id as usize] = true;
            spread.insert(id);
        }
        assert!(!used[0] && used[1..].iter().all(|u| *u), "{queues:?}");
        spread.remove(77);
        spread.remove(77);
        assert_eq!(spread.in_use(), CHANNELS - 2);
        assert_eq!(spread.next_free(), Some(77));
    }
}

#[test]
fn numbers_of_one_queue_go_up() {
    let mut spread = ChannelIds::new(Queues::ONE);
    for wanted in 1..10 {
        let id = spread.next_free().unwrap();
        assert_eq!(id, wanted);
        spread.insert(id);
        spread.insert(id);
    }
    assert_eq!(spread.in_use(), 9, "a number is taken once");
}

#[test]
fn pairs_are_given_once_too() {
    let mut spread = ChannelIds::new(Queues::ONE);
    spread.insert(5);
    for wanted in (2..CHANNELS).step_by(2).filter(|id| *id != 4) {
        assert_eq!(spread.next_free_pair(), Some(wanted));
        spread.insert(wanted);
        spread.insert(wanted + 1);
    }
    assert_eq!(spread.next_free_pair(), None);
    spread.remove(65);
    assert_eq!(spread.next_free_pair(), None, "only one of two");
    spread.remove(64);
    assert_eq!(spread.next_free_pair(), Some(64));
}

proptest! {
    /// Whatever is opened and closed, no queue gets a channel while another has
    /// fewer, and its number is the lowest free one there.
    #[test]
    fn channels_spread(queues in queues(), ends in vec(any::<u16>(), 1..200)) {
        let mut spread = ChannelIds::new(queues);
        let mut used = BTreeSet::new();
        for end in ends {
            let count = |q| used.iter().filter(|id| queues.of(**id) == q).count() as u32;
            let least = (0..queues.count()).map(count).min().unwrap();
            let id = spread.next_free().unwrap();
            let queue = queues.of(id);
            prop_assert_eq!(count(queue), least);
            prop_assert_eq!(spread.in_queue(queue), least);
            let lower = (1..id).find(|l| queues.of(*l) == queue && !used.contains(l));
            prop_assert_eq!(lower, None);
            used.insert(id);
            spread.insert(id);
            prop_assert_eq!(spread.in_use() as usize, used.len());
            if end % 3 == 0 {
                let gone = *used.iter().nth(end as usize % used.len()).unwrap();
                used.remove(&gone);
                spread.remove(gone);
            }
        }
    }

    /// Each queue hears of its own channels, and of no other's.
    #[test]
    fn doorbells_of_queues(queues in queues(), ids in vec(0..CHANNELS, 0..100)) {
        let mem = AtomicMem::page();
        for id in &ids {
            Role::Front.tx_doorbell(queues.of(*id)).ring(&mem, *id);
        }
        for queue in 0..queues.count() {
            // The other direction has doorbells of its own.
            take(Role::Front.rx_doorbell(queue), &mem, u64::MAX, |id| panic!("{id} answered"));
            let mut heard = BTreeSet::new();
            let bell = Role::Back.rx_doorbell(queue);
            take(bell, &mem, queues.words(queue), |id| assert!(heard.insert(id)));
            let ours = ids.iter().copied().filter(|id| queues.of(*id) == queue);
            prop_assert_eq!(heard, ours.collect());
            take(bell, &mem, u64::MAX, |_| panic!("a mark was left"));
        }
    }

    /// Whatever the two sides can, they agree on something that both can and
    /// that the back takes, or have no version in common.
    #[test]
    fn two_sides_agree(front in abilities(), back in abilities()) {
        let Ok(terms) = front.intersect(&back) else {
            prop_assert!(front.versions.1 < back.versions.0 || back.versions.1 < front.versions.0);
            return Ok(());
        };
        let count = terms.queues.count();
        prop_assert_eq!(back.validate(terms.version, terms.features, count), Ok(terms));
        prop_assert!((front.versions.0..=front.versions.1).contains(&terms.version));
        prop_assert_eq!(terms.features, front.features & back.features);
        let wanted = match terms.features & feature::QUEUES {
            0 => 1,
            _ => front.queues.min(back.queues),
        };
        prop_assert_eq!(count, wanted);
    }

    /// The back takes nothing that it did not offer.
    #[test]
    fn a_back_is_not_overreached(
        back in abilities(),
        version in 0..8u32,
        features in 0..8u32,
        queues in 0..12u32,
    ) {
        let fits = (back.versions.0..=back.versions.1).contains(&version);
        let most = if features & feature::QUEUES == 0 { 1 } else { back.queues };
        let wanted = if !fits {
            Err(NegotiationError::Version)
        } else if features & !back.features != 0 {
            Err(NegotiationError::Features)
        } else if !(1..=most).contains(&queues) {
            Err(NegotiationError::Queues)
        } else {
            Ok((version, features, queues))
        };
        let judged = back.validate(version, features, queues);
        prop_assert_eq!(judged.map(|t| (t.version, t.features, t.queues.count())), wanted);
    }
}

fn abilities() -> impl Strategy<Value = Capabilities> {
    let versions = (1..6u32, 0..3u32).prop_map(|(low, more)| (low, low + more));
    (versions, 0..8u32, 1..=QUEUES).prop_map(|(versions, features, queues)| Capabilities {
        versions,
        features,
        queues,
    })
}

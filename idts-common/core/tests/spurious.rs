// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What an event was for: honest peers are always believed, storms never.

use idts_core::doorbell::each_bit;
use idts_core::spurious::{Change, EventCredit, OwnIndices, PeerIndices, StrayMarks};
use idts_core::wire::line;
use proptest::collection::vec;
use proptest::prelude::*;

/// Both indices of a ring, without end.
#[derive(Clone, Copy, Default)]
struct Ring {
    prod: u64,
    cons: u64,
}

/// What happens at a channel between two events. Numbers are shares of what is there.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// The peer writes.
    Theirs(u32),
    /// This side reads.
    Read(u32),
    /// This side writes.
    Ours(u32),
    /// The peer reads.
    Taken(u32),
    Mark,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (1u32..).prop_map(Deed::Theirs),
        (1u32..).prop_map(Deed::Read),
        (1u32..).prop_map(Deed::Ours),
        (1u32..).prop_map(Deed::Taken),
        Just(Deed::Mark),
    ];
    vec(deed, 1..200)
}

/// `share` modulo what can be moved of `all`.
fn some(share: u32, all: u64) -> u64 {
    match all {
        0 => 0,
        all => u64::from(share) % all + 1,
    }
}

fn own(rx: Ring, tx: Ring, before: u64, size: u32) -> OwnIndices {
    OwnIndices {
        cons_before: before as u32,
        cons: rx.cons as u32,
        prod: tx.prod as u32,
        rx_size: size,
    }
}

proptest! {
    /// Whatever this side read in the meantime, before or during the look: a mark after
    /// which an honest peer's index moved on is worth something, and one after which
    /// nothing moved is worth nothing.
    #[test]
    fn an_honest_peer_is_believed(
        deeds in deeds(),
        start in any::<u32>(),
        bits in 12u32..=22,
        during in any::<bool>(),
    ) {
        let size = 1u64 << bits;
        let start = u64::from(start);
        let mut rx = Ring { prod: start, cons: start };
        let mut tx = rx;
        let mut seen = PeerIndices { prod: start as u32, cons: start as u32, flags: 0 };
        let (mut moved, mut room) = (false, false);
        let mut before = rx.cons;
        for deed in deeds {
            match deed {
                Deed::Theirs(n) => {
                    let n = some(n, size - (rx.prod - rx.cons));
                    rx.prod += n;
                    moved |= n > 0;
                }
                Deed::Read(n) => rx.cons += some(n, rx.prod - rx.cons),
                Deed::Ours(n) => tx.prod += some(n, size - (tx.prod - tx.cons)),
                Deed::Taken(n) => {
                    let n = some(n, tx.prod - tx.cons);
                    tx.cons += n;
                    room |= n > 0;
                }
                Deed::Mark => {
                    // A handler that is slow: much was read since it began to look.
                    let began = if during { before } else { rx.cons };
                    let now = PeerIndices { prod: rx.prod as u32, cons: tx.cons as u32, flags: 0 };
                    let news = seen.compare(now, own(rx, tx, began, size as u32));
                    prop_assert_eq!(news.data, moved || rx.prod != rx.cons);
                    prop_assert_eq!(news.room, room);
                    prop_assert_eq!(news.worth, u32::from(moved) + u32::from(room));
                    prop_assert_eq!(seen, now);
                    (moved, room) = (false, false);
                    before = rx.cons;
                }
            }
        }
    }

    /// Nobody reads: whatever the peer writes into its line, all marks together are
    /// worth no more than the ring has bytes, this side wrote bytes, and there are flags.
    #[test]
    fn a_lying_peer_is_paid_for_what_can_be(
        lies in vec((any::<u32>(), any::<u32>(), any::<u32>()), 1..300),
        wrote in 0u32..100,
        near in any::<bool>(),
    ) {
        let size = 4096;
        let own = OwnIndices { cons_before: 0, cons: 0, prod: wrote, rx_size: size };
        let mut seen = PeerIndices::default();
        let (mut worth, mut last) = (0u32, seen);
        for (prod, cons, flags) in lies {
            let (prod, cons) = if near { (prod % 8192, cons % 200) } else { (prod, cons) };
            worth += seen.compare(PeerIndices { prod, cons, flags }, own).worth;
            prop_assert!(seen.prod >= last.prod && seen.prod <= size);
            prop_assert!(seen.cons >= last.cons && seen.cons <= wrote);
            last = seen;
        }
        prop_assert!(worth <= seen.prod + seen.cons + 3);
    }

    /// Three marks of each number are forgiven, and three more when it begins anew.
    #[test]
    fn strays(marks in vec(any::<u64>(), 0..20), anew in any::<u64>()) {
        let mut strays = StrayMarks::default();
        for _ in 0..2 {
            let mut came = [0u32; 64];
            for marks in &marks {
                let mut forgiven = 0;
                each_bit(*marks, |n| {
                    forgiven += u32::from(came[n as usize] < 3);
                    came[n as usize] += 1;
                });
                prop_assert_eq!(strays.forgive(*marks), forgiven);
                let (low, high) = strays.words();
                prop_assert_eq!(strays, StrayMarks::new(low, high));
            }
            strays.forget(anew);
            prop_assert_eq!(strays.forgive(anew), anew.count_ones());
            strays.forget(u64::MAX);
        }
    }
}

#[test]
fn going_back_is_worth_nothing_and_looked_at() {
    let own = OwnIndices {
        cons_before: 0,
        cons: 0,
        prod: 10,
        rx_size: 4096,
    };
    let mut seen = PeerIndices {
        prod: 100,
        cons: 5,
        flags: 0,
    };
    let was = seen;
    for (prod, cons) in [(50, 5), (4097, 5), (100, 4), (100, 11)] {
        let news = seen.compare(
            PeerIndices {
                prod,
                cons,
                flags: 0,
            },
            own,
        );
        assert!(news.data || news.room, "whoever waits must find that out");
        assert_eq!(news.worth, 0);
        assert_eq!(seen, was);
    }
}

#[test]
fn a_flag_counts_once() {
    let own = OwnIndices {
        cons_before: 0,
        cons: 0,
        prod: 0,
        rx_size: 4096,
    };
    let mut seen = PeerIndices::default();
    let flags = |flags| PeerIndices {
        flags,
        ..PeerIndices::default()
    };
    assert_eq!(seen.compare(flags(line::FIN), own).worth, 1);
    assert_eq!(seen.compare(flags(line::FIN), own), Change::default());
    assert!(seen.compare(flags(0), own).is_none(), "taken back");
    let both = line::FIN | line::DEAF | line::RESET | 1 << 31;
    assert_eq!(seen.compare(flags(both), own).worth, 2, "unknown bits");
}

#[test]
fn a_purse_is_emptied_by_events_for_nothing() {
    let mut purse = EventCredit::FULL;
    for _ in 0..EventCredit::MAX {
        assert!(purse.pay(0));
    }
    assert!(!purse.pay(0));
    assert!(purse.pay(1), "an event with a reason");
    assert!(!purse.pay(0));
    assert!(purse.pay(1000));
    assert_eq!(purse, EventCredit::FULL, "no more is saved");
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A peer that lies: any word of shared memory may read as anything at any
//! moment. Never a panic, never out of bounds, never an index that goes back.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-12, B-11.

#![cfg(not(loom))]

mod common;

use common::{take, Evil, Lie};
use idts_core::control::ControlRing;
use idts_core::error::Violation;
use idts_core::mem::SharedMem;
use idts_core::nodes;
use idts_core::ring::{peer_flags, peer_lag, set_lag, Consumer, Lines, Producer};
use idts_core::role::Role;
use idts_core::wire::{
    line, BackMessage, FrontMessage, Kind, Name, Open, Ports, Refusal, Request, Slice, Slot,
    NAME_MAX,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LINES: Lines = Lines { own: 0, peer: 64 };

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        3 => Just(Lie::None),
        1 => any::<u64>().prop_map(Lie::Any),
        3 => (-200..200i32).prop_map(Lie::Near),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Look,
    Move(u32),
    Arm(u32),
    Flags,
}

fn op() -> impl Strategy<Value = Op> {
    let count = || prop_oneof![0..300u32, any::<u32>()];
    prop_oneof![
        Just(Op::Look),
        count().prop_map(Op::Move),
        count().prop_map(Op::Arm),
        Just(Op::Flags),
    ]
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_writer_stands_any_peer(
        log in 0..23u32,
        start in any::<u32>(),
        lies in vec(lie(), 1..60),
        ops in vec(op(), 0..100),
    ) {
        let (mem, size) = (Evil::new(lies), 1u32 << log);
        let mut tx = Producer::starting_at(size, start);
        for op in ops {
            let before = tx.free_seen();
            match op {
                Op::Look => match tx.free(&mem, LINES) {
                    Ok(free) => prop_assert!(free >= before, "a consumer index went back"),
                    Err(_) => prop_assert_eq!(tx.free_seen(), before),
                },
                Op::Move(n) => {
                    let _ = tx.publish(&mem, LINES, n);
                    prop_assert_eq!(tx.free_seen(), before - n.min(before));
                }
                Op::Arm(n) => {
                    let _ = tx.arm(&mem, LINES, n);
                    prop_assert!(tx.free_seen() >= before);
                }
                Op::Flags => prop_assert_eq!(peer_flags(&mem, LINES) & !line::KNOWN, 0),
            }
            prop_assert!(tx.free_seen() <= size);
            let span = tx.next(u32::MAX);
            prop_assert!(span.at < size && span.len <= size - span.at);
            prop_assert!(span.len <= tx.free_seen());
        }
    }

    #[test]
    fn a_reader_stands_any_peer(
        log in 0..23u32,
        start in any::<u32>(),
        lies in vec(lie(), 1..60),
        ops in vec(op(), 0..100),
    ) {
        let (mem, size) = (Evil::new(lies), 1u32 << log);
        let mut rx = Consumer::starting_at(size, start);
        for op in ops {
            let before = rx.available_seen();
            match op {
                Op::Look => match rx.available(&mem, LINES) {
                    Ok(there) => prop_assert!(there >= before, "a producer index went back"),
                    Err(_) => prop_assert_eq!(rx.available_seen(), before),
                },
                Op::Move(n) => {
                    let _ = rx.release(&mem, LINES, n);
                    prop_assert_eq!(rx.available_seen(), before - n.min(before));
                }
                Op::Arm(_) => {
                    let _ = rx.arm(&mem, LINES);
                    prop_assert!(rx.available_seen() >= before);
                }
                Op::Flags => prop_assert_eq!(peer_flags(&mem, LINES) & !line::KNOWN, 0),
            }
            prop_assert!(rx.available_seen() <= size);
            let span = rx.next(u32::MAX);
            prop_assert!(span.at < size && span.len <= size - span.at);
            prop_assert!(span.len <= rx.available_seen());
        }
    }

    #[test]
    fn the_control_ring_stands_any_peer(
        front in any::<bool>(),
        lies in vec(lie(), 1..60),
        sends in vec(any::<bool>(), 0..100),
    ) {
        let mem = Evil::new(lies);
        let mut ring = ControlRing::new(if front { Role::Front } else { Role::Back });
        for send in sends {
            if send {
                let _ = ring.send(&mem, &[7; 16]);
                let _ = ring.arm_send(&mem);
            } else if let Ok(Some((slot, _))) = ring.receive(&mem) {
                let _ = (FrontMessage::decode(&slot), BackMessage::decode(&slot));
            } else {
                let _ = ring.arm_receive(&mem);
            }
        }
    }

    #[test]
    fn doorbells_stand_any_peer(lies in vec(any::<u64>().prop_map(Lie::Any), 1..70)) {
        let mem = Evil::new(lies);
        let mut count = 0;
        take(Role::Back.rx_doorbell(0), &mem, u64::MAX, |id| {
            assert!(id < 4096);
            count += 1;
        });
        prop_assert!(count <= 4096, "an event costs more than a look at each channel");
    }

    #[test]
    fn a_decoded_slot_says_what_it_said(slot in slot()) {
        if let Ok(m) = FrontMessage::decode(&slot) {
            prop_assert_eq!(m.encode(), slot);
        }
        if let Ok(m) = BackMessage::decode(&slot) {
            prop_assert_eq!(m.encode(), slot);
        }
    }

    #[test]
    fn only_known_reasons_are_reasons(value in any::<u32>()) {
        prop_assert_eq!(Refusal::from_wire(value).is_ok(), (1..=5).contains(&value));
    }

    #[test]
    fn only_names_are_names(
        text in "[a-z0-9-]{0,56}|.{0,20}",
        rest in prop_oneof![4 => Just(0u8), 1 => any::<u8>()],
    ) {
        let mut bytes = [rest; NAME_MAX];
        let text = &text.as_bytes()[..text.len().min(NAME_MAX)];
        bytes[..text.len()].copy_from_slice(text);
        let name = Name(bytes);
        let padded = bytes.iter().position(|b| *b == 0).unwrap_or(NAME_MAX);
        let plain = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let valid = bytes[0].is_ascii_lowercase()
            && bytes[..padded].iter().all(plain)
            && bytes[padded..].iter().all(|b| *b == 0);
        prop_assert_eq!(name.is_valid(), valid);
        prop_assert_eq!(name.text(), &bytes[..padded]);
        let message = FrontMessage::Name(name);
        let heard = FrontMessage::decode(&message.encode());
        prop_assert_eq!(heard, if valid { Ok(message) } else { Err(Violation::MessageField) });
    }

    #[test]
    fn lag_is_in_its_word_alone(own in 0..16u32, lag in any::<u32>()) {
        let mem = Evil::new(vec![]);
        let (own, peer) = (own * line::PAIR, own * line::PAIR + line::SIZE);
        set_lag(&mem, Lines { own, peer }, lag);
        prop_assert_eq!(peer_lag(&mem, Lines { own: peer, peer: own }), lag);
        prop_assert_eq!(peer_lag(&mem, Lines { own, peer }), 0);
        for at in (0..4096).step_by(4).filter(|at| *at != own + line::LAG) {
            prop_assert_eq!(mem.load(at), 0);
        }
    }

    #[test]
    fn only_numbers_are_numbers(text in "[/-:+ -]{0,12}", low in any::<u32>(), high in any::<u32>()) {
        let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse::<u32>().ok().filter(|v| digits && (low..=high).contains(v));
        prop_assert_eq!(nodes::number(text.as_bytes(), low, high), value);
        prop_assert_eq!(nodes::number(b":", 0, u32::MAX), None);
    }

    #[test]
    fn any_bytes_are_judged(text in vec(any::<u8>(), 0..20)) {
        let _ = nodes::number(&text, 0, u32::MAX);
    }

    #[test]
    fn a_common_version_is_common(a in 0..9u32, b in 0..9u32, c in 0..9u32, d in 0..9u32) {
        let both = |v: &u32| (a..=b).contains(v) && (c..=d).contains(v);
        prop_assert_eq!(nodes::common_version((a, b), (c, d)), (0..9).rev().find(both));
    }
}

/// Whatever a front answers a request with, all of it that was asked for holds.
#[test]
fn an_answer_is_what_was_asked_for() {
    let slice = |len| Slice {
        len,
        ..Slice::default()
    };
    let ports = Ports {
        source: 5,
        target: 80,
    };
    let open = Open {
        tag: 1,
        ports,
        front_ring: slice(4096),
        back_ring: slice(8192),
        domain: 3,
        kind: Kind::Record,
        ..Open::default()
    };
    let request = Request {
        tag: 1,
        ports,
        front_size: 4096,
        back_size: 8192,
        domain: 3,
        kind: Kind::Record,
    };
    assert_eq!(request.check(&open), Ok(()));
    let source = Ports { source: 6, ..ports };
    let target = Ports {
        target: 81,
        ..ports
    };
    let others = [
        Open {
            front_ring: slice(8192),
            ..open
        },
        Open {
            back_ring: slice(4096),
            ..open
        },
        Open {
            ports: source,
            ..open
        },
        Open {
            ports: target,
            ..open
        },
        Open { domain: 4, ..open },
        Open {
            kind: Kind::Stream,
            ..open
        },
    ];
    for other in others {
        assert_eq!(request.check(&other), Err(Violation::MessageField));
    }
}

/// The first four bytes of a text as a word.
fn letters(text: &str) -> u32 {
    u32::from_le_bytes(text.as_bytes()[..4].try_into().unwrap())
}

/// Slots that are often nearly right.
fn slot() -> impl Strategy<Value = Slot> {
    let word = || {
        prop_oneof![
            4 => Just(0u32),
            4 => 0..70u32,
            2 => (0..24u32).prop_map(|log| 1 << log),
            1 => any::<u32>(),
        ]
    };
    let word = || prop_oneof![4 => word(), 1 => "[a-z0-9-]{4}".prop_map(|t| letters(&t))];
    let first = prop_oneof![1..21u32, any::<u32>()];
    (first, proptest::array::uniform15(word()), 0..16usize).prop_map(|(code, rest, used)| {
        let mut slot = [0; 16];
        slot[0] = code;
        slot[1..=used.min(15)].copy_from_slice(&rest[..used.min(15)]);
        slot
    })
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Messages that belong together, in the right order and in any other.
//!
//! Seed and number of cases: see common/mod.rs. Proves B-14, B-17.

#![cfg(not(loom))]

use idts_core::error::Violation;
use idts_core::reassembly::{find_request, NameAssembler, SegmentAssembler};
use idts_core::wire::{Kind, Name, Open, Ports, Request, Slice, NAME_MAX, PAGE, SEGMENT_WINDOWS};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    let mut name = Name([0; NAME_MAX]);
    name.0[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn open(kind: Kind) -> Open {
    Open {
        kind,
        ..Open::default()
    }
}

#[test]
fn a_name_is_of_the_next_open() {
    for kind in [Kind::Stream, Kind::Record, Kind::Publish, Kind::Subscribe] {
        let mut naming = NameAssembler::NONE;
        naming.push(name("a")).unwrap();
        assert_eq!(naming.finish(&open(kind)), Ok(Some(name("a"))));
        // Of that one alone.
        let next = naming.finish(&open(kind));
        let none = match kind.is_group() {
            true => Err(Violation::MessageOrder),
            false => Ok(None),
        };
        assert_eq!(next, none);
    }
}

#[test]
fn names_in_the_wrong_place() {
    let mut naming = NameAssembler::NONE;
    naming.push(name("a")).unwrap();
    assert_eq!(naming.push(name("a")), Err(Violation::MessageOrder));
    let tagged = Open {
        tag: 1,
        ..open(Kind::Stream)
    };
    let relayed = Open {
        domain: 1,
        ..open(Kind::Stream)
    };
    for odd in [tagged, relayed] {
        let mut naming = NameAssembler::NONE;
        assert_eq!(naming.finish(&odd), Ok(None));
        naming.push(name("a")).unwrap();
        assert_eq!(naming.finish(&odd), Err(Violation::MessageOrder));
    }
}

proptest! {
    #[test]
    fn windows_in_order(segment in 0u32..32, windows in 1..=SEGMENT_WINDOWS) {
        let mut order = SegmentAssembler::new(segment, windows);
        for window in 0..windows {
            prop_assert!(!order.is_complete());
            prop_assert_eq!(order.push((segment, windows), (window, 0)), Ok(false));
            prop_assert!(!order.is_complete());
            prop_assert_eq!(order.push((segment, windows), (window, 1)), Ok(true));
        }
        prop_assert!(order.is_complete());
    }

    /// After any number of halves only the next one is heard.
    #[test]
    fn windows_out_of_order(
        windows in 1..=SEGMENT_WINDOWS,
        heard in 0u32..2 * SEGMENT_WINDOWS,
        segment in 0u32..3,
        other in 1u32..4,
        (window, half) in (0..SEGMENT_WINDOWS, 0u32..2),
    ) {
        let heard = heard % (windows * 2);
        let mut order = SegmentAssembler::new(1, windows);
        for n in 0..heard {
            order.push((1, windows), (n / 2, n % 2)).unwrap();
        }
        let of = (segment, windows ^ (other & 2));
        let right = of == (1, windows) && (window, half) == (heard / 2, heard % 2);
        let before = order;
        let answer = order.push(of, (window, half));
        prop_assert_eq!(answer.is_ok(), right);
        if !right {
            prop_assert_eq!(answer, Err(Violation::MessageOrder));
            prop_assert_eq!(order, before);
        }
    }
}

#[test]
fn only_what_was_asked_is_answered() {
    let asked = [4, 7, 9];
    let find = |tag| find_request(asked.into_iter(), tag);
    assert_eq!(find(4), Ok(0));
    assert_eq!(find(9), Ok(2));
    for tag in [0, 1, 8, u32::MAX] {
        assert_eq!(find(tag), Err(Violation::Tag));
    }
    assert_eq!(find_request([].into_iter(), 4), Err(Violation::Tag));
}

#[test]
fn an_open_is_like_its_request() {
    let request = Request {
        tag: 5,
        ports: Ports {
            source: 1,
            target: 2,
        },
        front_size: PAGE,
        back_size: 2 * PAGE,
        domain: 3,
        kind: Kind::Record,
    };
    let ring = |len| Slice {
        len,
        ..Slice::default()
    };
    let met = Open {
        tag: request.tag,
        ports: request.ports,
        front_ring: ring(PAGE),
        back_ring: ring(2 * PAGE),
        domain: 3,
        kind: Kind::Record,
        ..Open::default()
    };
    assert_eq!(request.check(&met), Ok(()));
    let ports = |source, target| Ports { source, target };
    let unlike = [
        Open {
            ports: ports(9, 2),
            ..met
        },
        Open {
            ports: ports(1, 9),
            ..met
        },
        Open {
            front_ring: ring(2 * PAGE),
            ..met
        },
        Open {
            back_ring: ring(PAGE),
            ..met
        },
        Open { domain: 0, ..met },
        Open {
            kind: Kind::Stream,
            ..met
        },
    ];
    for open in unlike {
        assert_eq!(
            request.check(&open),
            Err(Violation::MessageField),
            "{open:?}"
        );
    }
}

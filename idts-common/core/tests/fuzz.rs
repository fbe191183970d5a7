// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The fuzz targets of `../fuzz`, run without a fuzzer: on random bytes, and on
//! bytes that are nearly what the target reads.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-12, B-7, B-11.

#![cfg(not(loom))]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that mean something to the targets more often than not.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => any::<u8>(),
        3 => 0..6u8,
        1 => 100..110u8,
        1 => 208..223u8,
        1 => Just(255u8),
    ];
    vec(byte, 0..600)
}

/// Messages, as the target `control` reads a slot: kind, words, a byte a word.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let window = (0..3u8, 1..4u8).prop_map(|(s, n)| vec![2, 5, 1, s, n, 0, 0]);
    let retire = (0..3u8).prop_map(|s| vec![2, 2, 2, s]);
    let generation = || prop_oneof![4 => Just(1u8), 1 => 2..4u8];
    let closed = (1..9u8, generation()).prop_map(|(id, generation)| vec![2, 3, 5, id, generation]);
    let page = || prop_oneof![Just(0u8), 100..150u8];
    let size = || 212..218u8;
    let open = (
        (1..9u8, generation(), 0..4u8),
        (0..3u8, page(), prop_oneof![Just(0u8), Just(207), Just(208)]),
        (0..3u8, page(), size()),
        (0..3u8, page(), size()),
        (0..3u8, 0..3u8),
    )
        .prop_map(
            |((id, generation, tag), lines, front, back, (domain, kind))| {
                let at = if lines.2 == 0 { lines.1 } else { lines.2 };
                vec![
                    2, 16, 3, id, generation, tag, 0, 7, lines.0, at, front.0, front.1, front.2,
                    back.0, back.1, back.2, domain, kind,
                ]
            },
        );
    let name = vec("[a-z0-9-]{4}", 0..15).prop_map(|words| {
        let mut name = vec![2, words.len() as u8 + 2, 6, 0];
        let words = words.iter().flat_map(|w| [&[255], w.as_bytes()].concat());
        name.extend(words);
        name
    });
    let group =
        (1..9u8, 0..4u8, 0..3u8, 100..150u8, 2..4u8).prop_map(|(id, how, s, page, kind)| {
            let (front, back) = (page + 1, page + 2);
            vec![
                2, 16, 3, id, 1, 0, how, 1, s, page, s, front, 212, s, back, 212, 0, kind,
            ]
        });
    let one = prop_oneof![2 => window, 1 => retire, 5 => open, 1 => name, 2 => group, 2 => closed];
    vec(one, 0..40).prop_map(|all| all.concat())
}

/// Three texts as the target `policy` splits them, after its target.
fn policies() -> impl Strategy<Value = (Vec<u8>, String)> {
    let value = prop_oneof![
        "[0-9]{1,14}",
        "(all|none|dom0|fifo|drr|prio)",
        "(dom0|[a-z][a-z0-9-]{0,4}|[0-9]{1,5})(:([0-9]{1,4}(-[0-9]{1,4})?|\\*))?(,[a-z0-9:*-]{1,9}){0,3}",
        "[a-z][a-z0-9-]{0,4}[*]?(,[a-z][a-z0-9-]{0,4}[*]?){0,17}",
        "[ -~]{0,20}",
    ];
    let texts = (value, "[a-z0-9-]{0,6}", "[a-z0-9-]{0,6}");
    let head = vec(0..120u8, 3);
    (
        head,
        texts.prop_map(|(value, alias, group)| format!("{value}\0{alias}\0{group}")),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn control(data in prop_oneof![bytes(), messages()]) {
        targets::control::fuzz_one(&data);
    }

    #[test]
    fn nodes(head in vec(0..20u8, 4), text in "[0-9]{0,11}|[0-9 +-]{0,11}|.{0,12}") {
        targets::nodes::fuzz_one(&[head.as_slice(), text.as_bytes()].concat());
    }

    #[test]
    fn policy((head, text) in policies()) {
        targets::policy::fuzz_one(&[head.as_slice(), text.as_bytes()].concat());
    }

    #[test]
    fn record(data in bytes()) {
        targets::record::fuzz_one(&data);
    }

    #[test]
    fn ioctl((kind, data, name) in (0..5u8, vec(any::<u8>(), 0..20), "[a-z0-9-]{0,60}")) {
        let small: Vec<u8> = data.iter().map(|byte| byte % 24).collect();
        for data in [data, small] {
            targets::ioctl::fuzz_one(&[&[kind][..], &data, name.as_bytes()].concat());
        }
    }

    #[test]
    fn ring(data in bytes()) {
        targets::ring::fuzz_one(&data);
    }
}

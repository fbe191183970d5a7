// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Records in a ring: framing against a queue of messages, around the ring's
//! end and the indices' wrap; headers that lie; spans past what is published.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-15, B-13, F-12, B-11.

#![cfg(not(loom))]

mod common;

use common::{AtomicMem, Evil, Lie};
use idts_core::error::Violation;
use idts_core::index::Untrusted;
use idts_core::mem::SharedMem;
use idts_core::record::{check, framed, longest, HEADER};
use idts_core::ring::{Consumer, Lines, Producer, Span};
use idts_core::wire::line;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;

const WRITER: Lines = Lines { own: 0, peer: 64 };
const READER: Lines = Lines { own: 64, peer: 0 };

/// A ring's bytes.
struct Bytes(Vec<u8>);

impl Bytes {
    fn at(&mut self, span: Span) -> &mut [u8] {
        let (at, len) = (span.at as usize, span.len as usize);
        &mut self.0[at..at + len]
    }

    fn word(&mut self, span: Span) -> u32 {
        let bytes: &[u8] = self.at(span);
        u32::from_le_bytes(bytes.try_into().expect("a header straddles the ring's end"))
    }
}

/// The steps of PROTOCOL.md 6.6; `false`: no room.
fn write(tx: &mut Producer, mem: &AtomicMem, ring: &mut Bytes, record: &[u8]) -> bool {
    let len = record.len() as u32;
    let takes = framed(len).unwrap();
    if tx.free(mem, WRITER).unwrap() < takes {
        return false;
    }
    let header = tx.next(HEADER);
    ring.at(header).copy_from_slice(&len.to_le_bytes());
    let mut done = 0;
    while done < len {
        let span = tx.next_after(HEADER + done, len - done);
        let part = &record[done as usize..(done + span.len) as usize];
        ring.at(span).copy_from_slice(part);
        done += span.len;
    }
    let _ = tx.publish(mem, WRITER, takes);
    true
}

fn read<M: SharedMem>(
    rx: &mut Consumer,
    mem: &M,
    ring: &mut Bytes,
) -> Result<Option<Vec<u8>>, Violation> {
    let there = rx.available(mem, READER)?;
    if there == 0 {
        return Ok(None);
    }
    let header = rx.next(HEADER);
    if header.len < HEADER {
        return Err(Violation::Record);
    }
    let len = check(Untrusted::new(ring.word(header)), there)?;
    let mut record = Vec::new();
    while record.len() < len as usize {
        let done = record.len() as u32;
        let span = rx.next_after(HEADER + done, len - done);
        assert!(span.len > 0, "a record ends early");
        record.extend_from_slice(ring.at(span));
    }
    let _ = rx.release(mem, READER, framed(len).unwrap());
    Ok(Some(record))
}

/// A multiple of 4, often shortly before the wrap.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>().prop_map(|n| n & !3),
        (0..80u32).prop_map(|back| 0u32.wrapping_sub(back * 4)),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<u8>),
    Read,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => vec(any::<u8>(), 1..40).prop_map(Op::Write),
        1 => vec(any::<u8>(), 40..140).prop_map(Op::Write),
        4 => Just(Op::Read),
    ]
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        3 => Just(Lie::None),
        1 => any::<u64>().prop_map(Lie::Any),
        3 => (-40..40i32).prop_map(Lie::Near),
    ]
}

/// Values around every border.
fn near() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..300u32,
        any::<u32>(),
        (0..9u32).prop_map(|d| u32::MAX - d)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn records_arrive_whole_and_in_order(
        log in 3..8u32,
        start in start(),
        ops in vec(op(), 0..200),
    ) {
        let size = 1u32 << log;
        let mem = AtomicMem::page();
        for lines in [WRITER, READER] {
            mem.store(lines.own + line::PROD, start);
            mem.store(lines.own + line::CONS, start);
        }
        let mut ring = Bytes(vec![0xa5; size as usize]);
        let mut tx = Producer::starting_at(size, start);
        let mut rx = Consumer::starting_at(size, start);
        let mut model = VecDeque::new();
        let mut used = 0;
        for op in ops {
            match op {
                Op::Write(record) => {
                    let takes = framed(record.len() as u32).unwrap();
                    let fits = used + takes <= size;
                    prop_assert_eq!(write(&mut tx, &mem, &mut ring, &record), fits);
                    if fits {
                        used += takes;
                        model.push_back(record);
                    } else if record.len() as u32 <= longest(size) {
                        // Arming for what it takes is answered by the truth.
                        prop_assert_eq!(tx.arm(&mem, WRITER, takes), Ok(false));
                    }
                }
                Op::Read => {
                    let got = read(&mut rx, &mem, &mut ring).unwrap();
                    prop_assert_eq!(&got, &model.pop_front());
                    used -= got.map_or(0, |r| framed(r.len() as u32).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_header_is_judged_by_what_is_there(header in near(), available in near()) {
        let len = u64::from(header);
        let takes = (len + 4).next_multiple_of(4);
        let good = len > 0 && takes <= u64::from(available);
        let wanted = if good { Ok(header) } else { Err(Violation::Record) };
        prop_assert_eq!(check(Untrusted::new(header), available), wanted);
    }

    #[test]
    fn a_frame_is_the_next_multiple_of_four(len in near()) {
        let wide = (u64::from(len) + 4).next_multiple_of(4);
        // What is within a word of the limit may be refused, never cut.
        match framed(len) {
            Some(takes) => prop_assert_eq!(u64::from(takes), wide),
            None => prop_assert!(wide > u64::from(u32::MAX) - 8),
        }
    }

    #[test]
    fn a_reader_of_records_stands_any_peer(
        log in 3..8u32,
        start in start(),
        lies in vec(lie(), 1..60),
        bytes in vec(any::<u8>(), 128),
        headers in vec(0..40u32, 32),
        reads in 0..60usize,
    ) {
        let size = 1u32 << log;
        let mem = Evil::new(lies);
        let mut ring = Bytes(bytes);
        // Headers that are nearly right, where one may stand.
        for (cell, header) in ring.0.chunks_exact_mut(8).zip(headers) {
            cell[..4].copy_from_slice(&header.to_le_bytes());
        }
        ring.0.truncate(size as usize);
        let mut rx = Consumer::starting_at(size, start);
        for _ in 0..reads {
            if let Ok(Some(record)) = read(&mut rx, &mem, &mut ring) {
                prop_assert!(!record.is_empty() && record.len() as u32 <= longest(size));
            }
            prop_assert_eq!(rx.next(1).at % 4, 0, "a header may straddle");
        }
    }

    /// What is published later in one go lies where it would lie had the bytes
    /// before it been published.
    #[test]
    fn next_after_is_next_later(
        log in 0..8u32,
        start in any::<u32>(),
        fill in 0..200u32,
        skip in prop_oneof![0..200u32, any::<u32>()],
        want in prop_oneof![0..200u32, any::<u32>()],
    ) {
        let size = 1u32 << log;
        let mem = AtomicMem::page();
        let mut tx = Producer::starting_at(size, start);
        let mut rx = Consumer::starting_at(size, start);
        let _ = tx.publish(&mem, WRITER, fill);
        let later = tx.next_after(skip, want);
        let free = tx.free_seen();
        prop_assert!(later.at < size && later.len <= size - later.at);
        prop_assert!(u64::from(skip) + u64::from(later.len) <= u64::from(free.max(skip)));
        let _ = tx.publish(&mem, WRITER, skip);
        if skip <= free {
            prop_assert_eq!(tx.next(want), later);
        } else {
            prop_assert_eq!(later.len, 0);
        }

        mem.store(WRITER.own + line::PROD, start.wrapping_add(fill.min(size)));
        let there = rx.available(&mem, READER).unwrap_or(0);
        let later = rx.next_after(skip, want);
        prop_assert!(later.at < size && later.len <= size - later.at);
        let _ = rx.release(&mem, READER, skip);
        if skip <= there {
            prop_assert_eq!(rx.next(want), later);
        } else {
            prop_assert_eq!(later.len, 0);
        }
    }
}

#[test]
fn the_longest_record_fills_its_ring() {
    for log in 3..23 {
        let size = 1u32 << log;
        assert_eq!(framed(longest(size)), Some(size));
        assert_eq!(framed(longest(size) + 1), Some(size + 4));
    }
    assert_eq!(longest(3), 0);
}

#[test]
fn every_small_header_is_judged() {
    for available in 0..40 {
        for header in 0..40 {
            let good = header > 0 && (header + HEADER).next_multiple_of(4) <= available;
            let wanted = if good {
                Ok(header)
            } else {
                Err(Violation::Record)
            };
            assert_eq!(check(Untrusted::new(header), available), wanted);
        }
    }
}

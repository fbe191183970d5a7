// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Rings, indices and control ring with an honest peer, against simple models:
//! a queue of bytes, indices of 64 bits.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-13, B-12.

#![cfg(not(loom))]

mod common;

use common::AtomicMem;
use idts_core::control::ControlRing;
use idts_core::error::Violation;
use idts_core::index::{passes, Untrusted};
use idts_core::mem::SharedMem;
use idts_core::ring::{peer_flags, set_flags, Consumer, Lines, Producer, Span};
use idts_core::role::Role;
use idts_core::wire::{line, page};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

const WRITER: Lines = Lines { own: 0, peer: 64 };
const READER: Lines = Lines { own: 64, peer: 0 };

#[derive(Clone, Debug)]
enum Op {
    Write(u32),
    Read(u32),
    ArmReader,
    ArmWriter(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..200u32).prop_map(Op::Write),
        3 => (0..200u32).prop_map(Op::Read),
        1 => Just(Op::ArmReader),
        1 => prop_oneof![0..200u32, any::<u32>()].prop_map(Op::ArmWriter),
    ]
}

/// Anywhere, and often shortly before the wrap or the sign.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0..300u32).prop_map(|back| 0u32.wrapping_sub(back)),
        (0..300u32).prop_map(|back| (1u32 << 31).wrapping_sub(back)),
    ]
}

/// A ring, its memory, and the queue that it is to behave like.
struct Pair {
    mem: AtomicMem,
    data: Vec<u8>,
    tx: Producer,
    rx: Consumer,
    model: VecDeque<u8>,
    /// Bytes written and read since the start, never wrapping.
    prod: u64,
    cons: u64,
    /// The counts at which the model expects an event.
    prod_event: u64,
    cons_event: i64,
    byte: u8,
}

impl Pair {
    fn new(size: u32, start: u32) -> Self {
        let mem = AtomicMem::page();
        for lines in [WRITER, READER] {
            for word in [line::PROD, line::CONS, line::PROD_EVENT, line::CONS_EVENT] {
                mem.store(lines.own + word, start);
            }
        }
        Self {
            mem,
            data: vec![0; size as usize],
            tx: Producer::starting_at(size, start),
            rx: Consumer::starting_at(size, start),
            model: VecDeque::new(),
            prod: 0,
            cons: 0,
            prod_event: 0,
            cons_event: 0,
            byte: 0,
        }
    }

    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let (at, len) = (span.at as usize, span.len as usize);
        assert!(at + len <= self.data.len(), "{span:?} leaves the ring");
        at..at + len
    }

    fn write(&mut self, want: u32) {
        let free = self.tx.free(&self.mem, WRITER).unwrap();
        assert_eq!(free as usize, self.data.len() - self.model.len());
        let span = self.tx.next(want);
        assert!(span.len > 0 || want == 0 || free == 0);
        for at in self.range(span) {
            self.byte = self.byte.wrapping_add(1);
            self.data[at] = self.byte;
            self.model.push_back(self.byte);
        }
        let old = self.prod;
        self.prod += u64::from(span.len);
        let expected = old < self.prod_event && self.prod_event <= self.prod;
        assert_eq!(self.tx.publish(&self.mem, WRITER, span.len), expected);
    }

    fn read(&mut self, want: u32) {
        let there = self.rx.available(&self.mem, READER).unwrap();
        assert_eq!(there as usize, self.model.len());
        let span = self.rx.next(want);
        assert!(span.len > 0 || want == 0 || there == 0);
        for at in self.range(span) {
            assert_eq!(Some(self.data[at]), self.model.pop_front());
        }
        let old = self.cons as i64;
        self.cons += u64::from(span.len);
        let expected = old < self.cons_event && self.cons_event <= self.cons as i64;
        assert_eq!(self.rx.release(&self.mem, READER, span.len), expected);
    }

    fn arm_reader(&mut self) {
        let there = self.rx.arm(&self.mem, READER).unwrap();
        self.prod_event = self.cons + 1;
        assert_eq!(there, !self.model.is_empty());
    }

    fn arm_writer(&mut self, want: u32) {
        let free = self.tx.arm(&self.mem, WRITER, want).unwrap();
        let size = self.data.len();
        let want = (want as usize).clamp(1, size);
        self.cons_event = self.prod as i64 + want as i64 - size as i64;
        assert_eq!(free, size - self.model.len() >= want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_ring_is_a_queue(
        log in 0..8u32,
        start in start(),
        ops in proptest::collection::vec(op(), 0..300),
    ) {
        let mut pair = Pair::new(1 << log, start);
        for op in ops {
            match op {
                Op::Write(n) => pair.write(n),
                Op::Read(n) => pair.read(n),
                Op::ArmReader => pair.arm_reader(),
                Op::ArmWriter(n) => pair.arm_writer(n),
            }
        }
    }

    #[test]
    fn more_than_is_there_is_cut(start in start(), a in any::<u32>(), b in any::<u32>()) {
        let mut pair = Pair::new(64, start);
        let _ = pair.tx.publish(&pair.mem, WRITER, a);
        prop_assert_eq!(pair.rx.available(&pair.mem, READER), Ok(a.min(64)));
        let _ = pair.rx.release(&pair.mem, READER, b);
        prop_assert_eq!(pair.tx.free(&pair.mem, WRITER), Ok(64 - a.min(64).saturating_sub(b)));
    }

    #[test]
    fn an_index_is_judged_by_how_far_it_is(
        (log, known) in (0..23u32).prop_flat_map(|log| (Just(log), 0..=1u32 << log)),
        own in start(),
        far in prop_oneof![0..=1u32 << 23, any::<u32>()],
    ) {
        let size = 1 << log;
        let (ahead, behind) = (own.wrapping_add(far), own.wrapping_sub(far));
        let producer = Untrusted::new(ahead).as_producer(own.wrapping_add(known), own, size);
        let good = known <= far && far <= size;
        prop_assert_eq!(producer, good.then_some(ahead).ok_or(Violation::ProducerIndex));
        let consumer = Untrusted::new(behind).as_consumer(own.wrapping_sub(known), own);
        prop_assert_eq!(consumer, (far <= known).then_some(behind).ok_or(Violation::ConsumerIndex));
    }

    #[test]
    fn an_event_is_passed_if_it_lies_between(old in start(), step in any::<u32>(), far in any::<u32>()) {
        for far in [far, step, step.wrapping_add(1), 0, 1] {
            let (new, event) = (old.wrapping_add(step), old.wrapping_add(far));
            prop_assert_eq!(passes(old, new, event), 0 < far && far <= step);
        }
    }

    #[test]
    fn control_messages_arrive_in_order(sends in proptest::collection::vec(any::<bool>(), 0..200)) {
        let mem = AtomicMem::page();
        let mut front = ControlRing::new(Role::Front);
        let mut back = ControlRing::new(Role::Back);
        let mut model = VecDeque::new();
        for (n, send) in (1u32..).zip(sends) {
            let slot = std::array::from_fn(|i| n * 16 + i as u32);
            if send {
                let sent = front.send(&mem, &slot).unwrap().is_some();
                prop_assert_eq!(sent, model.len() < page::SLOTS as usize);
                if sent {
                    model.push_back(slot);
                }
            } else {
                let got = back.receive(&mem).unwrap().map(|(slot, _)| slot);
                prop_assert_eq!(got, model.pop_front());
            }
            // The other direction is another ring.
            prop_assert_eq!(front.receive(&mem), Ok(None));
        }
    }
}

/// Indices around which something may go wrong.
fn corners() -> impl Iterator<Item = u32> {
    let near = |at: u32| (0..6u32).map(move |d| at.wrapping_add(d).wrapping_sub(3));
    [0, 1 << 31, 100].into_iter().flat_map(near)
}

#[test]
fn ends_know_their_size() {
    for size in [1, 2, 4096] {
        assert_eq!(Producer::new(size).size(), size);
        assert_eq!(Consumer::new(size).size(), size);
    }
}

/// All indices of a small width, in every place: at the top of the word they wrap as those of
/// all its bits do.
#[test]
fn every_index_of_six_bits() {
    const COUNT: u32 = 1 << 6;
    let up = |index: u32| index * (u32::MAX / COUNT + 1);
    let far = |from: u32, to: u32| (COUNT + to - from) % COUNT;
    for own in 0..COUNT {
        for seen in 0..COUNT {
            for index in 0..COUNT {
                let peers = Untrusted::new(up(index));
                for size in (0..6).map(|log| 1 << log) {
                    let good = far(own, seen) <= far(own, index) && far(own, index) <= size;
                    let got = peers.as_producer(up(seen), up(own), up(size));
                    assert_eq!(got.is_ok(), good, "{index} after {seen} and {own}");
                }
                let good = far(index, own) <= far(seen, own);
                let got = peers.as_consumer(up(seen), up(own));
                assert_eq!(got.is_ok(), good, "{index} after {seen} before {own}");
                let passed = 0 < far(own, index) && far(own, index) <= far(own, seen);
                assert_eq!(passes(up(own), up(seen), up(index)), passed);
            }
        }
    }
}

#[test]
fn every_producer_index_of_small_rings() {
    for size in [1u32, 2, 4, 8] {
        for cons in corners() {
            for known in 0..=size {
                let seen = cons.wrapping_add(known);
                let good: BTreeSet<u32> = (known..=size).map(|d| cons.wrapping_add(d)).collect();
                let far = [1 << 30, 1 << 31, 3 << 30].map(|d| cons.wrapping_add(d));
                for index in (0..64)
                    .map(|d| cons.wrapping_add(d).wrapping_sub(32))
                    .chain(far)
                {
                    let expected = good.contains(&index).then_some(index);
                    let got = Untrusted::new(index).as_producer(seen, cons, size);
                    assert_eq!(got, expected.ok_or(Violation::ProducerIndex));
                }
            }
        }
    }
}

#[test]
fn every_consumer_index_of_small_rings() {
    for size in [1u32, 2, 4, 8] {
        for prod in corners() {
            for known in 0..=size {
                let seen = prod.wrapping_sub(known);
                let good: BTreeSet<u32> = (0..=known).map(|d| prod.wrapping_sub(d)).collect();
                let far = [1 << 30, 1 << 31, 3 << 30].map(|d| prod.wrapping_add(d));
                for index in (0..64)
                    .map(|d| prod.wrapping_add(d).wrapping_sub(32))
                    .chain(far)
                {
                    let expected = good.contains(&index).then_some(index);
                    let got = Untrusted::new(index).as_consumer(seen, prod);
                    assert_eq!(got, expected.ok_or(Violation::ConsumerIndex));
                }
            }
        }
    }
}

#[test]
fn every_event_of_small_steps() {
    for old in corners() {
        for step in 0..16 {
            let new = old.wrapping_add(step);
            let hits: BTreeSet<u32> = (1..=step).map(|d| old.wrapping_add(d)).collect();
            for event in (0..64).map(|d| old.wrapping_add(d).wrapping_sub(24)) {
                assert_eq!(passes(old, new, event), hits.contains(&event));
            }
        }
    }
}

#[test]
fn flags_cross_and_unknown_ones_do_not() {
    let mem = AtomicMem::page();
    assert_eq!(peer_flags(&mem, READER), 0);
    set_flags(&mem, WRITER, line::FIN | 1 << 31);
    assert_eq!(peer_flags(&mem, READER), line::FIN);
    assert_eq!(peer_flags(&mem, WRITER), 0);
}

#[test]
fn two_threads_move_a_stream() {
    const TOTAL: u32 = 1 << 18;
    let mem = AtomicMem::new(32 + 64, 0);
    let data = |at: u32| 128 + at * 4;
    let start = 0u32.wrapping_sub(TOTAL / 2);
    mem.store(READER.own + line::CONS, start);
    mem.store(WRITER.own + line::PROD, start);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut tx = Producer::starting_at(64, start);
            let mut sent = 0;
            while sent < TOTAL {
                if tx.free(&mem, WRITER).unwrap() == 0 {
                    std::thread::yield_now();
                }
                let span = tx.next(TOTAL - sent);
                for i in 0..span.len {
                    mem.store(data(span.at + i), sent + i);
                }
                sent += span.len;
                let _ = tx.publish(&mem, WRITER, span.len);
            }
        });
        let mut rx = Consumer::starting_at(64, start);
        let mut got = 0;
        while got < TOTAL {
            if rx.available(&mem, READER).unwrap() == 0 {
                std::thread::yield_now();
            }
            let span = rx.next(TOTAL);
            for i in 0..span.len {
                assert_eq!(mem.load(data(span.at + i)), got + i);
            }
            got += span.len;
            let _ = rx.release(&mem, READER, span.len);
        }
    });
}

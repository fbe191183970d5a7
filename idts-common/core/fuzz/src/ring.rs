// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Both ends of a ring, and the doorbells, under a peer that lies.

use super::input::{Input, Lying};
use idts_core::ring::{peer_flags, Consumer, Lines, Producer, Span};
use idts_core::role::Role;
use idts_core::wire::{line, CHANNELS};

const LINES: Lines = Lines { own: 0, peer: 64 };

fn check_span(span: Span, size: u32, most: u32) {
    assert!(span.at < size && span.len <= size - span.at && span.len <= most);
}

fn write(tx: &mut Producer, mem: &Lying<'_>, what: u8) {
    let before = tx.free_seen();
    let count = mem.input.count();
    match what % 3 {
        0 => match tx.free(mem, LINES) {
            Ok(free) => assert!(free >= before, "a consumer index went back"),
            Err(_) => assert_eq!(tx.free_seen(), before),
        },
        1 => {
            let _ = tx.publish(mem, LINES, count);
            assert_eq!(tx.free_seen(), before - count.min(before));
        }
        _ => {
            let _ = tx.arm(mem, LINES, count);
            assert!(tx.free_seen() >= before);
        }
    }
    assert!(tx.free_seen() <= tx.size());
    check_span(tx.next(count), tx.size(), tx.free_seen());
    let after = tx.free_seen().saturating_sub(count);
    check_span(tx.next_after(count, u32::MAX), tx.size(), after);
}

fn read(rx: &mut Consumer, mem: &Lying<'_>, what: u8) {
    let before = rx.available_seen();
    let count = mem.input.count();
    match what % 3 {
        0 => match rx.available(mem, LINES) {
            Ok(there) => assert!(there >= before, "a producer index went back"),
            Err(_) => assert_eq!(rx.available_seen(), before),
        },
        1 => {
            let _ = rx.release(mem, LINES, count);
            assert_eq!(rx.available_seen(), before - count.min(before));
        }
        _ => {
            let _ = rx.arm(mem, LINES);
            assert!(rx.available_seen() >= before);
        }
    }
    assert!(rx.available_seen() <= rx.size());
    check_span(rx.next(count), rx.size(), rx.available_seen());
    let after = rx.available_seen().saturating_sub(count);
    check_span(rx.next_after(count, u32::MAX), rx.size(), after);
}

fn take_doorbells(mem: &Lying<'_>) {
    let mut marks = 0;
    Role::Back.rx_doorbell(0).take(mem, u64::MAX, |word, bits| {
        assert!(word < CHANNELS / 64);
        marks += bits.count_ones();
    });
    assert!(marks <= CHANNELS, "an event costs more than its channels");
}

/// Reads a size and a start, then what to do, and the peer's lies between.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    let (size, start) = (1u32 << (input.byte() % 23), input.word());
    let mem = Lying::new(&input);
    let mut tx = Producer::starting_at(size, start);
    let mut rx = Consumer::starting_at(size, start);
    while !input.is_empty() {
        match input.byte() {
            what @ 0..=99 => write(&mut tx, &mem, what),
            what @ 100..=199 => read(&mut rx, &mem, what),
            200..=219 => assert_eq!(peer_flags(&mem, LINES) & !line::KNOWN, 0),
            220..=239 => Role::Front.tx_doorbell(0).ring(&mem, mem.input.word()),
            _ => take_doorbells(&mem),
        }
    }
}

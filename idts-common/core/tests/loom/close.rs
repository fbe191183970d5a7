// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Closing a channel while the peer writes to it, as `opening.rs` has it: flags, then CLOSED
//! each way over a control ring of one slot. No side sleeps for ever, a slice is used again only
//! when the peer is done with it, and CLOSED comes after all data. Proves F-10, B-9.

use super::common::{AtomicMem, Weak, Without};
use super::{builder, Link, DATA, READER, WRITER};
use idts_core::mem::SharedMem;
use idts_core::opening::{Action, ChannelSlot, Event};
use idts_core::ring::{peer_flags, set_flags, Consumer, Lines, Producer};
use idts_core::wire::line;
use loom::thread;

/// The control ring's lines: of the side that reads the channel, and of the one
/// that writes it.
const READER_CONTROL: Lines = Lines { own: 48, peer: 68 };
const WRITER_CONTROL: Lines = Lines { own: 68, peer: 48 };

/// What the slice's next user leaves there.
const REUSED: u32 = 99;

fn memory() -> AtomicMem {
    AtomicMem::new(22, 2)
}

/// Sends CLOSED: the index of the control ring says it, the slot has no news.
fn send_closed<M: SharedMem>(link: &Link<M>, lines: Lines) {
    let mut tx = Producer::new(1);
    if tx.publish(&link.mem, lines, 1) {
        match lines {
            WRITER_CONTROL => link.to_reader.notify(),
            _ => link.to_writer.notify(),
        }
    }
}

/// A channel that both sides may use.
fn opened() -> ChannelSlot {
    let mut opening = ChannelSlot::default();
    opening.act(1, Event::AnswerRequest);
    opening
}

/// Closes this side's end: what the table says, in its order. Whether its slice is free then.
fn close<M: SharedMem>(
    link: &Link<M>,
    opening: &mut ChannelSlot,
    (lines, control, flags): (Lines, Lines, u32),
) -> bool {
    for action in opening.act(1, Event::Close) {
        match action {
            Action::Shutdown => {
                set_flags(&link.mem, lines, flags);
                match lines {
                    WRITER => link.to_reader.notify(),
                    _ => link.to_writer.notify(),
                }
            }
            Action::SendClosed => send_closed(link, control),
            other => assert_eq!(*other, Action::Free),
        }
    }
    opening.is_free()
}

/// Writes until the peer reads no more; then closes too.
fn write_until_closed<M: SharedMem>(link: &Link<M>) {
    let mem = &link.mem;
    let mut tx = Producer::new(1);
    let mut control = Consumer::new(1);
    let mut closed = |armed: bool| {
        let there = if armed {
            control.arm(mem, WRITER_CONTROL)
        } else {
            control.available(mem, WRITER_CONTROL).map(|n| n > 0)
        };
        there.unwrap() || peer_flags(mem, WRITER) & line::DEAF != 0
    };
    while !closed(false) {
        if tx.free(mem, WRITER).unwrap() > 0 {
            link.put(&mut tx, 1);
        } else if !tx.arm(mem, WRITER, 1).unwrap() && !closed(true) {
            link.to_writer.wait();
        }
    }
    let ends = (WRITER, WRITER_CONTROL, line::FIN | line::DEAF);
    close(link, &mut opened(), ends);
}

/// Waits for the writer's CLOSED.
fn await_closed<M: SharedMem>(link: &Link<M>) {
    let mut control = Consumer::new(1);
    while control.available(&link.mem, READER_CONTROL).unwrap() == 0 {
        if !control.arm(&link.mem, READER_CONTROL).unwrap() {
            link.to_reader.wait();
        }
    }
}

/// A reader takes `reads` bytes, closes, and uses the slice again, with or
/// without waiting for the peer's CLOSED.
fn close_and_reuse(reads: u32, patient: bool) {
    builder(3).check(move || {
        let link = Link::new(memory());
        let writer = link.clone();
        let writer = thread::spawn(move || write_until_closed(&writer));
        let mut rx = Consumer::new(1);
        for _ in 0..reads {
            while rx.available(&link.mem, READER).unwrap() == 0 {
                if !rx.arm(&link.mem, READER).unwrap() {
                    link.to_reader.wait();
                }
            }
            assert_eq!(link.take(&mut rx), 1);
        }
        let mut opening = opened();
        let flags = line::FIN | line::DEAF | line::RESET;
        let mut is_free = close(&link, &mut opening, (READER, READER_CONTROL, flags));
        while patient && !is_free {
            await_closed(&link);
            is_free = opening.act(1, Event::RecvClosed) == [Action::Free];
        }
        let slice = (0..=DATA).step_by(4);
        for word in slice.clone() {
            link.mem.store(word, REUSED);
        }
        writer.join().unwrap();
        for word in slice {
            assert_eq!(link.mem.load(word), REUSED, "a late write");
        }
    });
}

#[test]
fn a_slice_is_used_again_only_when_the_peer_is_done() {
    close_and_reuse(0, true);
}

#[test]
fn a_writer_that_sleeps_hears_of_the_close() {
    close_and_reuse(1, true);
}

#[test]
#[should_panic(expected = "a late write")]
fn with_one_closed_alone_a_late_write_comes() {
    close_and_reuse(0, false);
}

/// A side that finds CLOSED, without having slept, finds everything before it.
fn glance<M, F>(make: F)
where
    M: SharedMem + Send + Sync + 'static,
    F: Fn() -> M + Send + Sync + 'static,
{
    builder(3).check(move || {
        let link = Link::new(make());
        let writer = link.clone();
        let writer = thread::spawn(move || {
            let mut tx = Producer::new(1);
            writer.put(&mut tx, 1);
            let ends = (WRITER, WRITER_CONTROL, line::FIN | line::DEAF);
            close(&writer, &mut opened(), ends);
        });
        let mut control = Consumer::new(1);
        for _ in 0..2 {
            if control.available(&link.mem, READER_CONTROL).unwrap() > 0 {
                let flags = peer_flags(&link.mem, READER);
                assert_eq!(flags, line::FIN | line::DEAF, "stale flags");
                let mut rx = Consumer::new(1);
                assert_eq!(rx.available(&link.mem, READER), Ok(1), "stale index");
                assert_eq!(link.take(&mut rx), 1, "stale data");
                break;
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn closed_comes_after_everything() {
    glance(memory);
}

#[test]
#[should_panic(expected = "stale")]
fn without_order_closed_comes_early() {
    glance(|| Weak(memory(), Without::Order));
}

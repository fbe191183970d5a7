// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! A handler that wakes nobody for what it saw before: no wake-up is lost, as it looks for
//! news first and for who waits then.

use super::common::take;
use super::{builder, memory, Link, READER, WRITER};
use idts_core::doorbell::Doorbell;
use idts_core::mem::SharedMem;
use idts_core::ring::{Consumer, Producer};
use idts_core::spurious::{OwnIndices, PeerIndices};
use idts_core::wire::line;
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
use loom::sync::Notify;
use loom::thread;
use std::sync::Arc;

/// Apart from the lines: both have memory for double words of their own.
const BELL: Doorbell = Doorbell {
    summary: 0,
    words: 8,
};
const SIZE: u32 = 2;
const COUNT: u32 = 2;

/// Who waits for bytes, as the handler and the reader share it.
struct Waiter {
    armed: AtomicU32,
    news: Notify,
}

impl Waiter {
    fn tell(&self) {
        if self.armed.swap(0, SeqCst) == 1 {
            self.news.notify();
        }
    }
}

/// Hears events until it has seen all that is written.
fn hear<M: SharedMem>(link: &Link<M>, waiter: &Waiter, waits_first: bool) {
    let mut seen = PeerIndices::default();
    while seen.prod != COUNT {
        link.to_reader.wait();
        let mut marked = false;
        take(BELL, &link.mem, u64::MAX, |_| marked = true);
        if !marked {
            continue;
        }
        if waits_first {
            waiter.tell();
        }
        let now = PeerIndices {
            prod: link.mem.load_acquire(READER.peer + line::PROD),
            ..PeerIndices::default()
        };
        let own = OwnIndices {
            cons_before: 0,
            cons: COUNT,
            prod: 0,
            rx_size: SIZE,
        };
        if !seen.compare(now, own).is_none() && !waits_first {
            waiter.tell();
        }
    }
}

fn three(waits_first: bool) {
    builder(3).check(move || {
        let link = Link::new(memory(SIZE));
        let waiter = Arc::new(Waiter {
            armed: AtomicU32::new(0),
            news: Notify::new(),
        });
        let writer = link.clone();
        let writer = thread::spawn(move || {
            let mut tx = Producer::new(SIZE);
            for _ in 0..COUNT {
                if tx.publish(&writer.mem, WRITER, 1) {
                    BELL.ring(&writer.mem, 3);
                    writer.to_reader.notify();
                }
            }
            // The handler is to end, too: an event that brings nothing.
            BELL.ring(&writer.mem, 3);
            writer.to_reader.notify();
        });
        let (handler, told) = (link.clone(), waiter.clone());
        let handler = thread::spawn(move || hear(&handler, &told, waits_first));
        let mut rx = Consumer::new(SIZE);
        for _ in 0..COUNT {
            while rx.available_seen() == 0 && rx.available(&link.mem, READER).unwrap() == 0 {
                waiter.armed.swap(1, SeqCst);
                if !rx.arm(&link.mem, READER).unwrap() {
                    waiter.news.wait();
                }
            }
            let _ = rx.release(&link.mem, READER, 1);
        }
        writer.join().unwrap();
        handler.join().unwrap();
    });
}

#[test]
fn news_reach_who_waits() {
    three(false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_who_waits_first_news_are_lost() {
    three(true);
}

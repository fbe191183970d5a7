// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The order of memory, in every interleaving that loom finds: what is
//! published is seen, nothing is overwritten early, no wake-up is lost. A lost
//! wake-up is a deadlock, which loom reports. The models that leave an ordering
//! out must fail: that is how we know that these can.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p idts-core --test loom --release
//! --target-dir target/loom`. Here: rings. Proves F-13, B-12.

#![cfg(loom)]

mod close;
#[path = "../common/mod.rs"]
mod common;
mod doorbells;
mod news;

use common::{AtomicMem, Weak, Without};
use idts_core::mem::SharedMem;
use idts_core::ring::{peer_flags, set_flags, Consumer, Lines, Producer};
use idts_core::wire::line;
use loom::model::Builder;
use loom::sync::Notify;
use loom::thread;
use std::sync::Arc;

const WRITER: Lines = Lines { own: 0, peer: 20 };
const READER: Lines = Lines { own: 20, peer: 0 };
/// The ring's cells, a word for each byte.
const DATA: u32 = 40;

/// What two sides share: memory, and an event channel each way.
struct Link<M> {
    mem: M,
    to_reader: Notify,
    to_writer: Notify,
}

impl<M: SharedMem> Link<M> {
    fn new(mem: M) -> Arc<Self> {
        Arc::new(Self {
            mem,
            to_reader: Notify::new(),
            to_writer: Notify::new(),
        })
    }

    fn put(&self, tx: &mut Producer, value: u32) {
        let span = tx.next(1);
        assert_eq!(span.len, 1);
        self.mem.store(DATA + span.at * 4, value);
        if tx.publish(&self.mem, WRITER, 1) {
            self.to_reader.notify();
        }
    }

    fn take(&self, rx: &mut Consumer) -> u32 {
        let span = rx.next(1);
        assert_eq!(span.len, 1);
        let value = self.mem.load(DATA + span.at * 4);
        if rx.release(&self.mem, READER, 1) {
            self.to_writer.notify();
        }
        value
    }

    /// Writes 1 to `count`, sleeping while the ring is full.
    fn write(&self, size: u32, count: u32) {
        let mut tx = Producer::new(size);
        for value in 1..=count {
            while tx.free_seen() == 0 && tx.free(&self.mem, WRITER).unwrap() == 0 {
                if !tx.arm(&self.mem, WRITER, 1).unwrap() {
                    self.to_writer.wait();
                }
            }
            self.put(&mut tx, value);
        }
    }

    /// Expects 1 to `count`, sleeping while the ring is empty.
    fn read(&self, size: u32, count: u32) {
        let mut rx = Consumer::new(size);
        for value in 1..=count {
            while rx.available_seen() == 0 && rx.available(&self.mem, READER).unwrap() == 0 {
                if !rx.arm(&self.mem, READER).unwrap() {
                    self.to_reader.wait();
                }
            }
            assert_eq!(self.take(&mut rx), value, "stale data");
        }
    }
}

fn memory(size: u32) -> AtomicMem {
    AtomicMem::new((DATA / 4 + size) as usize, 2)
}

fn builder(preemptions: usize) -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder
}

/// Both sides sleep whenever they can.
fn stream<M, F>(preemptions: usize, size: u32, count: u32, make: F)
where
    M: SharedMem + Send + Sync + 'static,
    F: Fn() -> M + Send + Sync + 'static,
{
    builder(preemptions).check(move || {
        let link = Link::new(make());
        let writer = link.clone();
        let writer = thread::spawn(move || writer.write(size, count));
        link.read(size, count);
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_is_woken() {
    stream(4, 2, 2, || memory(2));
}

#[test]
fn a_writer_is_woken() {
    stream(3, 1, 3, || memory(1));
}

#[test]
fn a_longer_stream_flows() {
    stream(2, 2, 5, || memory(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_a_wakeup_is_lost() {
    stream(3, 1, 2, || Weak(memory(1), Without::Fence));
}

/// Looks without sleeping, so that nothing but publish and release orders.
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
            let mut value = 1;
            for _ in 0..2 {
                if tx.free(&writer.mem, WRITER).unwrap() > 0 {
                    writer.put(&mut tx, value);
                    value += 1;
                }
            }
        });
        let mut rx = Consumer::new(1);
        let mut value = 1;
        for _ in 0..2 {
            if rx.available(&link.mem, READER).unwrap() > 0 {
                assert_eq!(link.take(&mut rx), value, "stale data");
                value += 1;
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn what_is_published_is_seen() {
    glance(|| memory(1));
}

#[test]
#[should_panic(expected = "stale data")]
fn without_order_stale_data_is_seen() {
    // The fences stay out of it: they come after the publish.
    glance(|| Weak(memory(1), Without::Order));
}

#[test]
fn the_end_comes_after_all_data() {
    builder(4).check(|| {
        let link = Link::new(memory(2));
        let writer = link.clone();
        let writer = thread::spawn(move || {
            let mut tx = Producer::new(2);
            writer.put(&mut tx, 1);
            writer.put(&mut tx, 2);
            set_flags(&writer.mem, WRITER, line::FIN);
            writer.to_reader.notify();
        });
        let mut rx = Consumer::new(2);
        let mut got = 0;
        loop {
            let flags = peer_flags(&link.mem, READER);
            if rx.available(&link.mem, READER).unwrap() > 0 {
                got += 1;
                assert_eq!(link.take(&mut rx), got);
            } else if flags & line::FIN != 0 {
                break;
            } else if !rx.arm(&link.mem, READER).unwrap() {
                link.to_reader.wait();
            }
        }
        assert_eq!(got, 2, "the end came before the data");
        writer.join().unwrap();
    });
}

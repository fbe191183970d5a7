// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Connect, close and unplug, in orders that shuttle draws: both sides' threads
//! that take messages, programs that open, use and close channels, and somebody
//! who takes the tunnel away meanwhile. A lost wake-up is a deadlock, which
//! shuttle reports. The models that leave something out must fail.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` set the number of orders and the
//! seed. Proves F-10, B-9 and the order of teardown.

#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;
mod rooms;
mod world;

use idts_core::mem::SharedMem;
use idts_core::ring::{peer_flags, Consumer, Producer};
use idts_core::wire::{line, Open};
use shuttle::rand::Rng;
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::Arc;
use shuttle::{thread, Config, Runner};
use world::{cell, tunnel, Gone, Side, Without};

/// Channels that a front opens, one after the other: more than it has numbers.
const CHANNELS: u32 = 3;
/// What goes through each, in a ring of two.
const WORDS: u32 = 3;
const RING: u32 = 2;

/// Runs a model in as many orders as told.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let orders = number("PROPTEST_CASES").unwrap_or(256) as usize;
    let seed = number("PROPTEST_RNG_SEED").unwrap_or(1);
    let scheduler = RandomScheduler::new_from_seed(seed, orders);
    Runner::new(scheduler, Config::new()).run(model);
}

/// Writes 1 to WORDS into a channel.
fn write(side: &Side, open: &Open) -> Result<(), Gone> {
    let lines = side.lines(open);
    let mut tx = Producer::new(RING);
    for value in 1..=WORDS {
        loop {
            let seen = side.events();
            let full = side
                .live(|mem| tx.free(mem, lines).unwrap() == 0 && !tx.arm(mem, lines, 1).unwrap())?;
            if !full {
                break;
            }
            side.sleep(seen)?;
        }
        let notify = side.live(|mem| {
            mem.store(cell(open.front_ring, tx.next(1).at), value);
            tx.publish(mem, lines, 1)
        })?;
        if notify {
            side.notify();
        }
    }
    Ok(())
}

/// What comes through a channel, in order, until its end.
fn read(side: &Side, open: &Open) -> Result<(), Gone> {
    let lines = side.lines(open);
    let mut rx = Consumer::new(RING);
    let mut got = 0;
    loop {
        let seen = side.events();
        let (ended, empty) = side.live(|mem| {
            let ended = peer_flags(mem, lines) & line::FIN != 0;
            let empty = rx.available(mem, lines).unwrap() == 0;
            (ended, empty && (ended || !rx.arm(mem, lines).unwrap()))
        })?;
        if !empty {
            let notify = side.live(|mem| {
                got += 1;
                let value = mem.load(cell(open.front_ring, rx.next(1).at));
                assert_eq!(value, got, "stale data");
                rx.release(mem, lines, 1)
            })?;
            if notify {
                side.notify();
            }
        } else if ended {
            assert_eq!(got, WORDS, "the end came before the data");
            return Ok(());
        } else {
            side.sleep(seen)?;
        }
    }
}

fn client(side: &Side) -> Result<(), Gone> {
    for _ in 0..CHANNELS {
        let open = side.connect()?;
        write(side, &open)?;
        side.close(&open)?;
    }
    side.settle()
}

fn server(side: &Side) -> Result<(), Gone> {
    for _ in 0..CHANNELS {
        let open = side.accept()?;
        read(side, &open)?;
        side.close(&open)?;
    }
    side.settle()
}

fn spawn<T: Send + 'static>(side: &Arc<Side>, run: fn(&Side) -> T) -> thread::JoinHandle<T> {
    let side = side.clone();
    thread::spawn(move || run(&side))
}

/// A whole life, with or without somebody who takes the tunnel away amid it.
fn life(without: Without, unplugged: bool) {
    explore(move || {
        let (front, back) = tunnel(without);
        let handlers = [&front, &back].map(|side| spawn(side, Side::serve));
        let programs = [spawn(&front, client), spawn(&back, server)];
        if !unplugged {
            for program in programs {
                assert_eq!(program.join().unwrap(), Ok(()));
            }
            front.expect_idle();
            back.expect_idle();
            back.unplug();
            front.unplug();
        } else {
            for _ in 0..shuttle::rand::thread_rng().gen_range(0..300) {
                thread::yield_now();
            }
            back.unplug();
            front.unplug();
            for program in programs {
                // Over, or broken off: either way it does not hang.
                let _ = program.join().unwrap();
            }
        }
        for handler in handlers {
            handler.join().unwrap();
        }
    });
}

#[test]
fn channels_come_and_go() {
    life(Without::Nothing, false);
}

#[test]
fn a_tunnel_goes_amid_everything() {
    life(Without::Nothing, true);
}

#[test]
#[should_panic(expected = "an access after the unmap")]
fn without_waiting_for_copies_one_comes_late() {
    life(Without::Patience, true);
}

#[test]
#[should_panic(expected = "in use")]
fn without_the_peers_closed_a_slice_is_taken_twice() {
    life(Without::PeerClosed, false);
}

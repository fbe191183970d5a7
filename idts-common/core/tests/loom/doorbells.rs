// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Doorbells: no mark is lost, and a mark shows its news.

use super::common::{take, AtomicMem, Weak, Without};
use super::{builder, Link};
use idts_core::doorbell::Doorbell;
use idts_core::mem::SharedMem;
use idts_core::queues::Queues;
use loom::thread;
use std::sync::Arc;

const BELL: Doorbell = Doorbell {
    summary: 0,
    words: 8,
};
/// A word that stands for a channel's index: what a mark is about.
const NEWS: u32 = 0;

/// Two channels have news at once; `ring` rings for one.
fn two_ring(ring: fn(&AtomicMem, u32)) {
    builder(4).check(move || {
        let link = Link::new(AtomicMem::new(0, 2));
        let ringers: Vec<_> = [3, 5]
            .into_iter()
            .map(|id| {
                let link = link.clone();
                thread::spawn(move || {
                    ring(&link.mem, id);
                    link.to_reader.notify();
                })
            })
            .collect();
        let mut heard = 0u64;
        loop {
            take(BELL, &link.mem, u64::MAX, |id| heard |= 1 << id);
            if heard == 1 << 3 | 1 << 5 {
                break;
            }
            link.to_reader.wait();
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

#[test]
fn no_mark_is_lost() {
    two_ring(|mem, id| BELL.ring(mem, id));
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_the_summary_first_a_mark_is_lost() {
    two_ring(|mem, id| {
        mem.or64(BELL.summary, 1);
        mem.or64(BELL.words, 1 << id);
    });
}

/// A channel rings again while its first mark is being taken.
#[test]
fn news_during_a_take_are_told() {
    builder(4).check(|| {
        let link = Link::new(AtomicMem::new(1, 2));
        let ringer = link.clone();
        let ringer = thread::spawn(move || {
            for n in 1..=2 {
                ringer.mem.store(NEWS, n);
                BELL.ring(&ringer.mem, 3);
                ringer.to_reader.notify();
            }
        });
        let mut seen = 0;
        while seen < 2 {
            let mem = &link.mem;
            let mut marked = false;
            take(BELL, mem, u64::MAX, |_| {
                seen = mem.load(NEWS);
                marked = true;
            });
            if !marked {
                link.to_reader.wait();
            }
        }
        ringer.join().unwrap();
    });
}

/// Two queues are heard at the same time, and channels of both rung: each hears
/// of its own, and of nothing else.
#[test]
fn queues_do_not_mix() {
    const BELLS: [Doorbell; 2] = [
        Doorbell {
            summary: 0,
            words: 16,
        },
        Doorbell {
            summary: 8,
            words: 16,
        },
    ];
    let queues = Queues::new(2).unwrap();
    builder(3).check(move || {
        let mem = Arc::new(AtomicMem::new(0, 4));
        let ringer = mem.clone();
        let ringer = thread::spawn(move || {
            for id in [5, 64 + 3] {
                BELLS[queues.of(id) as usize].ring(&*ringer, id);
            }
        });
        let hear = move |mem: &AtomicMem, queue: u32| {
            let mut heard = 0;
            take(BELLS[queue as usize], mem, queues.words(queue), |id| {
                assert_eq!(queues.of(id), queue);
                heard += 1;
            });
            heard
        };
        let other = mem.clone();
        let other = thread::spawn(move || hear(&other, 1));
        let mut heard = hear(&mem, 0) + other.join().unwrap();
        ringer.join().unwrap();
        heard += hear(&mem, 0) + hear(&mem, 1);
        assert_eq!(heard, 2, "a mark was lost or heard twice");
    });
}

/// Looks without sleeping, so that nothing but the doorbell orders.
fn glance<M, F>(make: F)
where
    M: SharedMem + Send + Sync + 'static,
    F: Fn() -> M + Send + Sync + 'static,
{
    builder(3).check(move || {
        let mem = Arc::new(make());
        let ringer = mem.clone();
        let ringer = thread::spawn(move || {
            ringer.store(NEWS, 1);
            BELL.ring(&*ringer, 3);
        });
        for _ in 0..2 {
            take(BELL, &*mem, u64::MAX, |_| {
                assert_eq!(mem.load(NEWS), 1, "stale news")
            });
        }
        ringer.join().unwrap();
    });
}

#[test]
fn a_mark_shows_its_news() {
    glance(|| AtomicMem::new(1, 2));
}

#[test]
#[should_panic(expected = "stale news")]
fn without_order_a_mark_shows_stale_news() {
    glance(|| Weak(AtomicMem::new(1, 2), Without::Bell));
}

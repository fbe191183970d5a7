// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Several that wait for one thing by one word. Two for room in one ring, much and
//! little of it, for which there is one event; the reader takes no more than it needs
//! before it has what the second one writes. And two for connections.

use idts_core::event_count;
use idts_core::ring::{Consumer, Lines, Producer};
use idts_core::wire::line;
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use super::common::AtomicMem;
use super::explore;

const RING: u32 = 4;
/// Records of one word.
const LITTLE: u32 = 3;
/// All words: what fills the ring at first, two records of three words, the little ones.
const ALL: u32 = RING + 2 * 3 + LITTLE;
const WRITER: Lines = Lines {
    own: 0,
    peer: line::SIZE,
};
const READER: Lines = Lines {
    own: line::SIZE,
    peer: 0,
};

/// What the models leave out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// An earlier event stays, and who finds room tells the others.
    Others,
    /// Who waits sleeps while the count is what it was, not while the word is armed.
    Count,
}

/// The word, and whoever sleeps by it.
struct Waiters {
    word: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Waiters {
    fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            lock: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    fn seen(&self) -> u32 {
        event_count::epoch(self.word.load(SeqCst))
    }

    /// Arms the word; says whether another had.
    fn arm(&self) -> bool {
        let old = self.word.fetch_or(event_count::arm(0), SeqCst);
        event_count::has_waiters(old)
    }

    /// Tells all.
    fn tell(&self) {
        let told = self
            .word
            .fetch_update(SeqCst, SeqCst, event_count::notified);
        if told.is_ok() {
            let _held = self.lock.lock().unwrap();
            self.changed.notify_all();
        }
    }

    fn sleep(&self, seen: u32, without: Without) {
        let waits = || match without {
            Without::Count => event_count::has_waiters(self.word.load(SeqCst)),
            _ => self.seen() == seen,
        };
        let mut held = self.lock.lock().unwrap();
        while waits() {
            held = self.changed.wait(held).unwrap();
        }
    }
}

struct Link {
    mem: AtomicMem,
    without: Without,
    tx: Mutex<Producer>,
    room: Waiters,
    bytes: Waiters,
    /// The one who wants little is done.
    little_done: AtomicBool,
}

impl Link {
    /// Writes `want` words at once, as a record is written.
    fn write(&self, want: u32) {
        loop {
            let seen = self.room.seen();
            let found = {
                let mut tx = self.tx.lock().unwrap();
                if tx.free(&self.mem, WRITER).unwrap() >= want {
                    if tx.publish(&self.mem, WRITER, want) {
                        self.bytes.tell();
                    }
                    return;
                }
                let others = self.room.arm();
                let kept = others && self.without != Without::Others;
                let found = tx.arm_among(&self.mem, WRITER, want, kept).unwrap();
                if found && kept {
                    self.room.tell();
                }
                found
            };
            if !found {
                self.room.sleep(seen, self.without);
            }
        }
    }

    /// Reads `all` words; of those before the last ones no more than `few`, until
    /// the one who wants little is done.
    fn read(&self, all: u32, few: u32) {
        let mut rx = Consumer::new(RING);
        let mut got = 0;
        while got < all {
            while got >= few && !self.little_done.load(SeqCst) {
                thread::yield_now();
            }
            let seen = self.bytes.seen();
            if rx.available(&self.mem, READER).unwrap() == 0 {
                self.bytes.arm();
                if !rx.arm(&self.mem, READER).unwrap() {
                    self.bytes.sleep(seen, Without::Nothing);
                }
                continue;
            }
            got += 1;
            if rx.release(&self.mem, READER, 1) {
                self.room.tell();
            }
        }
    }
}

fn rooms(without: Without) {
    explore(move || {
        let link = Arc::new(Link {
            mem: AtomicMem::page(),
            without,
            tx: Mutex::new(Producer::new(RING)),
            room: Waiters::new(),
            bytes: Waiters::new(),
            little_done: AtomicBool::new(false),
        });
        link.write(RING);
        let spawn = |run: fn(&Link)| {
            let link = link.clone();
            thread::spawn(move || run(&link))
        };
        let threads = [
            spawn(|link| (0..2).for_each(|_| link.write(3))),
            spawn(|link| {
                (0..LITTLE).for_each(|_| link.write(1));
                link.little_done.store(true, SeqCst);
            }),
            // Room for the little ones, whatever else was written before.
            spawn(|link| link.read(ALL, ALL - RING)),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn all_who_wait_for_room_get_it() {
    rooms(Without::Nothing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_others_one_waits_for_ever() {
    rooms(Without::Others);
}

/// Two that accept, each one connection; both may come before either looks.
fn acceptors(without: Without) {
    explore(move || {
        let link = Arc::new((Waiters::new(), Mutex::new(0)));
        let accept = move |link: Arc<(Waiters, Mutex<u32>)>| {
            let (waiters, queue) = &*link;
            loop {
                let seen = waiters.seen();
                waiters.arm();
                {
                    let mut queue = queue.lock().unwrap();
                    if *queue > 0 {
                        *queue -= 1;
                        return;
                    }
                }
                waiters.sleep(seen, without);
            }
        };
        let threads = [(); 2].map(|()| {
            let link = link.clone();
            thread::spawn(move || accept(link))
        });
        for _ in 0..2 {
            *link.1.lock().unwrap() += 1;
            link.0.tell();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn all_who_accept_are_served() {
    acceptors(Without::Nothing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn by_the_word_alone_one_sleeps_on() {
    acceptors(Without::Count);
}

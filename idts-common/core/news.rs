// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Whether an event was for something: what the event handler judges by.
//!
//! An event that brings nothing costs this side an interrupt and the peer a hypercall,
//! so it is told to Xen as spurious, which slows a storm down. What an event brought is
//! judged channel by channel, from what the handler saw at that channel's last mark: not
//! from who waits for it, for the peer can always find somebody who waits. PROTOCOL.md
//! section 6.4.

use super::wire::line;

/// Words of a peer's line as the handler saw them at a channel's last mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The peer's producer index.
    pub prod: u32,
    /// The peer's consumer index.
    pub cons: u32,
    /// The peer's flags.
    pub flags: u32,
}

/// This side's own indices, read around the peer's: they may move at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Own consumer index, read before the peer's words.
    pub cons_before: u32,
    /// Own consumer index, read after them.
    pub cons: u32,
    /// Own producer index, read after them.
    pub prod: u32,
    /// Size of the ring that this side reads.
    pub rx_size: u32,
}

/// What a mark brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Readers are to look.
    pub data: bool,
    /// Writers are to look.
    pub room: bool,
    /// A flag is new: all are to look.
    pub flags: bool,
    /// For how many events that is reason enough.
    pub worth: u32,
}

impl News {
    /// Nothing at all.
    pub const fn is_none(self) -> bool {
        !self.data && !self.room && !self.flags
    }
}

impl Seen {
    /// Compares with what stands in the peer's line `now`, each word of it read once,
    /// and keeps what may be so.
    ///
    /// What may not be so by section 6.1 is worth nothing, but whoever waits is to look:
    /// it is for him to find the violation.
    pub fn compare(&mut self, now: Seen, own: Own) -> News {
        let flags = now.flags & line::KNOWN & !self.flags;
        // What is there to read is news, too: after 4 GiB without a mark an index is
        // what it was.
        let moved = now.prod != self.prod;
        let (data, room) = (moved || now.prod != own.cons, now.cons != self.cons);
        let mut worth = flags.count_ones();
        self.flags |= flags;
        if moved && self.may_produce(now.prod, own) {
            self.prod = now.prod;
            worth = worth.wrapping_add(1);
        }
        if room && self.may_consume(now.cons, own) {
            self.cons = now.cons;
            worth = worth.wrapping_add(1);
        }
        News {
            data,
            room,
            flags: flags != 0,
            worth,
        }
    }

    /// Whether the peer's prod moved on within what can be: no further than the ring
    /// is long, and not back.
    const fn may_produce(&self, prod: u32, own: Own) -> bool {
        let moved = own.cons.wrapping_sub(own.cons_before);
        let window = own.rx_size.saturating_add(moved);
        let at = prod.wrapping_sub(own.cons_before);
        let was = self.prod.wrapping_sub(own.cons_before);
        // What was seen before may have been taken long ago: then all is new.
        at <= window && (was > window || at > was)
    }

    /// Whether the peer's cons moved on within what was published.
    const fn may_consume(&self, cons: u32, own: Own) -> bool {
        cons.wrapping_sub(self.cons) <= own.prod.wrapping_sub(self.cons)
    }
}

/// What a queue's events may cost: each costs one, each reason for one brings one. Some
/// are kept, for marks that an earlier event took along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse(pub u32);

impl Purse {
    /// What a queue saves up at most, and begins with.
    pub const MOST: u32 = 16;
    /// A new queue's.
    pub const FULL: Self = Self(Self::MOST);

    /// Takes in what an event's marks were worth, and pays for the event. `false`: it
    /// was spurious.
    #[must_use]
    pub fn pay(&mut self, worth: u32) -> bool {
        match self.0.saturating_add(worth).checked_sub(1) {
            None => false,
            Some(left) => {
                self.0 = left.min(Self::MOST);
                true
            }
        }
    }
}

/// Marks of numbers that nobody has, for the 64 numbers of a word: the peer may not know
/// yet that a channel closed here, or has said OPEN and was not heard yet. Three of each
/// number are forgiven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// How many marks of each number came, in binary: low bits, high bits.
    came: (u64, u64),
}

impl Strays {
    /// From its two words.
    pub const fn new(low: u64, high: u64) -> Self {
        Self { came: (low, high) }
    }

    /// Its two words.
    pub const fn words(self) -> (u64, u64) {
        self.came
    }

    /// Marks came: how many of them are forgiven.
    pub fn forgive(&mut self, marks: u64) -> u32 {
        let (low, high) = self.came;
        let counted = marks & !(low & high);
        self.came = (low ^ counted, high ^ (low & counted));
        counted.count_ones()
    }

    /// Numbers begin anew.
    pub fn forget(&mut self, numbers: u64) {
        self.came = (self.came.0 & !numbers, self.came.1 & !numbers);
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Spurious events: whether an event brought anything.
//!
//! An event that brings nothing costs this side an interrupt and the peer a hypercall. The
//! event handler reports it to Xen as spurious (`XEN_EOI_FLAG_SPURIOUS`), which delays the
//! next one and so slows a storm down (XSA-332). The handler classifies an event by what
//! changed in the peer's lines since it last looked, never by whether a task waits: the peer
//! can always arrange that one does. PROTOCOL.md section 6.4.

use super::wire::line;

/// Index words and flags of the peer's line, as the handler read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerIndices {
    /// The peer's producer index.
    pub prod: u32,
    /// The peer's consumer index.
    pub cons: u32,
    /// The peer's flags.
    pub flags: u32,
}

/// This side's own indices, read around the peer's because they may move meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnIndices {
    /// Own consumer index, read before the peer's words.
    pub cons_before: u32,
    /// Own consumer index, read after them.
    pub cons: u32,
    /// Own producer index, read after them.
    pub prod: u32,
    /// Size of the ring that this side reads.
    pub rx_size: u32,
}

/// Changes in the peer's line since the handler last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// There may be data: readers must look.
    pub data: bool,
    /// There may be room: writers must look.
    pub room: bool,
    /// A flag is new: readers and writers must look.
    pub flags: bool,
    /// Number of events that these changes justify.
    pub worth: u32,
}

impl Change {
    /// Whether nothing changed.
    pub const fn is_none(self) -> bool {
        !self.data && !self.room && !self.flags
    }
}

impl PeerIndices {
    /// Compares the last accepted words with those that the peer's line has `now`, each read
    /// once, and accepts what section 6.1 allows.
    ///
    /// An index that section 6.1 forbids justifies no event, but readers and writers must
    /// look all the same: they find the violation.
    pub fn compare(&mut self, now: PeerIndices, own: OwnIndices) -> Change {
        let flags = now.flags & line::KNOWN & !self.flags;
        // Unread data counts as a change: after 4 GiB without a look the index has wrapped to
        // its old value.
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
        Change {
            data,
            room,
            flags: flags != 0,
            worth,
        }
    }

    /// Whether the peer's producer index moved forward, and not past the ring's size.
    const fn may_produce(&self, prod: u32, own: OwnIndices) -> bool {
        let moved = own.cons.wrapping_sub(own.cons_before);
        let window = own.rx_size.saturating_add(moved);
        let at = prod.wrapping_sub(own.cons_before);
        let was = self.prod.wrapping_sub(own.cons_before);
        // This side may have consumed all that was accepted: then all of it is new.
        at <= window && (was > window || at > was)
    }

    /// Whether the peer's consumer index moved forward, and not past what was published.
    const fn may_consume(&self, cons: u32, own: OwnIndices) -> bool {
        cons.wrapping_sub(self.cons) <= own.prod.wrapping_sub(self.cons)
    }
}

/// The events that a queue's peer may still send: each change adds to them, each event takes
/// one. Some credit is kept, because one handler run may consume the marks of several events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCredit(pub u32);

impl EventCredit {
    /// Largest credit, and that of a new queue.
    pub const MAX: u32 = 16;
    /// The credit of a new queue.
    pub const FULL: Self = Self(Self::MAX);

    /// Adds what an event's changes are worth, and takes one for the event. `false`: there was
    /// no credit, the event was spurious.
    #[must_use]
    pub fn pay(&mut self, worth: u32) -> bool {
        match self.0.saturating_add(worth).checked_sub(1) {
            None => false,
            Some(left) => {
                self.0 = left.min(Self::MAX);
                true
            }
        }
    }
}

/// Doorbell marks of unused channel numbers, for the 64 numbers of a word. The peer may not
/// know yet that a channel is closed here, or its OPEN may still be under way: three marks of
/// each number are forgiven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrayMarks {
    /// Marks of each number, in binary: low bits, high bits.
    came: (u64, u64),
}

impl StrayMarks {
    /// The counts in their two words.
    pub const fn new(low: u64, high: u64) -> Self {
        Self { came: (low, high) }
    }

    /// The two words.
    pub const fn words(self) -> (u64, u64) {
        self.came
    }

    /// Counts marks, a bit for each number. How many of them are forgiven.
    pub fn forgive(&mut self, marks: u64) -> u32 {
        let (low, high) = self.came;
        let counted = marks & !(low & high);
        self.came = (low ^ counted, high ^ (low & counted));
        counted.count_ones()
    }

    /// Resets the counts of `numbers`, a bit for each.
    pub fn forget(&mut self, numbers: u64) {
        self.came = (self.came.0 & !numbers, self.came.1 & !numbers);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the event handler knows of a pair of lines: of a channel's, or of the control
//! ring's. What it makes of that is `idts_core::spurious`'s.

use idts_core::mem::SharedMem;
use idts_core::ring::Lines;
use idts_core::spurious::{Change, OwnIndices, PeerIndices};
use idts_core::wire::line;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed};

/// A pair of lines, as the handler sees it.
pub(crate) struct Watch {
    lines: Lines,
    /// Size of the ring that this side reads.
    rx_size: u32,
    /// This side's own indices, never behind what the peer was told: the ones in the
    /// line are the peer's to spoil, and the rings' are behind locks.
    cons: Atomic<u32>,
    prod: Atomic<u32>,
    /// What the handler saw last. It alone writes it, and for one pair of lines one
    /// handler alone runs at a time.
    seen_prod: Atomic<u32>,
    seen_cons: Atomic<u32>,
    seen_flags: Atomic<u32>,
}

impl Watch {
    /// Of fresh lines.
    pub(crate) const fn new(lines: Lines, rx_size: u32) -> Self {
        Self {
            lines,
            rx_size,
            cons: Atomic::new(0),
            prod: Atomic::new(0),
            seen_prod: Atomic::new(0),
            seen_cons: Atomic::new(0),
            seen_flags: Atomic::new(0),
        }
    }

    /// This side is about to publish up to `prod`.
    #[inline]
    pub(crate) fn publishes(&self, prod: u32) {
        self.prod.store(prod, Relaxed);
    }

    /// This side is about to give back up to `cons`.
    #[inline]
    pub(crate) fn releases(&self, cons: u32) {
        self.cons.store(cons, Relaxed);
    }

    /// Whether the peer published what this side has not taken.
    pub(crate) fn has_unread<M: SharedMem>(&self, words: &M) -> bool {
        words.load(self.lines.peer.wrapping_add(line::PROD)) != self.cons.load(Relaxed)
    }

    /// Whether a ring of `size` bytes that this side writes has `want` bytes of room. An
    /// index that cannot be so counts as room: the writer finds the violation.
    pub(crate) fn has_room<M: SharedMem>(&self, words: &M, size: u32, want: u32) -> bool {
        let cons = words.load(self.lines.peer.wrapping_add(line::CONS));
        let used = self.prod.load(Relaxed).wrapping_sub(cons);
        used > size || size.wrapping_sub(used) >= want
    }

    /// What is new in the peer's line. By the handler alone.
    pub(crate) fn compare<M: SharedMem>(&self, words: &M) -> Change {
        let peer = |field| words.load_acquire(self.lines.peer.wrapping_add(field));
        let cons_before = self.cons.load(Acquire);
        let now = PeerIndices {
            prod: peer(line::PROD),
            cons: peer(line::CONS),
            flags: peer(line::FLAGS),
        };
        let own = OwnIndices {
            cons_before,
            cons: self.cons.load(Acquire),
            prod: self.prod.load(Acquire),
            rx_size: self.rx_size,
        };
        let mut seen = PeerIndices {
            prod: self.seen_prod.load(Relaxed),
            cons: self.seen_cons.load(Relaxed),
            flags: self.seen_flags.load(Relaxed),
        };
        let news = seen.compare(now, own);
        self.seen_prod.store(seen.prod, Relaxed);
        self.seen_cons.store(seen.cons, Relaxed);
        self.seen_flags.store(seen.flags, Relaxed);
        news
    }
}

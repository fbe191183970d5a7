// SPDX-License-Identifier: GPL-2.0

//! A watch on a pair of index blocks, of a channel or of the control ring: the words that the
//! event handler saw last. `idts_core::spurious` judges the changes.

use idts_core::mem::SharedMem;
use idts_core::ring::Lines;
use idts_core::spurious::{Change, OwnIndices, PeerIndices};
use idts_core::wire::line;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed};

/// The words of a pair of lines that the handler compares with.
pub(crate) struct Watch {
    lines: Lines,
    /// Size of the ring that this side reads.
    rx_size: u32,
    /// This side's own indices, never behind what the peer was told. Private copies, because the
    /// peer can overwrite the words in the line, and those of the rings are behind locks.
    cons: Atomic<u32>,
    prod: Atomic<u32>,
    /// The peer's words that the handler saw last. It alone writes them, and a pair of lines has
    /// one handler, which does not run in parallel with itself.
    seen_prod: Atomic<u32>,
    seen_cons: Atomic<u32>,
    seen_flags: Atomic<u32>,
}

impl Watch {
    /// Creates a watch on zeroed lines.
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

    /// Notes that this side is about to publish up to `prod`.
    #[inline]
    pub(crate) fn publishes(&self, prod: u32) {
        self.prod.store(prod, Relaxed);
    }

    /// Notes that this side is about to release up to `cons`.
    #[inline]
    pub(crate) fn releases(&self, cons: u32) {
        self.cons.store(cons, Relaxed);
    }

    /// Returns whether the peer published data that this side has not consumed.
    pub(crate) fn has_unread<M: SharedMem>(&self, words: &M) -> bool {
        words.load(self.lines.peer.wrapping_add(line::PROD)) != self.cons.load(Relaxed)
    }

    /// Returns whether a ring of `size` bytes that this side writes has `want` bytes of room. An
    /// invalid index counts as room: the writer finds the violation.
    pub(crate) fn has_room<M: SharedMem>(&self, words: &M, size: u32, want: u32) -> bool {
        let cons = words.load(self.lines.peer.wrapping_add(line::CONS));
        let used = self.prod.load(Relaxed).wrapping_sub(cons);
        used > size || size.wrapping_sub(used) >= want
    }

    /// Compares the peer's line with the words seen last, and accepts the new ones. Called by
    /// the handler alone.
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

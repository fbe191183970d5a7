// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The byte ring of a channel: indices, hold-off of events, end of stream.
//!
//! Owns the arithmetic of [`Producer`] and [`Consumer`]. They never touch data:
//! they say which span of the ring to copy to or from, and whether the peer is
//! to be notified. Called by `idts_kernel`'s channel and by tests. Waiting,
//! copying and sending events are left to the caller. PROTOCOL.md section 6.

use super::error::Violation;
use super::index::{passes, Untrusted};
use super::mem::SharedMem;
use super::wire::line;

/// Where the index words of a channel lie in shared memory.
///
/// `own` is the line that this side alone writes, `peer` the other one. The
/// layout of a line is in [`line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Byte offset of the line that this side writes.
    pub own: u32,
    /// Byte offset of the line that the peer writes.
    pub peer: u32,
}

impl Lines {
    const fn own(self, field: u32) -> u32 {
        self.own.wrapping_add(field)
    }

    const fn peer(self, field: u32) -> u32 {
        self.peer.wrapping_add(field)
    }
}

/// A contiguous part of a ring, in bytes from the ring's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub at: u32,
    /// Number of bytes, 0 for an empty span.
    pub len: u32,
}

/// The span that starts at index `from` and holds at most `bytes`, cut at the
/// ring's end. `size` is a power of two.
const fn span(from: u32, bytes: u32, size: u32) -> Span {
    let at = from & size.wrapping_sub(1);
    let room = size.wrapping_sub(at);
    Span {
        at,
        len: if bytes < room { bytes } else { room },
    }
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Producer {
    size: u32,
    prod: u32,
    /// The peer's consumer index as last read and accepted.
    cons: u32,
    /// The index of the last event asked for.
    event: u32,
}

impl Producer {
    /// The writing end of an empty ring of `size` bytes, a power of two.
    pub const fn new(size: u32) -> Self {
        Self::starting_at(size, 0)
    }

    /// As [`Self::new`], with both indices at `index`.
    pub const fn starting_at(size: u32, index: u32) -> Self {
        Self {
            size,
            prod: index,
            cons: index,
            event: index,
        }
    }

    /// The ring's size in bytes.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The index up to which bytes are published.
    pub const fn published(&self) -> u32 {
        self.prod
    }

    /// Bytes published and not yet consumed, as last seen.
    const fn fill(&self) -> u32 {
        self.prod.wrapping_sub(self.cons)
    }

    /// Bytes free, as last seen.
    pub const fn free_seen(&self) -> u32 {
        self.size.wrapping_sub(self.fill())
    }

    /// Bytes free now.
    pub fn free<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<u32, Violation> {
        // ORDER release: pairs with Consumer::release; bytes that the peer
        // consumed are overwritten only after this.
        let cons = Untrusted::new(mem.load_acquire(lines.peer(line::CONS)));
        self.cons = cons.as_consumer(self.cons, self.prod)?;
        Ok(self.free_seen())
    }

    /// Where the next bytes go: at most `want`, within what is free as last
    /// seen, up to the ring's end.
    pub const fn next(&self, want: u32) -> Span {
        let free = self.free_seen();
        span(self.prod, if want < free { want } else { free }, self.size)
    }

    /// As [`Self::next`], but `skip` bytes further on: for what is published
    /// together with the bytes before it.
    pub const fn next_after(&self, skip: u32, want: u32) -> Span {
        let free = self.free_seen().saturating_sub(skip);
        span(
            self.prod.wrapping_add(skip),
            if want < free { want } else { free },
            self.size,
        )
    }

    /// Makes `bytes` written at [`Self::next`] visible to the peer; says
    /// whether to notify it.
    ///
    /// More than what is free is cut: the peer never sees an index that the
    /// protocol forbids.
    #[must_use = "the peer sleeps until it is notified"]
    pub fn publish<M: SharedMem>(&mut self, mem: &M, lines: Lines, bytes: u32) -> bool {
        let free = self.free_seen();
        let old = self.prod;
        self.prod = old.wrapping_add(if bytes < free { bytes } else { free });
        // ORDER publish: pairs with Consumer::available.
        mem.store_release(lines.own(line::PROD), self.prod);
        // ORDER hold-off: pairs with Consumer::arm. Either we see its event, or
        // it sees our index.
        mem.fence();
        passes(old, self.prod, mem.load(lines.peer(line::PROD_EVENT)))
    }

    /// Asks to be notified once at least `want` bytes are free, and says
    /// whether they are free already. `want` is cut to the ring's size.
    pub fn arm<M: SharedMem>(
        &mut self,
        mem: &M,
        lines: Lines,
        want: u32,
    ) -> Result<bool, Violation> {
        self.arm_among(mem, lines, want, false)
    }

    /// As [`Self::arm`], where others may wait too, who asked before and were not
    /// told yet: an event that comes before ours stays, for there is one for all.
    /// Whoever is told by it asks anew. Where there is room, ours may have taken
    /// the place of one that was to come: then the others are to be told.
    pub fn arm_among<M: SharedMem>(
        &mut self,
        mem: &M,
        lines: Lines,
        want: u32,
        others: bool,
    ) -> Result<bool, Violation> {
        let want = if want == 0 { 1 } else { want.min(self.size) };
        let event = self.prod.wrapping_add(want).wrapping_sub(self.size);
        let ahead = |event: u32| event.wrapping_sub(self.cons).wrapping_sub(1);
        if !others || ahead(event) < ahead(self.event) {
            self.event = event;
        }
        mem.store(lines.own(line::CONS_EVENT), self.event);
        // ORDER hold-off: pairs with Consumer::release.
        mem.fence();
        Ok(self.free(mem, lines)? >= want)
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct Consumer {
    size: u32,
    cons: u32,
    /// The peer's producer index as last read and accepted.
    prod: u32,
}

impl Consumer {
    /// The reading end of an empty ring of `size` bytes, a power of two.
    pub const fn new(size: u32) -> Self {
        Self::starting_at(size, 0)
    }

    /// As [`Self::new`], with both indices at `index`.
    pub const fn starting_at(size: u32, index: u32) -> Self {
        Self {
            size,
            cons: index,
            prod: index,
        }
    }

    /// The ring's size in bytes.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The index up to which bytes are given back.
    pub const fn released(&self) -> u32 {
        self.cons
    }

    /// Bytes to read, as last seen.
    pub const fn available_seen(&self) -> u32 {
        self.prod.wrapping_sub(self.cons)
    }

    /// Bytes to read now.
    pub fn available<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<u32, Violation> {
        // ORDER publish: pairs with Producer::publish; the bytes are there.
        let prod = Untrusted::new(mem.load_acquire(lines.peer(line::PROD)));
        self.prod = prod.as_producer(self.prod, self.cons, self.size)?;
        Ok(self.available_seen())
    }

    /// Where the next bytes are: at most `want`, within what is available as
    /// last seen, up to the ring's end.
    pub const fn next(&self, want: u32) -> Span {
        let there = self.available_seen();
        span(
            self.cons,
            if want < there { want } else { there },
            self.size,
        )
    }

    /// As [`Self::next`], but `skip` bytes further on.
    pub const fn next_after(&self, skip: u32, want: u32) -> Span {
        let there = self.available_seen().saturating_sub(skip);
        span(
            self.cons.wrapping_add(skip),
            if want < there { want } else { there },
            self.size,
        )
    }

    /// Gives `bytes` read at [`Self::next`] back to the writer; says whether to
    /// notify it.
    #[must_use = "the peer sleeps until it is notified"]
    pub fn release<M: SharedMem>(&mut self, mem: &M, lines: Lines, bytes: u32) -> bool {
        let there = self.available_seen();
        let old = self.cons;
        self.cons = old.wrapping_add(if bytes < there { bytes } else { there });
        // ORDER release: pairs with Producer::free.
        mem.store_release(lines.own(line::CONS), self.cons);
        // ORDER hold-off: pairs with Producer::arm.
        mem.fence();
        passes(old, self.cons, mem.load(lines.peer(line::CONS_EVENT)))
    }

    /// Asks to be notified of the next byte, and says whether one is there
    /// already.
    pub fn arm<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<bool, Violation> {
        mem.store(lines.own(line::PROD_EVENT), self.cons.wrapping_add(1));
        // ORDER hold-off: pairs with Producer::publish.
        mem.fence();
        Ok(self.available(mem, lines)? > 0)
    }
}

/// Adds [`line`] flags to this side's line. The caller then notifies the peer.
///
/// `flags` is the whole private copy: what is in shared memory is never read
/// back.
pub fn set_flags<M: SharedMem>(mem: &M, lines: Lines, flags: u32) {
    // ORDER end: pairs with peer_flags; all that was published comes before.
    mem.store_release(lines.own(line::FLAGS), flags);
}

/// Writes how many records this side did not deliver, for its reader to see.
pub fn note_lag<M: SharedMem>(mem: &M, lines: Lines, lag: u32) {
    mem.store(lines.own(line::LAG), lag);
}

/// How many records the peer says that it did not deliver. It only informs.
pub fn peer_lag<M: SharedMem>(mem: &M, lines: Lines) -> u32 {
    mem.load(lines.peer(line::LAG))
}

/// The flags of the peer's line. Read them before [`Consumer::available`]: an
/// empty ring after [`line::FIN`] was seen is the end of the stream.
pub fn peer_flags<M: SharedMem>(mem: &M, lines: Lines) -> u32 {
    // ORDER end: pairs with set_flags.
    mem.load_acquire(lines.peer(line::FLAGS)) & line::KNOWN
}

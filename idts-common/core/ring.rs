// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Byte ring of a channel: indices, hold-off of events, end of stream.
//!
//! [`Producer`] and [`Consumer`] own the arithmetic and never touch data: they yield the span
//! of the ring to copy to or from, and whether the peer must be notified. The kernel crate's
//! channel and the control ring call them; waiting, copying and sending events are the
//! caller's. Each `ORDER` comment names the barrier that it pairs with. PROTOCOL.md sections
//! 6.1 to 6.3.

use super::error::Violation;
use super::index::{passes, Untrusted};
use super::mem::SharedMem;
use super::wire::line;

/// Position of a pair of lines in shared memory, as one side sees it. The layout of a line is
/// [`mod@line`]'s.
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

/// The span from index `from` on of at most `bytes`, cut at the ring's end. `size` is a power
/// of two.
const fn span(from: u32, bytes: u32, size: u32) -> Span {
    let at = from & size.wrapping_sub(1);
    let room = size.wrapping_sub(at);
    Span {
        at,
        len: if bytes < room { bytes } else { room },
    }
}

/// The writing end of a ring.
///
/// # Invariants
/// `size` is a power of two, and `prod - cons` (modulo 2^32) at most `size`. Both indices are
/// private: what stands in shared memory is published, and never read back.
#[derive(Debug)]
pub struct Producer {
    size: u32,
    prod: u32,
    /// The peer's consumer index as last read and checked.
    cons: u32,
    /// The consumer index at which an event was last asked for.
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

    /// The producer index: bytes published since the ring was made, modulo 2^32.
    pub const fn published(&self) -> u32 {
        self.prod
    }

    /// Bytes published and not yet consumed, by the consumer index last read.
    const fn fill(&self) -> u32 {
        self.prod.wrapping_sub(self.cons)
    }

    /// Bytes free, by the consumer index last read. There may be more; see [`Self::free`].
    pub const fn free_seen(&self) -> u32 {
        self.size.wrapping_sub(self.fill())
    }

    /// Reads the peer's consumer index. Bytes free now.
    ///
    /// # Errors
    /// [`Violation::ConsumerIndex`]: the peer's index passed ours, or went back.
    pub fn free<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<u32, Violation> {
        // ORDER release: pairs with Consumer::release, so that the peer has read the bytes
        // before this side overwrites them.
        let cons = Untrusted::new(mem.load_acquire(lines.peer(line::CONS)));
        self.cons = cons.as_consumer(self.cons, self.prod)?;
        Ok(self.free_seen())
    }

    /// The span for the next bytes: at most `want`, within [`Self::free_seen`], cut at the
    /// ring's end.
    pub const fn next(&self, want: u32) -> Span {
        let free = self.free_seen();
        span(self.prod, if want < free { want } else { free }, self.size)
    }

    /// As [`Self::next`], but `skip` bytes further on, so that several spans can be published at
    /// once.
    pub const fn next_after(&self, skip: u32, want: u32) -> Span {
        let free = self.free_seen().saturating_sub(skip);
        span(
            self.prod.wrapping_add(skip),
            if want < free { want } else { free },
            self.size,
        )
    }

    /// Publishes `bytes` that were written at [`Self::next`]. Whether the peer must be notified.
    ///
    /// More bytes than are free are cut, so that the peer never reads an index that the
    /// protocol forbids.
    #[must_use = "the peer sleeps until it is notified"]
    pub fn publish<M: SharedMem>(&mut self, mem: &M, lines: Lines, bytes: u32) -> bool {
        let free = self.free_seen();
        let old = self.prod;
        self.prod = old.wrapping_add(if bytes < free { bytes } else { free });
        // ORDER publish: pairs with Consumer::available.
        mem.store_release(lines.own(line::PROD), self.prod);
        // ORDER hold-off: pairs with Consumer::arm. Either this side reads its event index, or
        // the consumer reads this producer index.
        mem.fence();
        passes(old, self.prod, mem.load(lines.peer(line::PROD_EVENT)))
    }

    /// Asks the peer for an event once at least `want` bytes are free, cut to the ring's size.
    /// Whether they are free already.
    ///
    /// # Errors
    /// As [`Self::free`].
    pub fn arm<M: SharedMem>(
        &mut self,
        mem: &M,
        lines: Lines,
        want: u32,
    ) -> Result<bool, Violation> {
        self.arm_among(mem, lines, want, false)
    }

    /// As [`Self::arm`], if several tasks may wait for room; `others`: another one has asked and
    /// was not woken yet. There is one event index for all, so an earlier event stays; its wake-up
    /// makes every waiter ask again. If there is room already, the caller must wake the others:
    /// this call may have replaced the event that they wait for.
    ///
    /// # Errors
    /// As [`Self::free`].
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
///
/// # Invariants
/// `size` is a power of two, and `prod - cons` (modulo 2^32) at most `size`.
#[derive(Debug)]
pub struct Consumer {
    size: u32,
    cons: u32,
    /// The peer's producer index as last read and checked.
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

    /// The consumer index: bytes released since the ring was made, modulo 2^32.
    pub const fn released(&self) -> u32 {
        self.cons
    }

    /// Bytes to read, by the producer index last read. There may be more; see
    /// [`Self::available`].
    pub const fn available_seen(&self) -> u32 {
        self.prod.wrapping_sub(self.cons)
    }

    /// Reads the peer's producer index. Bytes to read now.
    ///
    /// # Errors
    /// [`Violation::ProducerIndex`]: the peer's index is more than the ring's size ahead, or went
    /// back.
    pub fn available<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<u32, Violation> {
        // ORDER publish: pairs with Producer::publish, so that the bytes are read as they were
        // written.
        let prod = Untrusted::new(mem.load_acquire(lines.peer(line::PROD)));
        self.prod = prod.as_producer(self.prod, self.cons, self.size)?;
        Ok(self.available_seen())
    }

    /// The span of the next bytes: at most `want`, within [`Self::available_seen`], cut at the
    /// ring's end.
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

    /// Gives `bytes` that were read at [`Self::next`] back to the writer. Whether it must be
    /// notified. More bytes than were available are cut.
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

    /// Asks the peer for an event at the next byte. Whether there is one already.
    ///
    /// # Errors
    /// As [`Self::available`].
    pub fn arm<M: SharedMem>(&mut self, mem: &M, lines: Lines) -> Result<bool, Violation> {
        mem.store(lines.own(line::PROD_EVENT), self.cons.wrapping_add(1));
        // ORDER hold-off: pairs with Producer::publish.
        mem.fence();
        Ok(self.available(mem, lines)? > 0)
    }
}

/// Writes the flags of this side ([`mod@line`]): all of them, from the private copy, because
/// shared memory is never read back. The caller notifies the peer afterwards.
pub fn set_flags<M: SharedMem>(mem: &M, lines: Lines, flags: u32) {
    // ORDER end: pairs with peer_flags, so that the peer has all bytes once it reads FIN.
    mem.store_release(lines.own(line::FLAGS), flags);
}

/// Writes the number of records that this side, as a group's writer, did not deliver. It only
/// informs the reader. PROTOCOL.md section 8.3.
pub fn set_lag<M: SharedMem>(mem: &M, lines: Lines, lag: u32) {
    mem.store(lines.own(line::LAG), lag);
}

/// The number of records that the peer claims it did not deliver. Any value is allowed.
pub fn peer_lag<M: SharedMem>(mem: &M, lines: Lines) -> u32 {
    mem.load(lines.peer(line::LAG))
}

/// The known flags of the peer's line. They are to be read before [`Consumer::available`]: the
/// stream ends when the ring is empty *after* [`line::FIN`] was read.
pub fn peer_flags<M: SharedMem>(mem: &M, lines: Lines) -> u32 {
    // ORDER end: pairs with set_flags.
    mem.load_acquire(lines.peer(line::FLAGS)) & line::KNOWN
}

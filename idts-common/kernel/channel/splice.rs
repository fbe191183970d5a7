// SPDX-License-Identifier: GPL-2.0

//! Moving data from one channel into others, from ring to ring without a buffer in between.
//!
//! [`splice`] serves a relay: from one channel into another. A [`Reading`] serves a group: one
//! record into several channels. This file moves the data; the caller decides when, and how
//! much.

use idts_core::group::{Delivery, Room};
use idts_core::record::{framed, HEADER};
use idts_core::ring::{set_lag, Consumer, Producer};
use idts_core::wire::Kind;
use kernel::sync::lock::mutex::MutexGuard;

use super::channel::{Channel, Rx, Stop, Tx};
use crate::mem::revocable::AccessGuard;
use crate::mem::shared;

/// The reason why no more was moved.
pub enum Stall {
    /// The source is empty and not armed: the caller busy-polls it.
    Dry,
    /// One of the two ends cannot go on.
    Stop(Stop),
}

impl From<Stop> for Stall {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Moves up to `budget` bytes, but whole records, and notifies both peers.
///
/// Returns the bytes that were moved, and the reason why not more; `None` if the budget is used
/// up. With `looks` the caller busy-polls an empty source, so it is not armed.
pub fn splice(source: &Channel, sink: &Channel, budget: u32, looks: bool) -> (u32, Option<Stall>) {
    let mut rx = source.rx.lock();
    let mut tx = sink.tx.lock();
    let entered = source
        .enter_to_read()
        .and_then(|live| Ok((live, sink.enter_to_write()?)));
    let (live, live_sink) = match entered {
        Ok(both) => both,
        Err(stop) => return (0, Some(stop.into())),
    };
    let mut splice = Splice {
        source,
        sink,
        live: &live,
        live_sink: &live_sink,
        looks,
        data: false,
        room: false,
    };
    let mut done = 0u32;
    let stall = loop {
        if done >= budget {
            break None;
        }
        match splice.once(&mut rx, &mut tx, budget.wrapping_sub(done)) {
            Ok(n) => done = done.wrapping_add(n),
            Err(stall) => break Some(stall),
        }
    };
    sink.notify(&live_sink, splice.data);
    source.notify(&live, splice.room);
    rx.bytes = rx.bytes.wrapping_add(done.into());
    tx.bytes = tx.bytes.wrapping_add(done.into());
    source.link.stats.relayed_in.add(done.into());
    sink.link.stats.relayed_out.add(done.into());
    (done, stall)
}

/// One run of [`splice`].
struct Splice<'a> {
    source: &'a Channel,
    sink: &'a Channel,
    live: &'a AccessGuard,
    live_sink: &'a AccessGuard,
    looks: bool,
    /// The sink's reader is to be notified.
    data: bool,
    /// The source's writer is to be notified.
    room: bool,
}

impl Splice<'_> {
    /// Moves the available data that fits, at most `want` bytes but at least a record. 0: the
    /// caller tries again.
    fn once(&mut self, rx: &mut Rx, tx: &mut Tx, want: u32) -> Result<u32, Stall> {
        let words = self.source.memory.lines.words(self.live);
        let words_sink = self.sink.memory.lines.words(self.live_sink);
        if !self
            .source
            .refill_to_splice(&mut rx.ring, self.live, self.looks)?
        {
            return Ok(0);
        }
        let (need, least, header) = match self.source.kind {
            Kind::Stream => (rx.ring.available_seen().min(want), 1, None),
            _ => {
                let len = self.source.next_record(&rx.ring, self.live)?;
                let frame = framed(len).unwrap_or(len);
                if frame > tx.ring.size() {
                    return Err(Stop::TooLong.into());
                }
                (frame, frame, Some(len))
            }
        };
        if tx.ring.free_seen() < need {
            let free = tx.ring.free(&words_sink, self.sink.lines);
            if free.map_err(|v| self.sink.broken(v))? < least {
                self.sink.waiter.write.arm();
                let low = least.max(tx.ring.size() / 2).min(tx.ring.size());
                let room = tx.ring.arm(&words_sink, self.sink.lines, low);
                if !room.map_err(|v| self.sink.broken(v))? {
                    return Err(Stop::Blocked.into());
                }
                return Ok(0);
            }
        }
        let bytes = need.min(tx.ring.free_seen());
        let (from, to) = (
            (self.source, &rx.ring, self.live),
            (self.sink, &tx.ring, self.live_sink),
        );
        match header {
            None => copy_bytes(from, to, 0, bytes),
            Some(len) => copy_record(from, to, len),
        }
        self.data |= self.sink.publish(&mut tx.ring, &words_sink, bytes);
        self.room |= self.source.release(&mut rx.ring, &words, bytes);
        Ok(bytes)
    }
}

/// The locked reading end of a channel whose records go to several others.
pub struct Reading<'a> {
    source: &'a Channel,
    rx: MutexGuard<'a, Rx>,
}

impl Channel {
    /// Locks the reading end, to deliver its records to several channels.
    pub fn read_for_many(&self) -> Reading<'_> {
        Reading {
            source: self,
            rx: self.rx.lock(),
        }
    }

    /// Makes sure that there is data to read. Returns false if the caller is to try again.
    fn refill_to_splice(
        &self,
        ring: &mut Consumer,
        live: &AccessGuard,
        looks: bool,
    ) -> Result<bool, Stall> {
        match self.refill(ring, live) {
            Ok(()) => return Ok(true),
            Err(Stop::Blocked) => {}
            Err(stop) => return Err(stop.into()),
        }
        if looks {
            return Err(Stall::Dry);
        }
        self.waiter.read.arm();
        let there = ring.arm(&self.memory.lines.words(live), self.lines);
        if !there.map_err(|v| self.broken(v))? {
            // The stream may have ended before the arming.
            self.refill(ring, live)?;
        }
        Ok(false)
    }

    /// Returns the room for a record that takes `frame` bytes in the ring.
    ///
    /// # Errors
    /// The reason why this end takes no more records.
    pub fn room(&self, frame: u32) -> Result<Room, Stop> {
        let mut tx = self.tx.lock();
        let live = self.enter_to_write()?;
        self.room_in(&mut tx, &live, frame)
    }

    fn room_in(&self, tx: &mut Tx, live: &AccessGuard, frame: u32) -> Result<Room, Stop> {
        if tx.ring.free_seen() >= frame {
            return Ok(Room::Enough);
        }
        let words = self.memory.lines.words(live);
        let free = tx.ring.free(&words, self.lines);
        let free = free.map_err(|v| self.broken(v))?;
        Ok(Room::of(frame, free, tx.ring.size()))
    }

    /// Arms the waiter for room for a record that takes `frame` bytes, and for at least half of
    /// the ring, so that not every record causes an event. Returns true if there is room now.
    ///
    /// # Errors
    /// The reason why this end takes no more records.
    pub fn arm_room(&self, frame: u32) -> Result<bool, Stop> {
        let mut tx = self.tx.lock();
        let live = self.enter_to_write()?;
        self.waiter.write.arm();
        let low = frame.max(tx.ring.size() / 2);
        let words = self.memory.lines.words(&live);
        tx.ring
            .arm(&words, self.lines, low)
            .map_err(|v| self.broken(v))
    }
}

impl Reading<'_> {
    /// Returns the length of the next record; `None`: the caller tries again. `looks` as in
    /// [`splice`].
    ///
    /// # Errors
    /// There is no record, now or for good.
    pub fn next(&mut self, looks: bool) -> Result<Option<u32>, Stall> {
        let live = self.source.enter_to_read()?;
        if !self
            .source
            .refill_to_splice(&mut self.rx.ring, &live, looks)?
        {
            return Ok(None);
        }
        Ok(Some(self.source.next_record(&self.rx.ring, &live)?))
    }

    /// Copies the next record, of `len` bytes, to `sink`, or does what `decide` chooses for the
    /// room in it.
    ///
    /// Returns what was done, and true if the sink's peer is to be notified
    /// ([`Channel::tell_peer`]). `None`: the sink takes no more records.
    ///
    /// # Errors
    /// The source cannot be read any more.
    pub fn deliver(
        &self,
        sink: &Channel,
        len: u32,
        decide: impl FnOnce(Room) -> Delivery,
    ) -> Result<Option<(Delivery, bool)>, Stop> {
        let mut tx = sink.tx.lock();
        let live = self.source.enter_to_read()?;
        let Ok(live_sink) = sink.enter_to_write() else {
            return Ok(None);
        };
        let frame = framed(len).unwrap_or(len);
        let Ok(room) = sink.room_in(&mut tx, &live_sink, frame) else {
            return Ok(None);
        };
        let words = sink.memory.lines.words(&live_sink);
        let delivery = decide(room);
        let mut tell = false;
        match delivery {
            Delivery::Copy => {
                let from = (self.source, &self.rx.ring, &live);
                copy_record(from, (sink, &tx.ring, &live_sink), len);
                tell = sink.publish(&mut tx.ring, &words, frame);
                tx.bytes = tx.bytes.wrapping_add(len.into());
                sink.link.stats.relayed_out.add(frame.into());
            }
            Delivery::Lag(lag) => set_lag(&words, sink.lines, lag),
            Delivery::Disconnect => {
                drop(live);
                drop(live_sink);
                drop(tx);
                sink.reset();
            }
            Delivery::Nothing => {}
        }
        Ok(Some((delivery, tell)))
    }

    /// Releases the next record, of `len` bytes, to its writer.
    ///
    /// # Errors
    /// The source cannot be read any more.
    pub fn release(&mut self, len: u32) -> Result<(), Stop> {
        let (source, rx) = (self.source, &mut *self.rx);
        let live = source.enter_to_read()?;
        let words = source.memory.lines.words(&live);
        let frame = framed(len).unwrap_or(len);
        let notify = source.release(&mut rx.ring, &words, frame);
        rx.bytes = rx.bytes.wrapping_add(len.into());
        source.notify(&live, notify);
        source.link.stats.relayed_in.add(frame.into());
        Ok(())
    }
}

/// A channel to read from, its ring, and the guard that keeps its memory mapped.
type Source<'a> = (&'a Channel, &'a Consumer, &'a AccessGuard);
/// A channel to write to, its ring, and the guard that keeps its memory mapped.
type Sink<'a> = (&'a Channel, &'a Producer, &'a AccessGuard);

/// Copies from ring to ring, the bytes from `skip` to `end` after the heads of both.
fn copy_bytes(
    (source, rx, live): Source<'_>,
    (sink, tx, live_sink): Sink<'_>,
    skip: u32,
    end: u32,
) {
    let mut done = skip;
    while done < end {
        let rest = end.wrapping_sub(done);
        let n = shared::copy_between(
            (&source.memory.rx, live, rx.next_after(done, rest)),
            (&sink.memory.tx, live_sink, tx.next_after(done, rest)),
        );
        if n == 0 {
            return;
        }
        done = done.wrapping_add(n);
    }
}

/// Copies a record of `len` bytes from ring to ring. The header is written from the checked
/// length, because the peer could change it between two reads.
fn copy_record(from: Source<'_>, to: Sink<'_>, len: u32) {
    let (sink, tx, live) = to;
    sink.memory.tx.write_word(live, tx.next(HEADER).at, len);
    copy_bytes(from, to, HEADER, HEADER.wrapping_add(len));
}

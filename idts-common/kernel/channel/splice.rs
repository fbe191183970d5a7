// SPDX-License-Identifier: GPL-2.0

//! Moving data from one channel into others, ring to ring, without a copy between.
//!
//! [`splice`] serves a relay: one channel into one other. A [`Reading`] serves a group: a
//! record into several. Both say *how*; the caller decides *when*, and for how long.

use idts_core::group::{Delivery, Room};
use idts_core::record::{framed, HEADER};
use idts_core::ring::{set_lag, Consumer, Producer};
use idts_core::wire::Kind;
use kernel::sync::lock::mutex::MutexGuard;

use super::channel::{Channel, Rx, Stop, Tx};
use crate::mem::revocable::AccessGuard;
use crate::mem::shared;

/// Why nothing more was moved.
pub enum Stall {
    /// The source has nothing, and was not armed: look again.
    Dry,
    /// One of the two ends says why.
    Stop(Stop),
}

impl From<Stop> for Stall {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Moves up to `budget` bytes, but of records whole ones, and notifies both peers. Returns
/// the bytes that it moved, and why not more; `None`: the budget is used up.
///
/// `looks`: the caller looks again at a source that runs dry, so it is not armed.
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
    /// Moves what is there and fits, at most `want` bytes but at least a record. 0: look
    /// again.
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

/// The end of a channel that several others get records from. While it is held, nobody
/// else reads there.
pub struct Reading<'a> {
    source: &'a Channel,
    rx: MutexGuard<'a, Rx>,
}

impl Channel {
    /// Begins to read records for several others.
    pub fn read_for_many(&self) -> Reading<'_> {
        Reading {
            source: self,
            rx: self.rx.lock(),
        }
    }

    /// Makes sure that there is something to read; `false`: look again.
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
            // The end may have come before the arming.
            self.refill(ring, live)?;
        }
        Ok(false)
    }

    /// The room for a record that takes `frame` bytes in the ring.
    ///
    /// # Errors
    /// Why this end takes no record any more.
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

    /// Has the waiter told of room for a record that takes `frame` bytes, but not for each
    /// record anew. `true`: there is room by now.
    ///
    /// # Errors
    /// Why this end takes no record any more.
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
    /// The length of the next record; `None`: look again. `looks`: as for [`splice`].
    ///
    /// # Errors
    /// There is none, now or any more.
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

    /// Gives the next record, of `len` bytes, to `sink`, or does otherwise, as `decide` says
    /// of the room that it has. Returns what was done, and whether the sink's peer is to be
    /// told: [`Channel::tell_peer`]. `None`: the sink takes no record any more.
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

    /// Gives the bytes of the next record, of `len` bytes, back to its writer.
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

/// A channel to read from, its ring, and the proof that its memory is mapped.
type Source<'a> = (&'a Channel, &'a Consumer, &'a AccessGuard);
/// A channel to write to, likewise.
type Sink<'a> = (&'a Channel, &'a Producer, &'a AccessGuard);

/// Copies from ring to ring, from `skip` bytes after both heads up to `end`.
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

/// Copies a record of `len` bytes from ring to ring. Its header is not copied
/// but written anew from the length that was checked.
fn copy_record(from: Source<'_>, to: Sink<'_>, len: u32) {
    let (sink, tx, live) = to;
    sink.memory.tx.write_word(live, tx.next(HEADER).at, len);
    copy_bytes(from, to, HEADER, HEADER.wrapping_add(len));
}

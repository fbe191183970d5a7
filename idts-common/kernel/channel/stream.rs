// SPDX-License-Identifier: GPL-2.0

//! Single attempts to read or write a stream, and the parts that records share.
//!
//! A reader that finds nothing, or a writer without room, first busy-polls the peer's index with
//! nothing locked, tries once more, and is then armed for the next event.

use idts_core::ring::{peer_flags, Consumer, Producer};
use idts_core::wire::line;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::sync::atomic::Relaxed;

use super::channel::{Channel, Stop};
use crate::mem::revocable::AccessGuard;
use crate::mem::shared::SharedWords;
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;

/// Most bytes of one attempt, which runs without page faults in an RCU read-side section and
/// should be short.
const TRY_MAX: u32 = 1 << 20;

/// The busy-poll state of a reader; `None`: it does not spin.
pub(crate) type Reader<'a> = Option<&'a BusyPoll>;

/// The result of a read.
pub(crate) struct Got {
    /// Bytes that were copied to the user.
    pub(crate) given: u32,
    /// Bytes that were consumed from the ring: of a record all.
    pub(crate) taken: u32,
}

/// Tells if a read that finds nothing requests an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    /// It requests one.
    Yes,
    /// Not yet: the reader spins first.
    NotYet,
}

/// Moves data in contiguous pieces, at most `limit` bytes.
///
/// `piece` gets the sum so far; it returns the bytes that it moved, and true if more may follow.
/// Returns the sum, or the error of the first piece.
fn pieces(
    limit: u32,
    mut piece: impl FnMut(u32) -> Result<(u32, bool), Stop>,
) -> Result<u32, Stop> {
    let mut total = 0u32;
    while total < limit {
        match piece(total) {
            Ok((n, more)) => {
                total = total.wrapping_add(n);
                if !more {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    match total {
        0 => Err(Stop::Fault(1)),
        total => Ok(total),
    }
}

impl Channel {
    /// Reads available data into the user's buffer, at most `limit` bytes, or one record of any
    /// length. If there is nothing, `reader` spins for a while and is then armed.
    ///
    /// # Errors
    /// The reason why nothing was read.
    pub(crate) fn try_read(
        &self,
        to: &mut IovIterDest<'_>,
        limit: u32,
        reader: Reader<'_>,
    ) -> Result<Got, Stop> {
        self.spin_then_arm(reader, |arm| match self.kind.has_records() {
            true => self.read_record(to, arm),
            false => self.read_stream(to, limit, arm),
        })
    }

    /// Waits for data as [`Self::try_read`] does, but consumes none.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn await_data(&self, reader: Reader<'_>) -> Result<(), Stop> {
        self.spin_then_arm(reader, |arm| {
            let mut rx = self.rx.lock();
            let live = self.enter_to_read()?;
            self.refill_or_arm(&mut rx.ring, &live, arm)
        })
    }

    /// Calls `read`; if it finds nothing, spins, and calls it once more with arming.
    fn spin_then_arm<R>(
        &self,
        reader: Reader<'_>,
        mut read: impl FnMut(Arm) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        let Some(busy_poll) = reader else {
            return read(Arm::Yes);
        };
        match read(Arm::NotYet) {
            Err(Stop::Blocked) => {}
            result => return result,
        }
        if self.spin_for_data(busy_poll) {
            self.link.stats.looks.add(1);
        }
        read(Arm::Yes)
    }

    /// Spins with nothing locked until there may be data to read or an end. Returns whether it
    /// found some.
    fn spin_for_data(&self, busy_poll: &BusyPoll) -> bool {
        busy_poll.spin(|| {
            let Ok(live) = self.enter() else {
                return true;
            };
            let words = self.memory.lines.words(&live);
            self.waiter.watch.has_unread(&words) || peer_flags(&words, self.lines) & line::FIN != 0
        })
    }

    /// Spins with nothing locked until there may be `want` bytes of room. Returns true if the
    /// caller is to try again.
    pub(crate) fn spin_for_room(&self, busy_poll: &BusyPoll, want: u32) -> bool {
        busy_poll.spin(|| {
            let Ok(live) = self.enter() else {
                return true;
            };
            let words = self.memory.lines.words(&live);
            self.waiter.watch.has_room(&words, self.sizes.0, want)
                || peer_flags(&words, self.lines) & line::DEAF != 0
        })
    }

    /// Reads available bytes of a stream.
    fn read_stream(&self, to: &mut IovIterDest<'_>, limit: u32, arm: Arm) -> Result<Got, Stop> {
        let mut rx = self.rx.lock();
        let live = self.enter_to_read()?;
        let words = self.memory.lines.words(&live);
        let mut notify = false;
        let limit = limit.min(TRY_MAX);
        let moved = pieces(limit, |done| {
            match done {
                0 => self.refill_or_arm(&mut rx.ring, &live, arm)?,
                _ => self.refill(&mut rx.ring, &live)?,
            }
            let want = to.len().min(limit.wrapping_sub(done) as usize) as u32;
            let span = rx.ring.next(want);
            let n = self.memory.rx.copy_to_iter(&live, span, to);
            notify |= self.release(&mut rx.ring, &words, n);
            Ok((n, n >= span.len && !to.is_empty()))
        });
        self.notify(&live, notify);
        let total = moved?;
        rx.bytes = rx.bytes.wrapping_add(total.into());
        self.link.stats.rx_bytes.add(total.into());
        Ok(Got {
            given: total,
            taken: total,
        })
    }

    /// Writes from the user's buffer what fits, at most `limit` bytes, or one record of any
    /// length.
    ///
    /// # Errors
    /// The reason why nothing was written.
    pub(crate) fn try_write(&self, from: &mut IovIterSource<'_>, limit: u32) -> Result<u32, Stop> {
        if self.kind.has_records() {
            return self.write_record(from);
        }
        let mut tx = self.tx.lock();
        let live = self.enter_to_write()?;
        let words = self.memory.lines.words(&live);
        let mut notify = false;
        let limit = limit.min(TRY_MAX);
        let moved = pieces(limit, |done| {
            if tx.ring.free_seen() == 0 {
                let free = tx.ring.free(&words, self.lines);
                if free.map_err(|v| self.broken(v))? == 0 {
                    return Err(Stop::Blocked);
                }
            }
            let want = from.len().min(limit.wrapping_sub(done) as usize) as u32;
            let span = tx.ring.next(want);
            let n = self.memory.tx.copy_from_iter(&live, span, from);
            notify |= self.publish(&mut tx.ring, &words, n);
            Ok((n, n >= span.len && !from.is_empty()))
        });
        self.notify(&live, notify);
        let total = moved?;
        tx.bytes = tx.bytes.wrapping_add(total.into());
        self.link.stats.tx_bytes.add(total.into());
        Ok(total)
    }

    /// Publishes `bytes` bytes. Returns whether to notify the peer.
    #[inline]
    pub(super) fn publish(&self, ring: &mut Producer, words: &SharedWords<'_>, bytes: u32) -> bool {
        self.waiter
            .watch
            .publishes(ring.published().wrapping_add(bytes));
        ring.publish(words, self.lines, bytes)
    }

    /// Releases `bytes` bytes to the writer. Returns whether to notify it.
    #[inline]
    pub(super) fn release(&self, ring: &mut Consumer, words: &SharedWords<'_>, bytes: u32) -> bool {
        self.waiter
            .watch
            .releases(ring.released().wrapping_add(bytes));
        ring.release(words, self.lines, bytes)
    }

    /// Returns whether the last read left data that it saw.
    pub(crate) fn has_more(&self) -> bool {
        self.rx.lock().ring.available_seen() > 0
    }

    /// Makes sure that there is data to read.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(super) fn refill(&self, ring: &mut Consumer, live: &AccessGuard) -> Result<(), Stop> {
        if ring.available_seen() > 0 {
            return Ok(());
        }
        // The flags are read before the index: data that was published before a flag is then
        // found.
        let flags = self.peer_flags(live);
        let words = self.memory.lines.words(live);
        let there = ring.available(&words, self.lines);
        if there.map_err(|v| self.broken(v))? > 0 {
            return Ok(());
        }
        if flags & line::RESET != 0 {
            self.fail(Errno::ConnReset);
            return Err(Stop::Broken);
        }
        Err(if flags & line::FIN != 0 {
            Stop::End
        } else {
            Stop::Blocked
        })
    }

    /// As [`Self::refill`]; if there is nothing and `arm` says so, it arms the reader for the
    /// next byte.
    pub(super) fn refill_or_arm(
        &self,
        ring: &mut Consumer,
        live: &AccessGuard,
        arm: Arm,
    ) -> Result<(), Stop> {
        match self.refill(ring, live) {
            Err(Stop::Blocked) if arm == Arm::Yes => {}
            result => return result,
        }
        self.waiter.read.arm();
        // An end of the channel before the arming found no task to wake.
        if self.is_broken() {
            return Err(Stop::Broken);
        }
        if self.flags.load(Relaxed) & line::DEAF != 0 {
            return Err(Stop::End);
        }
        let words = self.memory.lines.words(live);
        let there = ring.arm(&words, self.lines);
        if there.map_err(|v| self.broken(v))? || self.peer_flags(live) & line::FIN != 0 {
            return self.refill(ring, live);
        }
        Err(Stop::Blocked)
    }
}

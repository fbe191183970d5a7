// SPDX-License-Identifier: GPL-2.0

//! Single attempts to read or write a record. `idts_core::record` defines the layout of a record
//! in a ring.

use idts_core::index::Untrusted;
use idts_core::record::{check, framed, longest, HEADER};
use idts_core::ring::Consumer;
use kernel::iov::{IovIterDest, IovIterSource};

use super::channel::{Channel, Stop};
use super::stream::Arm;
use super::stream::Got;
use crate::mem::revocable::AccessGuard;

impl Channel {
    /// Returns the length of the next record, 0 if there is none. The header is read once and
    /// checked; an invalid one breaks the channel.
    pub(super) fn next_record(&self, ring: &Consumer, live: &AccessGuard) -> Result<u32, Stop> {
        let available = ring.available_seen();
        if available == 0 {
            return Ok(0);
        }
        let header = self.memory.rx.read_word(live, ring.next(HEADER).at);
        check(Untrusted::new(header), available).map_err(|v| self.broken(v))
    }

    /// Reads the next record, or its beginning if the user's buffer is shorter.
    pub(super) fn read_record(&self, to: &mut IovIterDest<'_>, arm: Arm) -> Result<Got, Stop> {
        let mut rx = self.rx.lock();
        let live = self.enter_to_read()?;
        self.refill_or_arm(&mut rx.ring, &live, arm)?;
        let len = self.next_record(&rx.ring, &live)?;
        let want = len.min(to.len().min(u32::MAX as usize) as u32);
        let mut done = 0u32;
        while done < want {
            let (skip, rest) = (HEADER.wrapping_add(done), want.wrapping_sub(done));
            let span = rx.ring.next_after(skip, rest);
            let n = self.memory.rx.copy_to_iter(&live, span, to);
            done = done.wrapping_add(n);
            if n < span.len || n == 0 {
                // SAFETY: Just advanced by this many bytes.
                unsafe { to.revert(done as usize) };
                return Err(Stop::Fault(want));
            }
        }
        let words = self.memory.lines.words(&live);
        let frame = framed(len).unwrap_or(len);
        let notify = self.release(&mut rx.ring, &words, frame);
        rx.bytes = rx.bytes.wrapping_add(len.into());
        rx.truncated = rx.truncated.wrapping_add((want < len).into());
        self.notify(&live, notify);
        self.link.stats.rx_bytes.add(len.into());
        Ok(Got {
            given: want,
            taken: len,
        })
    }

    /// Writes the user's buffer as one record.
    pub(super) fn write_record(&self, from: &mut IovIterSource<'_>) -> Result<u32, Stop> {
        let mut tx = self.tx.lock();
        let live = self.enter_to_write()?;
        if from.len() > longest(tx.ring.size()) as usize {
            return Err(Stop::TooLong);
        }
        let len = from.len() as u32;
        let frame = framed(len).unwrap_or(len);
        let words = self.memory.lines.words(&live);
        if tx.ring.free_seen() < frame {
            let free = tx.ring.free(&words, self.lines);
            if free.map_err(|v| self.broken(v))? < frame {
                tx.want = frame;
                return Err(Stop::Blocked);
            }
        }
        let header = tx.ring.next(HEADER).at;
        self.memory.tx.write_word(&live, header, len);
        let mut done = 0u32;
        while done < len {
            let (skip, rest) = (HEADER.wrapping_add(done), len.wrapping_sub(done));
            let span = tx.ring.next_after(skip, rest);
            let n = self.memory.tx.copy_from_iter(&live, span, from);
            done = done.wrapping_add(n);
            if n < span.len || n == 0 {
                // Nothing is published yet, so the next attempt starts over.
                // SAFETY: Just advanced by this many bytes.
                unsafe { from.revert(done as usize) };
                return Err(Stop::Fault(len));
            }
        }
        let notify = self.publish(&mut tx.ring, &words, frame);
        tx.want = 0;
        tx.bytes = tx.bytes.wrapping_add(len.into());
        self.notify(&live, notify);
        self.link.stats.tx_bytes.add(len.into());
        Ok(len)
    }
}

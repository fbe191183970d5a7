// SPDX-License-Identifier: GPL-2.0

//! Readiness of a channel for reads and writes, and arming for the next event.

use idts_core::record::framed;
use idts_core::wire::{line, Kind, RING_MAX};
use kernel::sync::atomic::Relaxed;

use super::channel::Channel;

/// The state of a channel for poll.
#[derive(Clone, Copy, Default)]
pub(crate) struct Readiness {
    /// A read would not block.
    pub(crate) readable: bool,
    /// A write would not block.
    pub(crate) writable: bool,
    /// A read would move bytes.
    pub(crate) gives: bool,
    /// A write would move bytes.
    pub(crate) takes: bool,
    /// The peer has ended writing, or this side reading.
    pub(crate) read_ended: bool,
    /// Both directions have ended.
    pub(crate) hung_up: bool,
    /// The peer has reset the channel, or it is broken.
    pub(crate) error: bool,
}

impl Channel {
    /// Requests an event from the peer for the next byte. Returns true if there is no need to
    /// wait.
    pub fn arm_read(&self) -> bool {
        let mut rx = self.rx.lock();
        let Ok(live) = self.enter() else {
            return true;
        };
        let words = self.memory.lines.words(&live);
        match rx.ring.arm(&words, self.lines) {
            Ok(there) => {
                let ended = self.flags.load(Relaxed) & line::DEAF != 0;
                there || ended || self.peer_flags(&live) & line::FIN != 0
            }
            Err(violation) => {
                self.broken(violation);
                true
            }
        }
    }

    /// Arms the waiter for `want` bytes of room. Returns true if there is no need to wait.
    pub(crate) fn arm_write(&self, want: u32) -> bool {
        let mut tx = self.tx.lock();
        // Armed under the lock, because all writers share one request for an event.
        let others = self.waiter.write.arm();
        let Ok(live) = self.enter() else {
            return true;
        };
        let words = self.memory.lines.words(&live);
        let found = match tx.ring.arm_among(&words, self.lines, want, others) {
            Ok(free) => {
                let ended = self.flags.load(Relaxed) & line::FIN != 0;
                free || ended || self.peer_flags(&live) & line::DEAF != 0
            }
            Err(violation) => {
                self.broken(violation);
                true
            }
        };
        if found && others {
            // The event of the other writers may have made this room, and no further one comes.
            self.waiter.tell();
        }
        found
    }

    /// Arms this end for reading, for the owner of [`Self::waiter`]. Returns true if there is no
    /// need to wait.
    pub fn arm_reader(&self) -> bool {
        self.waiter.read.arm();
        self.arm_read()
    }

    /// Returns whether there is nothing to read and the peer has not ended its direction.
    pub fn is_quiet(&self) -> bool {
        let mut rx = self.rx.lock();
        let Ok(live) = self.enter() else {
            return false;
        };
        let words = self.memory.lines.words(&live);
        let there = rx.ring.available(&words, self.lines);
        there.is_ok_and(|there| there == 0) && self.peer_flags(&live) & line::FIN == 0
    }

    /// Room that a blocked write of `len` bytes waits for.
    ///
    /// It waits for at least a quarter of the ring, as poll does, because a wake-up for each
    /// byte costs more than it brings. A longer stream write waits for half of the ring at most,
    /// a record for the room that it needs.
    pub(crate) fn room_for(&self, len: usize) -> u32 {
        let len = len.min(RING_MAX as usize) as u32;
        let size = self.sizes.0;
        match self.kind {
            Kind::Stream => len.clamp(size / 4, size / 2),
            _ => framed(len).unwrap_or(len).max(size / 4),
        }
    }

    /// Room that makes the channel writable for poll.
    pub(crate) fn room_for_poll(&self) -> u32 {
        self.tx.lock().want.max(self.sizes.0 / 4)
    }

    /// Returns the state for poll.
    pub(crate) fn readiness(&self) -> Readiness {
        let gone = Readiness {
            readable: true,
            writable: true,
            gives: false,
            takes: false,
            read_ended: true,
            hung_up: true,
            error: true,
        };
        let mut rx = self.rx.lock();
        let mut tx = self.tx.lock();
        let Ok(live) = self.enter() else {
            return gone;
        };
        let words = self.memory.lines.words(&live);
        let flags = self.peer_flags(&live);
        let own = self.flags.load(Relaxed);
        let (there, free) = match (
            rx.ring.available(&words, self.lines),
            tx.ring.free(&words, self.lines),
        ) {
            (Ok(there), Ok(free)) => (there, free),
            (Err(v), _) | (_, Err(v)) => {
                self.broken(v);
                return gone;
            }
        };
        let read_ended = flags & line::FIN != 0 || own & line::DEAF != 0;
        let write_ended = flags & line::DEAF != 0 || own & line::FIN != 0;
        let room = free >= tx.want.max(tx.ring.size() / 4);
        Readiness {
            readable: there > 0 || read_ended,
            writable: room || write_ended,
            gives: there > 0,
            takes: room && !write_ended,
            read_ended,
            hung_up: read_ended && write_ended,
            error: flags & line::RESET != 0,
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Whether a channel is ready for a read or a write, and arming for the next event.

use idts_core::record::framed;
use idts_core::wire::{line, Kind, RING_MAX};
use kernel::sync::atomic::Relaxed;

use super::channel::Channel;

/// The answer to poll.
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
    /// The peer writes no more.
    pub(crate) read_ended: bool,
    /// Nothing moves any more, either way.
    pub(crate) hung_up: bool,
    /// The channel is broken.
    pub(crate) error: bool,
}

impl Channel {
    /// Asks the peer for an event at the next byte. `true`: no need to wait.
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

    /// Has the waiter told of room for `want` bytes. `true`: no need to wait.
    pub(crate) fn arm_write(&self, want: u32) -> bool {
        let mut tx = self.tx.lock();
        // Under the lock, under which all ask for the one event that there is.
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
            // Their event may have made place for ours, which does not come.
            self.waiter.tell();
        }
        found
    }

    /// Arms this end for reading, for whoever has [`Self::waiter`]. `true`: no need to wait.
    pub fn arm_reader(&self) -> bool {
        self.waiter.read.arm();
        self.arm_read()
    }

    /// Whether the peer wrote nothing new and ended nothing.
    pub fn is_quiet(&self) -> bool {
        let mut rx = self.rx.lock();
        let Ok(live) = self.enter() else {
            return false;
        };
        let words = self.memory.lines.words(&live);
        let there = rx.ring.available(&words, self.lines);
        there.is_ok_and(|there| there == 0) && self.peer_flags(&live) & line::FIN == 0
    }

    /// Room that a blocked write of `len` bytes waits for: a writer that is
    /// woken for each byte costs more than it brings. A quarter of the ring, as
    /// for poll; what is longer takes up to half of it at a time, but a record
    /// comes whole.
    pub(crate) fn room_for(&self, len: usize) -> u32 {
        let len = len.min(RING_MAX as usize) as u32;
        let size = self.sizes.0;
        match self.kind {
            Kind::Stream => len.clamp(size / 4, size / 2),
            _ => framed(len).unwrap_or(len).max(size / 4),
        }
    }

    /// Room that makes the channel writable again for poll.
    pub(crate) fn room_for_poll(&self) -> u32 {
        self.tx.lock().want.max(self.sizes.0 / 4)
    }

    /// What a read and a write would do now.
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

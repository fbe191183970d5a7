// SPDX-License-Identifier: GPL-2.0

//! A channel: two ring ends over shared memory, and what broke them.
//!
//! Owns single tries of reading and writing, which never sleep but for a mutex
//! that nobody holds while sleeping. Waiting is left to [`crate::endpoint`],
//! opening and closing to [`crate::tunnel`].

mod record;

use idts_core::error::Violation;
use idts_core::record::{framed, longest};
use idts_core::ring::{peer_flags, peer_lag, set_flags, Consumer, Lines, Producer};
use idts_core::wire::{self, line, ChannelId, Kind, Open, Ports};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::home::Local;
use crate::link::waiter::Waiter;
use crate::link::watch::Watch;
use crate::mem::revocable::AccessGuard;
use crate::mem::shared::{RingMemory, SharedSlice, SharedWords};
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;
use crate::tunnel::Tunnel;

/// Bytes that one try moves at most: it runs without page faults and inside an
/// RCU read-side section, which should not last.
const TRY_MAX: u32 = 1 << 20;

/// How long a reader looks before it is armed; `None`: not at all.
pub(crate) type Reader<'a> = Option<&'a BusyPoll>;

/// Why a try moved nothing.
pub(crate) enum Stop {
    /// No room to write, or nothing to read, and the reader is armed: wait.
    Blocked,
    /// The user's buffer is not there: fault in so many bytes of it at least,
    /// with nothing held, and try again.
    Fault(u32),
    /// End of stream.
    End,
    /// The peer reads no more.
    Deaf,
    /// The record does not fit into the ring.
    TooLong,
    /// A cap lets nothing move before the tunnel's next turn; it had so many.
    Turn(u32),
    /// The channel is broken: [`Channel::fate`] tells why.
    Broken,
}

/// Shared memory of a channel.
pub(crate) struct Memory {
    /// The piece that both lines lie in.
    pub(crate) lines: SharedSlice,
    /// The ring that this side writes.
    pub(crate) tx: RingMemory,
    /// The ring that this side reads.
    pub(crate) rx: RingMemory,
}

pub(crate) struct Tx {
    pub(crate) ring: Producer,
    pub(crate) bytes: u64,
    /// Room that the last record did not find: poll waits for that much.
    pub(crate) want: u32,
}

pub(crate) struct Rx {
    pub(crate) ring: Consumer,
    pub(crate) bytes: u64,
    /// Records that a read got only the beginning of.
    pub(crate) truncated: u64,
}

/// What a try read.
pub(crate) struct Got {
    /// Bytes that the user has.
    pub(crate) given: u32,
    /// Bytes that are out of the ring: of a record all.
    pub(crate) taken: u32,
}

/// What poll wants to know.
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

/// A connection inside a tunnel.
#[pin_data]
pub(crate) struct Channel {
    /// The tunnel it belongs to.
    pub(crate) tunnel: Arc<Tunnel>,
    /// Its number and generation.
    pub(crate) id: ChannelId,
    /// Ports, from the opener's view.
    pub(crate) ports: Ports,
    /// The domain at the far end.
    pub(crate) far: u16,
    /// What it carries.
    pub(crate) kind: Kind,
    pub(crate) lines: Lines,
    pub(crate) memory: Memory,
    /// Who waits at this end.
    pub(crate) waiter: Arc<Waiter>,
    #[pin]
    pub(crate) tx: Mutex<Tx>,
    #[pin]
    pub(crate) rx: Mutex<Rx>,
    /// Flags that this side set in its line.
    flags: Atomic<u32>,
    /// The peer made its last access.
    peer_closed: Atomic<bool>,
    /// The errno that broke the channel, or 0.
    error: Atomic<u32>,
    /// Events sent for this channel.
    pub(crate) events: Atomic<u32>,
    /// Inside one domain: the memory, which no tunnel holds.
    _local: Option<Arc<Local>>,
}

impl Channel {
    /// A channel on fresh rings. `lines` are offsets in `memory.lines`, `sizes`
    /// those of the rings that this side writes and reads.
    pub(crate) fn new(
        tunnel: Arc<Tunnel>,
        open: &Open,
        far: u16,
        lines: Lines,
        memory: Memory,
        sizes: (u32, u32),
        local: Option<Arc<Local>>,
    ) -> Result<Arc<Self>> {
        let (tx_size, rx_size) = sizes;
        let waiter = Waiter::new(memory.lines, Watch::new(lines, rx_size))?;
        Arc::pin_init(
            pin_init!(Self {
                tunnel,
                id: open.channel,
                ports: open.ports,
                far,
                kind: open.kind,
                lines,
                memory,
                waiter,
                tx <- new_mutex!(Tx { ring: Producer::new(tx_size), bytes: 0, want: 0 }),
                rx <- new_mutex!(Rx { ring: Consumer::new(rx_size), bytes: 0, truncated: 0 }),
                flags: Atomic::new(0),
                peer_closed: Atomic::new(false),
                error: Atomic::new(0),
                events: Atomic::new(0),
                _local: local,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Zeroes both lines. Only the front does this, before anyone else knows of
    /// the channel: slices are used again and again.
    pub(crate) fn reset_lines(&self, live: &AccessGuard) {
        use idts_core::mem::SharedMem;
        let words = self.memory.lines.words(live);
        for at in (0..line::SIZE).step_by(4) {
            words.store(self.lines.own.wrapping_add(at), 0);
            words.store(self.lines.peer.wrapping_add(at), 0);
        }
    }

    /// The error that ended the channel; a reset is told once, and then the
    /// channel is just not connected.
    pub(crate) fn fate(&self) -> Errno {
        let reset = Errno::ConnReset as u32;
        if self
            .error
            .cmpxchg(reset, Errno::NotConn as u32, Relaxed)
            .is_ok()
        {
            return Errno::ConnReset;
        }
        Errno::from_u32(self.error.load(Relaxed)).unwrap_or(Errno::NotConn)
    }

    /// The errno that broke the channel, or 0, without telling it.
    pub(crate) fn error(&self) -> u32 {
        self.error.load(Relaxed)
    }

    /// Ends the channel with an errno, unless it has one already.
    pub(crate) fn fail(&self, errno: Errno) {
        let _ = self.error.cmpxchg(0, errno as u32, Relaxed);
    }

    /// The peer made its last access: its flags are final.
    pub(crate) fn peer_closed(&self) {
        self.peer_closed.store(true, kernel::sync::atomic::Release);
    }

    /// Ends the channel because the peer broke the protocol; counted once. Whoever
    /// found out may have been woken alone: all who wait are woken.
    pub(crate) fn broken(&self, violation: Violation) -> Stop {
        if self.error.cmpxchg(0, Errno::Proto as u32, Relaxed).is_ok() {
            self.tunnel.channel_broken(violation);
            if self.tunnel.account.may_say() {
                pr_warn!(
                    "domain {}: channel {}.{}: {}\n",
                    self.tunnel.peer,
                    self.id.id,
                    self.id.generation,
                    violation.name()
                );
            }
            self.waiter.kick();
        }
        Stop::Broken
    }

    /// Enters the tunnel's gate, if nothing broke.
    pub(crate) fn enter(&self) -> Result<AccessGuard, Stop> {
        if self.error.load(Relaxed) != 0 {
            return Err(Stop::Broken);
        }
        self.tunnel.gate.try_access().ok_or(Stop::Broken)
    }

    /// The peer's flags; a closed channel has all but the reset.
    fn peer_flags(&self, live: &AccessGuard) -> u32 {
        let closed = self.peer_closed.load(kernel::sync::atomic::Acquire);
        let flags = peer_flags(&self.memory.lines.words(live), self.lines);
        if closed {
            flags | line::FIN | line::DEAF
        } else {
            flags
        }
    }

    /// The CPU that takes the events of this channel.
    pub(crate) fn event_cpu(&self) -> u32 {
        self.tunnel.event_cpu(self.id.id)
    }

    /// Notifies the peer, if that is wanted.
    #[inline]
    pub(crate) fn notify(&self, live: &AccessGuard, wanted: bool) {
        if wanted {
            self.events.add(1, Relaxed);
            self.tunnel.notify(live, self.id.id);
        }
    }

    /// Reads what is there into the user's buffer, at most `limit` bytes; of
    /// records one, however long. Where nothing is there, `reader` looks for a
    /// while and is armed then.
    pub(crate) fn try_read(
        &self,
        to: &mut IovIterDest<'_>,
        limit: u32,
        reader: Reader<'_>,
    ) -> Result<Got, Stop> {
        if self.kind.has_records() {
            return self.try_read_record(to, reader);
        }
        let mut rx = self.rx.lock();
        let live = self.enter_to_read()?;
        let words = self.memory.lines.words(&live);
        let mut total = 0u32;
        let mut notify = false;
        let mut stop = Stop::Fault(1);
        let limit = limit.min(TRY_MAX);
        while total < limit && !to.is_empty() {
            let there = match total {
                0 => self.refill_or_arm(&mut rx.ring, &live, reader),
                _ => self.refill(&mut rx.ring, &live),
            };
            if let Err(why) = there {
                stop = why;
                break;
            }
            let span = rx
                .ring
                .next(to.len().min(limit.wrapping_sub(total) as usize) as u32);
            let n = self.memory.rx.copy_to_iter(&live, span, to);
            notify |= self.release(&mut rx.ring, &words, n);
            total = total.wrapping_add(n);
            if n < span.len {
                break;
            }
        }
        self.notify(&live, notify);
        if total == 0 {
            return Err(stop);
        }
        rx.bytes = rx.bytes.wrapping_add(total.into());
        self.tunnel.stats.rx_bytes.add(total.into());
        Ok(Got {
            given: total,
            taken: total,
        })
    }

    /// Waits a while for something to read, as [`Self::try_read`] does, and takes
    /// nothing.
    pub(crate) fn await_data(&self, reader: Reader<'_>) -> Result<(), Stop> {
        let mut rx = self.rx.lock();
        let live = self.enter_to_read()?;
        self.refill_or_arm(&mut rx.ring, &live, reader)
    }

    /// Publishes `bytes`; says whether to notify the peer.
    #[inline]
    pub(crate) fn publish(&self, ring: &mut Producer, words: &SharedWords<'_>, bytes: u32) -> bool {
        self.waiter
            .watch
            .publishes(ring.published().wrapping_add(bytes));
        ring.publish(words, self.lines, bytes)
    }

    /// Gives `bytes` back to the writer; says whether to notify it.
    #[inline]
    pub(crate) fn release(&self, ring: &mut Consumer, words: &SharedWords<'_>, bytes: u32) -> bool {
        self.waiter
            .watch
            .releases(ring.released().wrapping_add(bytes));
        ring.release(words, self.lines, bytes)
    }

    /// Whether a read left something of what it saw.
    pub(crate) fn has_more(&self) -> bool {
        self.rx.lock().ring.available_seen() > 0
    }

    /// Whether the peer wrote nothing new and ended nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut rx = self.rx.lock();
        let Ok(live) = self.enter() else {
            return false;
        };
        let words = self.memory.lines.words(&live);
        let there = rx.ring.available(&words, self.lines);
        there.is_ok_and(|there| there == 0) && self.peer_flags(&live) & line::FIN == 0
    }

    /// Makes sure that there is something to read, or says why not.
    pub(crate) fn refill(&self, ring: &mut Consumer, live: &AccessGuard) -> Result<(), Stop> {
        if ring.available_seen() > 0 {
            return Ok(());
        }
        // The flags before the index: what was published before them is there.
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

    /// As [`Self::refill`]; where there is nothing, it looks for a while, and at
    /// last has `reader` told of the next byte. One lock and one proof of memory
    /// serve for all of it.
    pub(crate) fn refill_or_arm(
        &self,
        ring: &mut Consumer,
        live: &AccessGuard,
        reader: Reader<'_>,
    ) -> Result<(), Stop> {
        match self.refill(ring, live) {
            Err(Stop::Blocked) => {}
            result => return result,
        }
        let words = self.memory.lines.words(live);
        let found = reader.is_some_and(|busy_poll| {
            busy_poll.spin(|| {
                !ring
                    .available(&words, self.lines)
                    .is_ok_and(|there| there == 0)
                    || peer_flags(&words, self.lines) & line::FIN != 0
            })
        });
        if found {
            self.tunnel.stats.looks.add(1);
            match self.refill(ring, live) {
                // A peer that takes an end back: as if nothing was found.
                Err(Stop::Blocked) => {}
                result => return result,
            }
        }
        self.waiter.read.arm();
        // Who ended the channel before the arming found nobody to wake.
        if self.error.load(Relaxed) != 0 || self.tunnel.gate.is_revoked() {
            return Err(Stop::Broken);
        }
        if self.flags.load(Relaxed) & line::DEAF != 0 {
            return Err(Stop::End);
        }
        let there = ring.arm(&words, self.lines);
        if there.map_err(|v| self.broken(v))? || self.peer_flags(live) & line::FIN != 0 {
            return self.refill(ring, live);
        }
        Err(Stop::Blocked)
    }

    /// Enters to read, unless this side ended that.
    pub(crate) fn enter_to_read(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::DEAF != 0 {
            return Err(Stop::End);
        }
        Ok(live)
    }

    /// Enters to write, unless one side ended that.
    pub(crate) fn enter_to_write(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::FIN != 0 || self.peer_flags(&live) & line::DEAF != 0 {
            return Err(Stop::Deaf);
        }
        Ok(live)
    }

    /// Writes what there is room for from the user's buffer, at most `limit`
    /// bytes; of records one, however long.
    pub(crate) fn try_write(&self, from: &mut IovIterSource<'_>, limit: u32) -> Result<u32, Stop> {
        if self.kind.has_records() {
            return self.try_write_record(from);
        }
        let mut tx = self.tx.lock();
        let live = self.enter_to_write()?;
        let words = self.memory.lines.words(&live);
        let mut total = 0u32;
        let mut notify = false;
        let mut stop = Stop::Fault(1);
        let limit = limit.min(TRY_MAX);
        while total < limit && !from.is_empty() {
            if tx.ring.free_seen() == 0 {
                let free = tx.ring.free(&words, self.lines);
                if free.map_err(|v| self.broken(v))? == 0 {
                    stop = Stop::Blocked;
                    break;
                }
            }
            let span = tx
                .ring
                .next(from.len().min(limit.wrapping_sub(total) as usize) as u32);
            let n = self.memory.tx.copy_from_iter(&live, span, from);
            notify |= self.publish(&mut tx.ring, &words, n);
            total = total.wrapping_add(n);
            if n < span.len {
                break;
            }
        }
        self.notify(&live, notify);
        if total == 0 {
            return Err(stop);
        }
        tx.bytes = tx.bytes.wrapping_add(total.into());
        self.tunnel.stats.tx_bytes.add(total.into());
        Ok(total)
    }

    /// Looks for `want` bytes of room for a while; `true`: try again.
    pub(crate) fn look_for_room(&self, busy_poll: &BusyPoll, want: u32) -> bool {
        let mut tx = self.tx.lock();
        let Ok(live) = self.enter() else {
            return true;
        };
        let words = self.memory.lines.words(&live);
        busy_poll.spin(|| {
            !tx.ring
                .free(&words, self.lines)
                .is_ok_and(|free| free < want)
                || peer_flags(&words, self.lines) & line::DEAF != 0
        })
    }

    /// Asks the peer for an event at the next byte. `true`: no need to wait.
    pub(crate) fn arm_read(&self) -> bool {
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

    /// Room that a blocked write of `len` bytes waits for: a writer that is
    /// woken for each byte costs more than it brings. A quarter of the ring, as
    /// for poll; what is longer takes up to half of it at a time, but a record
    /// comes whole.
    pub(crate) fn room_for(&self, len: usize) -> u32 {
        let len = len.min(wire::RING_MAX as usize) as u32;
        let size = self.tx.lock().ring.size();
        match self.kind {
            Kind::Stream => len.clamp(size / 4, size / 2),
            _ => framed(len).unwrap_or(len).max(size / 4),
        }
    }

    /// Room that makes the channel writable again for poll.
    pub(crate) fn room_for_poll(&self) -> u32 {
        let tx = self.tx.lock();
        tx.want.max(tx.ring.size() / 4)
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

    /// Bytes that a read would give, and that a write would take.
    pub(crate) fn levels(&self) -> (u32, u32) {
        let mut rx = self.rx.lock();
        let mut tx = self.tx.lock();
        let Ok(live) = self.enter() else {
            return (0, 0);
        };
        let words = self.memory.lines.words(&live);
        let there = rx.ring.available(&words, self.lines).unwrap_or(0);
        let free = tx.ring.free(&words, self.lines).unwrap_or(0);
        match self.kind {
            Kind::Stream => (there, free),
            _ => {
                let next = self.next_record(&rx.ring, &live).unwrap_or(0);
                (next, longest(free))
            }
        }
    }

    /// Records of a group that the peer did not deliver to this end.
    pub(crate) fn lag(&self) -> u32 {
        self.enter().map_or(0, |live| {
            peer_lag(&self.memory.lines.words(&live), self.lines)
        })
    }

    /// Records that a read got only the beginning of.
    pub(crate) fn truncated(&self) -> u64 {
        self.rx.lock().truncated
    }

    /// Ring sizes and byte counts: written, read.
    pub(crate) fn totals(&self) -> ((u32, u64), (u32, u64)) {
        let rx = self.rx.lock();
        let tx = self.tx.lock();
        ((tx.ring.size(), tx.bytes), (rx.ring.size(), rx.bytes))
    }

    /// Ends one or both directions and tells the peer.
    pub(crate) fn shutdown(&self, flags: u32) {
        self.end(flags, None);
    }

    /// The same; whoever finds a direction ended is told `errno`.
    fn end(&self, flags: u32, errno: Option<Errno>) {
        let _tx = self.tx.lock();
        let Ok(live) = self.enter() else {
            return;
        };
        if let Some(errno) = errno {
            self.fail(errno);
        }
        let old = self.flags.load(Relaxed);
        let flags = old | flags;
        self.flags.store(flags, Relaxed);
        set_flags(&self.memory.lines.words(&live), self.lines, flags);
        self.notify(&live, flags != old);
    }

    /// Tells the peer that what is under way is lost.
    pub(crate) fn reset(&self) {
        self.shutdown(line::FIN | line::DEAF | line::RESET);
    }

    /// Ends the channel for both sides: the right to it was taken away.
    pub(crate) fn revoke(&self) {
        self.end(line::FIN | line::DEAF | line::RESET, Some(Errno::ConnReset));
        self.waiter.kick();
        self.tunnel.look_up();
    }

    /// The last words of a channel that its application closed.
    pub(crate) fn hang_up(&self) {
        let unread = self.levels().0 > 0;
        let reset = if unread { line::RESET } else { 0 };
        self.shutdown(line::FIN | line::DEAF | reset);
    }
}

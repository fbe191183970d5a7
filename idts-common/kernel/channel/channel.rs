// SPDX-License-Identifier: GPL-2.0

//! The state of a channel, and the helpers that all its operations share.

use idts_core::error::Violation;
use idts_core::ring::{peer_flags, peer_lag, Consumer, Lines, Producer};
use idts_core::wire::{line, ChannelId, Kind, Open, Ports};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};

use crate::link::waiter::Waiter;
use crate::link::watch::Watch;
use crate::link::Link;
use crate::mem::revocable::{AccessGuard, Revocable};
use crate::mem::shared::{RingMemory, SharedSlice};
use crate::sys::errno::Errno;

/// The reason why an attempt moved nothing.
pub enum Stop {
    /// No room to write, or nothing to read and the reader is armed: the caller waits.
    Blocked,
    /// The user's buffer is not resident: the caller faults in at least this many bytes, with
    /// nothing held, and tries again.
    Fault(u32),
    /// End of stream, or this side has ended reading.
    End,
    /// The peer has ended reading, or this side writing.
    Deaf,
    /// The record is longer than the ring can hold.
    TooLong,
    /// The channel is broken; [`Channel::fate`] returns the error.
    Broken,
}

/// The shared memory of a channel.
pub(crate) struct Memory {
    /// The slice with both lines of the pair, behind the link's gate.
    pub(crate) lines: SharedSlice,
    /// The gate of the region that has both rings, which may differ from the link's gate.
    pub(crate) gate: Arc<Revocable>,
    /// The ring that this side writes.
    pub(crate) tx: RingMemory,
    /// The ring that this side reads.
    pub(crate) rx: RingMemory,
}

/// The writing end.
pub(super) struct Tx {
    pub(super) ring: Producer,
    pub(super) bytes: u64,
    /// Room that the last record lacked, which poll waits for; 0 after a write that fitted.
    pub(super) want: u32,
}

/// The reading end.
pub(super) struct Rx {
    pub(super) ring: Consumer,
    pub(super) bytes: u64,
    /// Records that were longer than the buffer of their read.
    pub(super) truncated: u64,
}

/// The owner of channels. Implemented by a tunnel, called by the user of an end.
pub trait Owner: Send + Sync {
    /// Closes this side's end, which its user does not access any more.
    fn close(self: ArcBorrow<'_, Self>, channel: &Channel);
}

/// The parts of a new channel that come from its tunnel.
pub(crate) struct Setup {
    /// The link of the channel.
    pub(crate) link: Arc<Link>,
    pub(crate) owner: Arc<dyn Owner>,
    /// The domain at the other end, as applications see it.
    pub(crate) far: u16,
    /// Offsets of this side's line and the peer's in the memory of the pair.
    pub(crate) lines: Lines,
    pub(crate) memory: Memory,
    /// Sizes of the rings that this side writes and reads.
    pub(crate) sizes: (u32, u32),
    /// Memory that belongs to this channel alone, released with it.
    pub(crate) keeps: Option<Arc<dyn Send + Sync>>,
}

/// One end of a connection over a link.
///
/// # Invariants
///
/// While the channel is in its tunnel's table and a guard of [`Self::enter`] is held, which
/// passed both the link's gate and the rings' own, its lines and rings stay mapped.
#[pin_data]
pub struct Channel {
    /// The link of the channel.
    pub link: Arc<Link>,
    pub(super) owner: Arc<dyn Owner>,
    /// Id and generation.
    pub id: ChannelId,
    /// Ports, from the opener's point of view.
    pub ports: Ports,
    /// The domain at the other end.
    pub(crate) far: u16,
    /// The kind of data: a stream, records, or a group's records.
    pub kind: Kind,
    pub(super) lines: Lines,
    pub(super) memory: Memory,
    /// Sizes of the rings that this side writes and reads.
    pub(super) sizes: (u32, u32),
    /// The waiter of this end.
    pub waiter: Arc<Waiter>,
    #[pin]
    pub(super) tx: Mutex<Tx>,
    #[pin]
    pub(super) rx: Mutex<Rx>,
    /// Flags that this side has set in its line.
    pub(super) flags: Atomic<u32>,
    /// Set once the peer has made its last access.
    peer_closed: Atomic<bool>,
    /// The errno that broke the channel, or 0.
    error: Atomic<u32>,
    /// Events sent for this channel.
    pub(crate) events: Atomic<u32>,
    _keeps: Option<Arc<dyn Send + Sync>>,
}

impl Channel {
    /// Creates a channel on zeroed lines.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(open: &Open, setup: Setup) -> Result<Arc<Self>> {
        let Setup {
            link,
            owner,
            far,
            lines,
            memory,
            sizes,
            keeps,
        } = setup;
        let (tx_size, rx_size) = sizes;
        let waiter = Waiter::new(memory.lines, Watch::new(lines, rx_size))?;
        Arc::pin_init(
            pin_init!(Self {
                link,
                owner,
                id: open.channel,
                ports: open.ports,
                far,
                kind: open.kind,
                lines,
                memory,
                sizes,
                waiter,
                tx <- new_mutex!(Tx { ring: Producer::new(tx_size), bytes: 0, want: 0 }),
                rx <- new_mutex!(Rx { ring: Consumer::new(rx_size), bytes: 0, truncated: 0 }),
                flags: Atomic::new(0),
                peer_closed: Atomic::new(false),
                error: Atomic::new(0),
                events: Atomic::new(0),
                _keeps: keeps,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Zeroes both lines. Called by the granter alone, before the peer and the event handler
    /// know the channel, because slices are reused.
    pub(crate) fn reset_lines(&self, live: &AccessGuard) {
        use idts_core::mem::SharedMem;
        let words = self.memory.lines.words(live);
        for at in (0..line::SIZE).step_by(4) {
            words.store(self.lines.own.wrapping_add(at), 0);
            words.store(self.lines.peer.wrapping_add(at), 0);
        }
    }

    /// Returns the error that ended the channel. A reset is reported once as `ECONNRESET`, and
    /// as `ENOTCONN` afterwards.
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

    /// The errno that broke the channel, or 0. Leaves a reset to be reported by [`Self::fate`].
    pub fn error(&self) -> u32 {
        self.error.load(Relaxed)
    }

    /// Returns whether the channel is broken or its link gone.
    pub fn is_broken(&self) -> bool {
        self.error() != 0 || !self.link.is_open()
    }

    /// Breaks the channel with an errno, unless it is broken already.
    pub(crate) fn fail(&self, errno: Errno) {
        let _ = self.error.cmpxchg(0, errno as u32, Relaxed);
    }

    /// Notes that the peer has made its last access, so its flags are final.
    pub(crate) fn peer_closed(&self) {
        self.peer_closed.store(true, Release);
    }

    /// Breaks the channel after a violation by the peer, which is counted once, and wakes all
    /// waiters: the task that found it may not be the only one that waits.
    pub(super) fn broken(&self, violation: Violation) -> Stop {
        if self.error.cmpxchg(0, Errno::Proto as u32, Relaxed).is_ok() {
            self.link.channel_broken(violation);
            if self.link.may_log() {
                pr_warn!(
                    "domain {}: channel {}.{}: {}\n",
                    self.link.peer,
                    self.id.id,
                    self.id.generation,
                    violation.name()
                );
            }
            self.waiter.kick();
        }
        Stop::Broken
    }

    /// Enters the link's gate.
    ///
    /// # Errors
    /// [`Stop::Broken`]: the channel is broken, or one of the gates is revoked.
    pub(super) fn enter(&self) -> Result<AccessGuard, Stop> {
        if self.error.load(Relaxed) != 0 {
            return Err(Stop::Broken);
        }
        // One RCU read-side section protects both regions: the revocation of either gate waits
        // for it.
        let live = self.link.gate.try_access().ok_or(Stop::Broken)?;
        if self.memory.gate.is_revoked() {
            return Err(Stop::Broken);
        }
        Ok(live)
    }

    /// Enters the gate to read.
    ///
    /// # Errors
    /// [`Stop::Broken`], or [`Stop::End`]: this side has ended reading.
    pub(super) fn enter_to_read(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::DEAF != 0 {
            return Err(Stop::End);
        }
        Ok(live)
    }

    /// Enters the gate to write.
    ///
    /// # Errors
    /// [`Stop::Broken`], or [`Stop::Deaf`]: one side has ended this direction.
    pub(super) fn enter_to_write(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::FIN != 0 || self.peer_flags(&live) & line::DEAF != 0 {
            return Err(Stop::Deaf);
        }
        Ok(live)
    }

    /// Checks that this direction is open for writes.
    ///
    /// # Errors
    /// The reason why it is not: [`Stop::Broken`] or [`Stop::Deaf`].
    pub fn may_write(&self) -> Result<(), Stop> {
        self.enter_to_write().map(drop)
    }

    /// The peer's flags. Once the peer has closed the channel they include FIN and DEAF.
    pub(super) fn peer_flags(&self, live: &AccessGuard) -> u32 {
        let closed = self.peer_closed.load(Acquire);
        let flags = peer_flags(&self.memory.lines.words(live), self.lines);
        if closed {
            flags | line::FIN | line::DEAF
        } else {
            flags
        }
    }

    /// The CPU that handles the events of this channel, as far as it is known.
    pub(crate) fn event_cpu(&self) -> u32 {
        self.link.event_cpu(self.id.id)
    }

    /// Sends the peer an event if `wanted`.
    #[inline]
    pub(super) fn notify(&self, live: &AccessGuard, wanted: bool) {
        if wanted {
            self.events.add(1, Relaxed);
            self.link.notify(live, self.id.id);
        }
    }

    /// Sends the peer an event that was held back.
    pub fn tell_peer(&self) {
        if let Ok(live) = self.enter() {
            self.notify(&live, true);
        }
    }

    /// Bytes that a read would return, and bytes that a write would take.
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
                (next, idts_core::record::longest(free))
            }
        }
    }

    /// Records of a group that were dropped for this end, as the peer reports them.
    pub(crate) fn lag(&self) -> u32 {
        self.enter().map_or(0, |live| {
            peer_lag(&self.memory.lines.words(&live), self.lines)
        })
    }

    /// Records that were longer than the buffer of their read.
    pub(crate) fn truncated(&self) -> u64 {
        self.rx.lock().truncated
    }

    /// Size and byte count of the ring that is written, then of the ring that is read.
    pub(crate) fn totals(&self) -> ((u32, u64), (u32, u64)) {
        let rx = self.rx.lock();
        let tx = self.tx.lock();
        ((self.sizes.0, tx.bytes), (self.sizes.1, rx.bytes))
    }
}

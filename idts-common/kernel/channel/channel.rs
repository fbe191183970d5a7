// SPDX-License-Identifier: GPL-2.0

//! The state of a channel, and what all acts on it share.

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

/// Why a try moved nothing.
pub enum Stop {
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
    /// The channel is broken: [`Channel::fate`] tells why.
    Broken,
}

/// Shared memory of a channel.
pub(crate) struct Memory {
    /// The piece that both lines lie in, behind the link's gate.
    pub(crate) lines: SharedSlice,
    /// The gate of the region that both rings lie in; it may be another than the link's.
    pub(crate) gate: Arc<Revocable>,
    /// The ring that this side writes.
    pub(crate) tx: RingMemory,
    /// The ring that this side reads.
    pub(crate) rx: RingMemory,
}

/// The end that writes.
pub(super) struct Tx {
    pub(super) ring: Producer,
    pub(super) bytes: u64,
    /// Room that the last record did not find: poll waits for that much.
    pub(super) want: u32,
}

/// The end that reads.
pub(super) struct Rx {
    pub(super) ring: Consumer,
    pub(super) bytes: u64,
    /// Records that a read got only the beginning of.
    pub(super) truncated: u64,
}

/// The owner of channels. A tunnel implements it; whoever has an end calls it.
pub trait Owner: Send + Sync {
    /// Closes this side's end: nobody uses it any more.
    fn close(self: ArcBorrow<'_, Self>, channel: &Channel);
}

/// The surroundings of a new channel: its link, its owner and its memory.
pub(crate) struct Setup {
    /// The link that it is on.
    pub(crate) link: Arc<Link>,
    pub(crate) owner: Arc<dyn Owner>,
    /// The domain at the far end, as applications are told.
    pub(crate) far: u16,
    /// Offsets in the memory of the lines.
    pub(crate) lines: Lines,
    pub(crate) memory: Memory,
    /// Sizes of the rings that this side writes and reads.
    pub(crate) sizes: (u32, u32),
    /// Memory that is nobody else's, kept as long as the channel.
    pub(crate) keeps: Option<Arc<dyn Send + Sync>>,
}

/// One end of a connection over a link.
///
/// # Invariants
///
/// The channel's memory stays mapped while a [`AccessGuard`] of its link's gate is held and the
/// channel is in its tunnel's table.
#[pin_data]
pub struct Channel {
    /// The link that it is on.
    pub link: Arc<Link>,
    pub(super) owner: Arc<dyn Owner>,
    /// Its number and generation.
    pub id: ChannelId,
    /// Ports, from the opener's view.
    pub ports: Ports,
    /// The domain at the far end.
    pub(crate) far: u16,
    /// What it carries.
    pub kind: Kind,
    pub(super) lines: Lines,
    pub(super) memory: Memory,
    /// Sizes of the rings that this side writes and reads.
    pub(super) sizes: (u32, u32),
    /// Who waits at this end.
    pub waiter: Arc<Waiter>,
    #[pin]
    pub(super) tx: Mutex<Tx>,
    #[pin]
    pub(super) rx: Mutex<Rx>,
    /// Flags that this side set in its line.
    pub(super) flags: Atomic<u32>,
    /// The peer made its last access.
    peer_closed: Atomic<bool>,
    /// The errno that broke the channel, or 0.
    error: Atomic<u32>,
    /// Events sent for this channel.
    pub(crate) events: Atomic<u32>,
    _keeps: Option<Arc<dyn Send + Sync>>,
}

impl Channel {
    /// A channel on fresh rings.
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

    /// Zeroes both lines. Only the granter does this, before anyone else knows of
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
    pub fn error(&self) -> u32 {
        self.error.load(Relaxed)
    }

    /// Whether the channel is broken, or its link is gone.
    pub fn is_broken(&self) -> bool {
        self.error() != 0 || !self.link.is_open()
    }

    /// Ends the channel with an errno, unless it has one already.
    pub(crate) fn fail(&self, errno: Errno) {
        let _ = self.error.cmpxchg(0, errno as u32, Relaxed);
    }

    /// The peer made its last access: its flags are final.
    pub(crate) fn peer_closed(&self) {
        self.peer_closed.store(true, Release);
    }

    /// Ends the channel because the peer broke the protocol; counted once. Whoever
    /// found out may have been woken alone: all who wait are woken.
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

    /// Enters the link's gate, if nothing broke.
    pub(super) fn enter(&self) -> Result<AccessGuard, Stop> {
        if self.error.load(Relaxed) != 0 {
            return Err(Stop::Broken);
        }
        // One read-side section for both: whoever revokes one of them waits for it.
        let live = self.link.gate.try_access().ok_or(Stop::Broken)?;
        if self.memory.gate.is_revoked() {
            return Err(Stop::Broken);
        }
        Ok(live)
    }

    /// Enters to read, unless this side ended that.
    pub(super) fn enter_to_read(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::DEAF != 0 {
            return Err(Stop::End);
        }
        Ok(live)
    }

    /// Enters to write, unless one side ended that.
    pub(super) fn enter_to_write(&self) -> Result<AccessGuard, Stop> {
        let live = self.enter()?;
        if self.flags.load(Relaxed) & line::FIN != 0 || self.peer_flags(&live) & line::DEAF != 0 {
            return Err(Stop::Deaf);
        }
        Ok(live)
    }

    /// Whether a write could go on: neither side ended that, and nothing broke.
    ///
    /// # Errors
    /// Why it could not.
    pub fn may_write(&self) -> Result<(), Stop> {
        self.enter_to_write().map(drop)
    }

    /// The peer's flags; a closed channel has all but the reset.
    pub(super) fn peer_flags(&self, live: &AccessGuard) -> u32 {
        let closed = self.peer_closed.load(Acquire);
        let flags = peer_flags(&self.memory.lines.words(live), self.lines);
        if closed {
            flags | line::FIN | line::DEAF
        } else {
            flags
        }
    }

    /// The CPU that takes the events of this channel.
    pub(crate) fn event_cpu(&self) -> u32 {
        self.link.event_cpu(self.id.id)
    }

    /// Notifies the peer, if that is wanted.
    #[inline]
    pub(super) fn notify(&self, live: &AccessGuard, wanted: bool) {
        if wanted {
            self.events.add(1, Relaxed);
            self.link.notify(live, self.id.id);
        }
    }

    /// Sends the peer an event for what it was not told yet.
    pub fn tell_peer(&self) {
        if let Ok(live) = self.enter() {
            self.notify(&live, true);
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
                (next, idts_core::record::longest(free))
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
        ((self.sizes.0, tx.bytes), (self.sizes.1, rx.bytes))
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Groups: membership, slow subscribers, and the cost of a record.
//!
//! Decisions only: the caller tells how much [`Room`] a subscriber's ring has for a record, and
//! carries out the result. Records, rings, timers and names of groups are the caller's.
//! PROTOCOL.md sections 8.3 and 3.2.
//!
//! The broker and the tests run this.

use super::wire::{group, Kind, Refusal};

/// Largest number of groups at once, of all domains together.
pub const GROUPS_MAX: usize = 256;
/// Largest number of subscribers of a group.
pub const SUBSCRIBERS_MAX: usize = 256;
/// Nanoseconds for which a subscriber may block its publisher.
pub const BLOCK_NS: u64 = 1_000_000_000;
/// Largest cost of a subscriber that does not get a record, in bytes: its ring was looked at.
pub const SKIP_COST: u32 = 64;

/// Overflow policy of a subscriber, which the source port of its OPEN carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLag {
    /// The subscriber misses the record.
    Drop,
    /// The subscriber is disconnected.
    Disconnect,
    /// The publisher waits for the subscriber, if it allows that; otherwise as [`Self::Drop`].
    Block,
}

impl OnLag {
    /// Decodes the source port of an OPEN of kind Subscribe. `None`: it is unknown.
    pub const fn from_source(source: u32) -> Option<Self> {
        match source {
            group::DROP => Some(Self::Drop),
            group::DISCONNECT => Some(Self::Disconnect),
            group::BLOCK => Some(Self::Block),
            _ => None,
        }
    }
}

/// The members of a group: at most one publisher, and a number of subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    publisher: Option<bool>,
    subscribers: usize,
}

impl Members {
    /// No members.
    pub const NONE: Self = Self {
        publisher: None,
        subscribers: 0,
    };

    /// Adds a member, by the kind and the source port of its OPEN.
    ///
    /// # Errors
    /// [`Refusal::InUse`]: there is a publisher. [`Refusal::NoSpace`]: there are
    /// [`SUBSCRIBERS_MAX`] subscribers. [`Refusal::Refused`]: the kind is no group's.
    pub fn join(&mut self, kind: Kind, source: u32) -> Result<(), Refusal> {
        match kind {
            Kind::Publish if self.publisher.is_some() => Err(Refusal::InUse),
            Kind::Publish => {
                self.publisher = Some(source & group::MAY_BLOCK != 0);
                Ok(())
            }
            Kind::Subscribe if self.subscribers >= SUBSCRIBERS_MAX => Err(Refusal::NoSpace),
            Kind::Subscribe => {
                self.subscribers = self.subscribers.saturating_add(1);
                Ok(())
            }
            Kind::Stream | Kind::Record => Err(Refusal::Refused),
        }
    }

    /// Removes a subscriber. The other members do not notice.
    pub fn leave(&mut self) {
        self.subscribers = self.subscribers.saturating_sub(1);
    }

    /// Removes the publisher, after all that could be read from it was delivered. The caller ends
    /// all subscribers; each of them leaves.
    pub fn end(&mut self) {
        self.publisher = None;
    }

    /// Whether there is a publisher that lets subscribers block it.
    pub fn may_block(&self) -> bool {
        self.publisher == Some(true)
    }

    /// Whether there are no members, so that the group ceases to exist.
    pub const fn is_empty(&self) -> bool {
        self.publisher.is_none() && self.subscribers == 0
    }
}

/// Room of a subscriber's ring for a record, header and padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Enough,
    /// Too little now.
    TooLittle,
    /// Never enough, because the ring is smaller than the record.
    Never,
}

impl Room {
    /// The room for `frame` bytes in a ring of `size` bytes, `free` of which are free.
    pub const fn of(frame: u32, free: u32, size: u32) -> Self {
        if frame > size {
            Self::Never
        } else if frame > free {
            Self::TooLittle
        } else {
            Self::Enough
        }
    }
}

/// Effect of one subscriber on its publisher: whether the next record may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// It may be read.
    Go,
    /// It must wait: try again when the subscriber has room, or its time is over.
    Wait,
    /// It may be read, and the subscriber, whose time is over, is disconnected: RESET, then CLOSED.
    Disconnect,
}

/// Treatment of a record for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Copy the whole record.
    Copy,
    /// The subscriber misses the record: write this number of missed records into its line.
    Lag(u32),
    /// Disconnect the subscriber: RESET, then CLOSED.
    Disconnect,
    /// Do nothing: the subscriber is gone, or joined after the record was read.
    Nothing,
}

/// State of a subscriber.
///
/// ```
/// use idts_core::group::{Backpressure, Delivery, OnLag, Room, Subscriber};
///
/// let mut slow = Subscriber::new(OnLag::Block);
/// // A publisher that allows it waits, as long as its subscriber has no room for a record.
/// assert!(slow.can_block(true));
/// assert_eq!(slow.backpressure(Room::of(16, 8, 4096), 0), Backpressure::Wait);
/// assert_eq!(slow.backpressure(Room::of(16, 32, 4096), 5), Backpressure::Go);
/// slow.take();
/// assert_eq!(slow.deliver(Room::of(16, 32, 4096)), Delivery::Copy);
/// ```
///
/// # Invariants
/// One that is gone is not due and blocks no publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    on_lag: OnLag,
    lag: u32,
    /// Time since when it has blocked its publisher, in nanoseconds.
    blocked_since: Option<u64>,
    is_due: bool,
    is_gone: bool,
}

impl Subscriber {
    /// A subscriber that gets the next record first.
    pub const fn new(on_lag: OnLag) -> Self {
        Self {
            on_lag,
            lag: 0,
            blocked_since: None,
            is_due: false,
            is_gone: false,
        }
    }

    /// Whether it has left, or must be ended.
    pub const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether the record under way is still to be delivered to it.
    pub const fn is_due(&self) -> bool {
        self.is_due
    }

    /// Ends it: its channel is closed or broken, or its publisher has ended.
    pub fn end(&mut self) {
        self.is_gone = true;
        self.is_due = false;
        self.blocked_since = None;
    }

    /// Whether it can block the publisher, so that [`Self::backpressure`] must be asked before each
    /// record.
    pub fn can_block(&self, may_block: bool) -> bool {
        may_block && self.on_lag == OnLag::Block && !self.is_gone
    }

    /// Whether it blocks the publisher at `now`, in nanoseconds.
    pub fn backpressure(&mut self, room: Room, now: u64) -> Backpressure {
        if room != Room::TooLittle || self.is_gone {
            self.blocked_since = None;
            return Backpressure::Go;
        }
        let since = *self.blocked_since.get_or_insert(now);
        // Clocks of two CPUs may differ, so `now` may be before `since`.
        if now.saturating_sub(since) > BLOCK_NS {
            self.end();
            return Backpressure::Disconnect;
        }
        Backpressure::Wait
    }

    /// Notes that a record was read: it is due to every subscriber that is not gone.
    pub fn take(&mut self) {
        self.is_due = !self.is_gone;
    }

    /// Decides on the record under way, by the room for it.
    pub fn deliver(&mut self, room: Room) -> Delivery {
        if !core::mem::take(&mut self.is_due) {
            return Delivery::Nothing;
        }
        match (room, self.on_lag) {
            (Room::Enough, _) => Delivery::Copy,
            (_, OnLag::Disconnect) => {
                self.end();
                Delivery::Disconnect
            }
            (_, OnLag::Drop | OnLag::Block) => {
                self.lag = self.lag.wrapping_add(1);
                Delivery::Lag(self.lag)
            }
        }
    }
}

/// Cost of a record to its publisher's flow, subscriber by subscriber, because the flow's turn may
/// end between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordCost {
    frame: u32,
    paid: u32,
}

impl RecordCost {
    /// The cost of a record of `frame` bytes, header and padding included.
    pub const fn new(frame: u32) -> Self {
        Self { frame, paid: 0 }
    }

    /// Adds a subscriber. Its cost in bytes.
    pub fn add(&mut self, is_copied: bool) -> u32 {
        let cost = match is_copied {
            true => self.frame,
            false => SKIP_COST.min(self.frame),
        };
        self.paid = self.paid.saturating_add(cost);
        cost
    }

    /// The cost that remains after all subscribers: a record costs at least its own bytes.
    pub const fn rest(&self) -> u32 {
        self.frame.saturating_sub(self.paid)
    }
}

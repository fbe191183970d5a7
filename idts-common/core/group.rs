// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Groups: who may be in, what becomes of a slow subscriber, and what a record costs.
//!
//! Decides, for the rings of others: a caller tells how much [`Room`] a subscriber's ring
//! has for a record, and does what comes back. Records, rings, timers and who is called
//! what are left to the caller. PROTOCOL.md sections 8.3 and 3.2.
//!
//! The tests run this; the drivers have the bounds from here, and the rules in code of
//! their own still.

use super::wire::{group, Kind, Refusal};

/// Groups at once, of all domains together.
pub const GROUPS_MAX: usize = 256;
/// Subscribers of a group.
pub const SUBSCRIBERS_MAX: usize = 256;
/// How long a subscriber may hold its publisher up, in nanoseconds.
pub const HOLD_NS: u64 = 1_000_000_000;
/// What a subscriber costs that gets nothing of a record, at most: a look at its ring.
pub const LOOK_COST: u32 = 64;

/// What a subscriber wants done when it is slow: the source of its OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLag {
    /// It misses the record.
    Drop,
    /// It is disconnected.
    Disconnect,
    /// The publisher waits for it, if it agrees to that; or else it misses the record.
    Block,
}

impl OnLag {
    /// By the source of an OPEN of kind Subscribe.
    pub const fn from_source(source: u32) -> Option<Self> {
        match source {
            group::DROP => Some(Self::Drop),
            group::DISCONNECT => Some(Self::Disconnect),
            group::BLOCK => Some(Self::Block),
            _ => None,
        }
    }
}

/// Who is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    publisher: Option<bool>,
    subscribers: usize,
}

impl Members {
    /// Nobody.
    pub const NONE: Self = Self {
        publisher: None,
        subscribers: 0,
    };

    /// One more wants to be in, with the kind and the source of its OPEN.
    ///
    /// # Errors
    /// Why it may not: there is a publisher, there are too many, or it is no group's.
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

    /// A subscriber has left; nobody else notices.
    pub fn leave(&mut self) {
        self.subscribers = self.subscribers.saturating_sub(1);
    }

    /// The publisher has ended, and what could be read of it is delivered: all
    /// subscribers are to be ended, each leaves then.
    pub fn end(&mut self) {
        self.publisher = None;
    }

    /// Whether the publisher agrees to wait for subscribers.
    pub fn may_block(&self) -> bool {
        self.publisher == Some(true)
    }

    /// Whether nobody is in, so that there is no such group any more.
    pub const fn is_empty(&self) -> bool {
        self.publisher.is_none() && self.subscribers == 0
    }
}

/// What a subscriber's ring has for a record, header and padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Enough,
    /// Not enough now.
    TooLittle,
    /// Never enough: the ring is smaller than the record.
    Never,
}

impl Room {
    /// The room for `frame` bytes in a ring of `size` bytes of which `free` are.
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

/// Whether the next record may be taken, as far as one subscriber is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It may.
    Go,
    /// Not yet: look again when there is room, or when the subscriber's time is over.
    Wait,
    /// It may, and the subscriber is disconnected: RESET, then CLOSED. Its time was over.
    Disconnect,
}

/// What becomes of a record that was taken, for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Copy it, whole.
    Copy,
    /// It misses the record: show it that it missed so many.
    Lag(u32),
    /// It is disconnected: RESET, then CLOSED.
    Disconnect,
    /// Nothing: it is gone, or came after the record was taken.
    Nothing,
}

/// A subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    on_lag: OnLag,
    lag: u32,
    /// Since when it holds its publisher up.
    held_since: Option<u64>,
    is_due: bool,
    is_gone: bool,
}

impl Subscriber {
    /// One that is in from the next record on.
    pub const fn new(on_lag: OnLag) -> Self {
        Self {
            on_lag,
            lag: 0,
            held_since: None,
            is_due: false,
            is_gone: false,
        }
    }

    /// Whether it has left, or is to be ended.
    pub const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether it is to get the record that was taken.
    pub const fn is_due(&self) -> bool {
        self.is_due
    }

    /// It ends: its channel is closed or broken, or its publisher has ended.
    pub fn end(&mut self) {
        self.is_gone = true;
        self.is_due = false;
        self.held_since = None;
    }

    /// Whether its ring must be looked at before a record is taken: only then comes
    /// [`Self::hold`].
    pub fn can_hold(&self, may_block: bool) -> bool {
        may_block && self.on_lag == OnLag::Block && !self.is_gone
    }

    /// Whether it holds up a publisher that has agreed to that, at `now` in nanoseconds.
    pub fn hold(&mut self, room: Room, now: u64) -> Hold {
        if room != Room::TooLittle || self.is_gone {
            self.held_since = None;
            return Hold::Go;
        }
        let since = *self.held_since.get_or_insert(now);
        // Clocks of two CPUs may differ a little.
        if now.saturating_sub(since) > HOLD_NS {
            self.end();
            return Hold::Disconnect;
        }
        Hold::Wait
    }

    /// A record is taken, for all who are in.
    pub fn take(&mut self) {
        self.is_due = !self.is_gone;
    }

    /// It is its turn to get the record that was taken.
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

/// What a record has cost its publisher's flow so far. Its turn may end between two
/// subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    frame: u32,
    paid: u32,
}

impl Bill {
    /// Of a record that takes `frame` bytes in a ring.
    pub const fn new(frame: u32) -> Self {
        Self { frame, paid: 0 }
    }

    /// What a subscriber costs, that got the record or did not.
    pub fn add(&mut self, is_copied: bool) -> u32 {
        let cost = match is_copied {
            true => self.frame,
            false => LOOK_COST.min(self.frame),
        };
        self.paid = self.paid.saturating_add(cost);
        cost
    }

    /// What is left to be paid when all have had it: no record costs less than its own bytes.
    pub const fn rest(&self) -> u32 {
        self.frame.saturating_sub(self.paid)
    }
}

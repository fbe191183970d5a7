// SPDX-License-Identifier: GPL-2.0

//! Reads and writes under a cap. They are charged before they move bytes, so that a wait for a
//! turn holds nothing, and a nonblocking call does not wait.

use kernel::prelude::*;

use super::endpoint::Endpoint;
use crate::channel::{Channel, Readiness, Stop};
use crate::link::throttle::{Throttle, Turn, UNLIMITED};
use crate::sys::busy_poll::BusyPoll;

/// The reason why a read or a write moved nothing.
pub(super) enum Blocked {
    /// The channel cannot go on.
    Stop(Stop),
    /// The cap allows nothing before the next turn.
    Turn(Turn),
}

impl From<Stop> for Blocked {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Endpoint {
    /// Charges a read of `len` bytes once there is data. Returns the bytes that it may take.
    ///
    /// # Errors
    /// The reason why it may take none.
    pub(super) fn charge_read(
        &self,
        channel: &Channel,
        len: u32,
        reader: Option<&BusyPoll>,
    ) -> Result<u32, Blocked> {
        let Some(throttle) = channel.link.cap() else {
            return Ok(UNLIMITED);
        };
        // Nothing is consumed before the charge, so data that arrives during the spin is charged
        // as well.
        channel.await_data(reader)?;
        let there = channel.levels().0;
        charge(&**throttle, channel, there.min(len), reader.is_none())
    }

    /// Charges a write of `len` bytes. Returns the bytes that it may put into the ring.
    ///
    /// # Errors
    /// The reason why it may put none.
    pub(super) fn charge_write(
        &self,
        channel: &Channel,
        len: u32,
        nonblock: bool,
    ) -> Result<u32, Blocked> {
        let Some(throttle) = channel.link.cap() else {
            return Ok(UNLIMITED);
        };
        channel.may_write()?;
        let free = channel.levels().1;
        charge(&**throttle, channel, free.min(len), nonblock)
    }

    /// Arms for the next turn after a partial transfer, and wakes pollers at once if there is no
    /// need to wait.
    pub(super) fn watch_turn(&self, channel: &Channel) {
        if let Some(throttle) = channel.link.cap() {
            arm(&**throttle, channel);
            if throttle.may_charge() {
                channel.waiter.tell_turn();
            }
        }
    }

    /// Clears the poll state that the cap does not allow now, and arms for the next turn.
    pub(super) fn hold_back(&self, channel: &Channel, ready: &mut Readiness) {
        if !(ready.gives || ready.takes) {
            return;
        }
        let Some(throttle) = channel.link.cap() else {
            return;
        };
        arm(&**throttle, channel);
        if !throttle.may_charge() {
            ready.readable &= !ready.gives;
            ready.writable &= !ready.takes;
            // There is data before the end, which poll has to report first.
            ready.read_ended &= !ready.gives;
            ready.hung_up &= !ready.gives;
        }
    }
}

/// Settles a charge with the bytes that were moved.
#[inline]
pub(super) fn settle(channel: &Channel, charged: u32, used: u32) {
    if charged != UNLIMITED {
        if let Some(throttle) = channel.link.throttle() {
            throttle.settle(charged, used);
        }
    }
}

/// Sleeps until there is a turn after `turn`, or until the channel breaks.
///
/// # Errors
/// `ERESTARTSYS`: a signal came.
pub(super) fn wait_turn(channel: &Channel, turn: Turn) -> Result {
    match channel.link.throttle() {
        Some(throttle) => throttle.wait_turn(turn, &|| channel.error() != 0),
        None => Ok(()),
    }
}

/// Arms for the next turn.
fn arm(throttle: &dyn Throttle, channel: &Channel) {
    channel.waiter.turn.arm();
    throttle.arm_turn();
}

/// Charges `want` bytes; with `nonblock` it arms for the next turn first.
fn charge(
    throttle: &dyn Throttle,
    channel: &Channel,
    want: u32,
    nonblock: bool,
) -> Result<u32, Blocked> {
    if nonblock {
        // Before the charge, so that a turn right after it is not missed.
        arm(throttle, channel);
    }
    throttle.charge(want).map_err(Blocked::Turn)
}

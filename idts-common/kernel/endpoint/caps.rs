// SPDX-License-Identifier: GPL-2.0

//! Reads and writes under a cap: they are charged before they move, so that whoever
//! waits for a turn waits without anything held, and with O_NONBLOCK not at all.

use kernel::prelude::*;

use super::endpoint::Endpoint;
use crate::channel::{Channel, Readiness, Stop};
use crate::link::throttle::{Throttle, Turn, UNLIMITED};
use crate::sys::busy_poll::BusyPoll;

/// Why a read or a write moved nothing.
pub(super) enum Blocked {
    /// The channel says why.
    Stop(Stop),
    /// A cap lets nothing move before the next turn.
    Turn(Turn),
}

impl From<Stop> for Blocked {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Endpoint {
    /// Bytes that a read of `len` may take, once there are some.
    pub(super) fn charge_read(
        &self,
        channel: &Channel,
        len: u32,
        reader: Option<&BusyPoll>,
    ) -> Result<u32, Blocked> {
        let Some(throttle) = channel.link.cap() else {
            return Ok(UNLIMITED);
        };
        // What comes while it spins is charged as well: nothing is taken before.
        channel.await_data(reader)?;
        let there = channel.levels().0;
        charge(&**throttle, channel, there.min(len), reader.is_none())
    }

    /// Bytes that a write of `len` may put into the ring.
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

    /// After less was moved than there was: whoever waits by poll is told when it may go
    /// on.
    pub(super) fn watch_turn(&self, channel: &Channel) {
        if let Some(throttle) = channel.link.cap() {
            arm(&**throttle, channel);
            if throttle.may_charge() {
                channel.waiter.tell_turn();
            }
        }
    }

    /// For poll: takes back what a cap does not allow now, and has the next turn told.
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
            // There is something before the end, and a poll must wait for it.
            ready.read_ended &= !ready.gives;
            ready.hung_up &= !ready.gives;
        }
    }
}

/// Ends a charge.
#[inline]
pub(super) fn settle(channel: &Channel, charged: u32, used: u32) {
    if charged != UNLIMITED {
        if let Some(throttle) = channel.link.throttle() {
            throttle.settle(charged, used);
        }
    }
}

/// Sleeps until there was a turn after `turn`, or the channel is over.
pub(super) fn wait_turn(channel: &Channel, turn: Turn) -> Result {
    match channel.link.throttle() {
        Some(throttle) => throttle.wait_turn(turn, &|| channel.error() != 0),
        None => Ok(()),
    }
}

fn arm(throttle: &dyn Throttle, channel: &Channel) {
    channel.waiter.turn.arm();
    throttle.arm_turn();
}

fn charge(
    throttle: &dyn Throttle,
    channel: &Channel,
    want: u32,
    nonblock: bool,
) -> Result<u32, Blocked> {
    if nonblock {
        // Before the charge: a turn that comes at once is told as well.
        arm(throttle, channel);
    }
    throttle.charge(want).map_err(Blocked::Turn)
}

// SPDX-License-Identifier: GPL-2.0

//! Reads and writes under a cap: what they may move is claimed before, so that what
//! waits for its turn waits without anything held, and with O_NONBLOCK not at all.

use kernel::prelude::*;

use super::Endpoint;
use crate::channel::{Channel, Readiness, Stop};
use crate::sys::busy_poll::BusyPoll;
use crate::tunnel::ALL;

impl Endpoint {
    /// Bytes that a read of `len` may take, once there are some.
    pub(super) fn claim_to_read(
        &self,
        channel: &Channel,
        len: u32,
        reader: Option<&BusyPoll>,
    ) -> Result<u32, Stop> {
        if !channel.tunnel.is_capped() {
            return Ok(ALL);
        }
        // What comes while it looks is claimed as well: nothing is taken before.
        channel.await_data(reader)?;
        let there = channel.levels().0;
        claim(channel, there.min(len), reader.is_none())
    }

    /// Bytes that a write of `len` may put into the ring.
    pub(super) fn claim_to_write(
        &self,
        channel: &Channel,
        len: u32,
        nonblock: bool,
    ) -> Result<u32, Stop> {
        if !channel.tunnel.is_capped() {
            return Ok(ALL);
        }
        drop(channel.enter_to_write()?);
        let free = channel.levels().1;
        claim(channel, free.min(len), nonblock)
    }

    /// After less was moved than there was: who waits by poll is told when it may go
    /// on.
    pub(super) fn watch_turn(&self, channel: &Channel) {
        if channel.tunnel.is_capped() {
            channel.tunnel.arm_turn(channel);
            if channel.tunnel.may_claim() {
                channel.waiter.tell_turn();
            }
        }
    }

    /// For poll: takes back what a cap does not allow now, and has the next turn told.
    pub(super) fn hold_back(&self, channel: &Channel, ready: &mut Readiness) {
        if !(ready.gives || ready.takes) || !channel.tunnel.is_capped() {
            return;
        }
        channel.tunnel.arm_turn(channel);
        if !channel.tunnel.may_claim() {
            ready.readable &= !ready.gives;
            ready.writable &= !ready.takes;
            // There is something before the end, and a poll must wait for it.
            ready.read_ended &= !ready.gives;
            ready.hung_up &= !ready.gives;
        }
    }
}

fn claim(channel: &Channel, want: u32, nonblock: bool) -> Result<u32, Stop> {
    if nonblock {
        // Before the claim: a turn that comes at once is told as well.
        channel.tunnel.arm_turn(channel);
    }
    channel.tunnel.claim(want)
}

// SPDX-License-Identifier: GPL-2.0

//! `poll(2)`: the current events, and arming for the next ones.

use core::pin::Pin;

use kernel::sync::atomic::Relaxed;

use super::endpoint::{Endpoint, State};
use crate::channel::{Channel, Readiness};
use crate::sys::bindings;

impl Endpoint {
    /// `poll(2)`: returns the current events.
    ///
    /// # Safety
    ///
    /// `file` and `table` are what `file_operations.poll` was called with, for a file that holds
    /// this endpoint.
    pub(crate) unsafe fn poll(
        &self,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> u32 {
        // SAFETY: The queue is part of the pinned sleepers, which the endpoint keeps for
        // as long as the file is open; the rest as above.
        unsafe {
            let queue = Pin::new_unchecked(&self.sleepers.queue);
            queue.poll(file, table);
        }
        self.polled.store(true, Relaxed);
        match self.channel.as_ref() {
            Some(channel) => self.poll_channel(channel),
            None => self.poll_state(),
        }
    }

    /// Returns the events of a channel, and arms for those that do not hold.
    fn poll_channel(&self, channel: &Channel) -> u32 {
        // The peer may end a direction while there is data to read.
        channel.waiter.ends.arm();
        let mut ready = channel.readiness();
        if !ready.readable {
            channel.waiter.read.arm();
            if channel.arm_read() {
                ready = channel.readiness();
            }
        }
        if !ready.writable && channel.arm_write(channel.room_for_poll()) {
            ready = channel.readiness();
        }
        self.hold_back(channel, &mut ready);
        events(ready)
    }

    /// Returns the events of an endpoint without a channel.
    fn poll_state(&self) -> u32 {
        let inner = self.inner.lock();
        match &inner.state {
            State::Listening { queue, .. } if !queue.is_empty() => {
                bindings::POLLIN | bindings::POLLRDNORM
            }
            State::Listening { .. } | State::Connecting { .. } => 0,
            State::Connected => {
                drop(inner);
                // The channel was attached after the check.
                self.channel.as_ref().map_or(0, |c| self.poll_channel(c))
            }
            _ if inner.error.is_some() => bindings::POLLOUT | bindings::POLLERR | bindings::POLLHUP,
            _ => bindings::POLLOUT | bindings::POLLHUP,
        }
    }
}

/// Translates a readiness into poll events.
fn events(ready: Readiness) -> u32 {
    let when = |condition, events| if condition { events } else { 0 };
    when(ready.readable, bindings::POLLIN | bindings::POLLRDNORM)
        | when(ready.writable, bindings::POLLOUT | bindings::POLLWRNORM)
        | when(ready.read_ended, bindings::POLLRDHUP)
        | when(ready.hung_up, bindings::POLLHUP)
        | when(ready.error, bindings::POLLERR)
}

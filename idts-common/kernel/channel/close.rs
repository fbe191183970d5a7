// SPDX-License-Identifier: GPL-2.0

//! Shutdown of the directions of a channel, and of the channel.

use idts_core::ring::set_flags;
use idts_core::wire::line;
use kernel::sync::atomic::Relaxed;

use super::channel::Channel;
use crate::sys::errno::Errno;

impl Channel {
    /// Ends one or both directions, by flags of [`line`], and notifies the peer.
    pub fn shutdown(&self, flags: u32) {
        self.end(flags, None);
    }

    /// As [`Self::shutdown`]; with an errno the channel is broken as well.
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

    /// Ends both directions and tells the peer that data under way is lost.
    pub fn reset(&self) {
        self.shutdown(line::FIN | line::DEAF | line::RESET);
    }

    /// Ends the channel for both sides with `ECONNRESET`, because the right to it was revoked.
    pub(crate) fn revoke(&self) {
        self.end(line::FIN | line::DEAF | line::RESET, Some(Errno::ConnReset));
        self.waiter.kick();
        if let Some(throttle) = self.link.throttle() {
            throttle.wake();
        }
    }

    /// Sets the last flags of a channel that its application closed: a reset if there is unread
    /// data.
    pub(crate) fn hang_up(&self) {
        let unread = self.levels().0 > 0;
        let reset = if unread { line::RESET } else { 0 };
        self.shutdown(line::FIN | line::DEAF | reset);
    }

    /// Closes this end, which the caller does not access any more.
    pub fn close(&self) {
        self.owner.as_arc_borrow().close(self);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Ending directions of a channel, and the channel.

use idts_core::ring::set_flags;
use idts_core::wire::line;
use kernel::sync::atomic::Relaxed;

use super::channel::Channel;
use crate::sys::errno::Errno;

impl Channel {
    /// Ends one or both directions, by flags of [`line`], and tells the peer.
    pub fn shutdown(&self, flags: u32) {
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

    /// Tells the peer that the data under way is lost.
    pub fn reset(&self) {
        self.shutdown(line::FIN | line::DEAF | line::RESET);
    }

    /// Ends the channel for both sides: the right to it was taken away.
    pub(crate) fn revoke(&self) {
        self.end(line::FIN | line::DEAF | line::RESET, Some(Errno::ConnReset));
        self.waiter.kick();
        if let Some(throttle) = self.link.throttle() {
            throttle.wake();
        }
    }

    /// The last flags of a channel that its application closed.
    pub(crate) fn hang_up(&self) {
        let unread = self.levels().0 > 0;
        let reset = if unread { line::RESET } else { 0 };
        self.shutdown(line::FIN | line::DEAF | reset);
    }

    /// Closes this end: nobody uses it any more.
    pub fn close(&self) {
        self.owner.as_arc_borrow().close(self);
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! How often a peer can make us write to the log: a line a minute, and the rest
//! is counted. PROTOCOL.md section 9.1.

/// Nanoseconds from one line to the next.
pub const PAUSE: u64 = 60_000_000_000;

/// The lines that one domain causes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// When the last one was written; none was yet.
    last: Option<u64>,
    /// Left out since then.
    since: u64,
    /// Left out in all.
    left_out: u64,
}

impl Lines {
    /// None yet.
    pub const NONE: Self = Self {
        last: None,
        since: 0,
        left_out: 0,
    };

    /// Something happened that the log is to have. Where it may have a line now:
    /// how many were left out since the last one. None: this one is left out.
    pub fn take(&mut self, now: u64) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_sub(last) < PAUSE)
        {
            self.since = self.since.saturating_add(1);
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(core::mem::take(&mut self.since))
    }

    /// Lines that were left out, ever.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

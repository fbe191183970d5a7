// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Rate limit of log lines that a peer can cause: one a minute; the rest is counted.
//!
//! Like Linux's `struct ratelimit_state`, without a clock or a lock of its own.
//! PROTOCOL.md section 9.1.

/// Nanoseconds from one line to the next.
pub const INTERVAL_NS: u64 = 60_000_000_000;

/// The rate limit of one domain's lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimit {
    /// Time of the last line, in nanoseconds.
    last: Option<u64>,
    /// Lines suppressed since then.
    since: u64,
    /// Lines suppressed in all.
    suppressed: u64,
}

impl LogLimit {
    /// The state before the first line.
    pub const NEW: Self = Self {
        last: None,
        since: 0,
        suppressed: 0,
    };

    /// Asks for a line at `now` in nanoseconds. `Some`: it may be written, with the number of
    /// lines suppressed since the last one. `None`: it is suppressed, and counted.
    pub fn allow(&mut self, now: u64) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_sub(last) < INTERVAL_NS)
        {
            self.since = self.since.saturating_add(1);
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(core::mem::take(&mut self.since))
    }

    /// Number of lines suppressed since the start.
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

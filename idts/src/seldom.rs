// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines that peers cause, so many of them that none floods a log.

use std::time::{Duration, Instant};

use crate::output::say;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// Says a line once a minute at most, and with the next one how many were left out.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Says `line`, or counts it.
    pub fn say(&mut self, line: &str) {
        if let Some(line) = self.judge(line, Instant::now()) {
            say(line);
        }
    }

    /// What is said of `line` at the time `now`.
    pub fn judge(&mut self, line: &str, now: Instant) -> Option<String> {
        if self.last.is_some_and(|last| now - last < PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(match std::mem::take(&mut self.left_out) {
            0 => line.into(),
            more => format!("{line} ({more} more lines were left out)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_minute() {
        let mut seldom = Seldom::default();
        let start = Instant::now();
        let said =
            |second: u64| seldom.judge(&second.to_string(), start + Duration::from_secs(second));
        let lines: Vec<_> = (0..100).filter_map(said).collect();
        assert_eq!(lines, ["0", "60 (59 more lines were left out)"]);
    }
}

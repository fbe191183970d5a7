// SPDX-License-Identifier: GPL-2.0
//! How often one domain is looked at: the more it keeps the tool busy, the less.

use std::time::{Duration, Instant};

/// Pauses that double, up to a minute, while there is no calm between two looks.
#[derive(Debug)]
pub struct Pace {
    first: Duration,
    pause: Duration,
    /// The next look is not before.
    open_at: Option<Instant>,
    /// A look after this one comes after a calm.
    calm_at: Option<Instant>,
}

const MOST: Duration = Duration::from_secs(60);

impl Pace {
    pub const fn new(first: Duration) -> Self {
        Self {
            first,
            pause: first,
            open_at: None,
            calm_at: None,
        }
    }

    /// When to look at what happens now.
    pub fn next(&self, now: Instant) -> Instant {
        self.open_at.map_or(now, |at| at.max(now))
    }

    /// One looks now.
    pub fn look(&mut self, now: Instant) {
        let is_calm = self.calm_at.is_none_or(|at| now >= at);
        self.pause = if is_calm {
            self.first
        } else {
            (self.pause * 2).min(MOST)
        };
        self.open_at = Some(now + self.pause);
        self.calm_at = Some(now + self.pause * 4);
    }

    /// All is well again.
    pub fn rest(&mut self) {
        *self = Self::new(self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);

    #[test]
    fn who_keeps_on_is_looked_at_less_and_less() {
        let start = Instant::now();
        let mut pace = Pace::new(FIRST);
        let mut now = start;
        let mut looks = 0;
        // Something happens all the time, for an hour.
        while now < start + Duration::from_secs(3600) {
            now = pace.next(now);
            pace.look(now);
            looks += 1;
        }
        assert!((60..80).contains(&looks), "{looks}");
        // After a calm all is as at the start.
        now += MOST * 5;
        assert_eq!(pace.next(now), now);
        pace.look(now);
        assert_eq!(pace.next(now), now + FIRST);
    }
}

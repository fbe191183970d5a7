// SPDX-License-Identifier: GPL-2.0
//! What `watch` knows of one domain.

use std::time::{Duration, Instant};

use idts::seldom::Seldom;

use crate::command::Manager;
use crate::model::{Tunnel, Wish};
use crate::pace::Pace;
use crate::text::Name;

/// The first pause after an event, and after a failure or while something is under
/// way.
const EVENT: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);

/// What a domain was told of tunnels that come when they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    OnDemand,
}

/// What is known of a domain since it was seen first.
#[derive(Debug)]
pub struct Seen {
    /// When to look at it.
    pub due: Option<Instant>,
    /// It was not among the domains when they were counted last.
    pub is_gone: bool,
    pub pace: Pace,
    /// Of looks at what is under way or failed.
    pub again: Pace,
    pub lines: Seldom,
    /// Who it was at the last look: its UUID and name.
    pub who: Option<(Option<String>, Name)>,
    /// It may have a tunnel, and what it asks is heard.
    pub is_allowed: bool,
    pub told: Option<Told>,
    /// It has what the settings file says.
    pub is_told: bool,
    pub has_tunnel: bool,
    /// It had one, so that who removed it had a reason.
    pub had_tunnel: bool,
    pub wish: Wish,
    /// Since when nobody uses the tunnel, and its count of channels then.
    pub idle: Option<(Instant, u64)>,
    /// It has been idle for long enough.
    pub is_over: bool,
}

impl Seen {
    /// One that is to be looked at.
    pub fn due(now: Instant) -> Self {
        Self {
            due: Some(now),
            is_gone: false,
            pace: Pace::new(EVENT),
            again: Pace::new(AGAIN),
            lines: Seldom::default(),
            who: None,
            is_allowed: false,
            told: None,
            is_told: false,
            has_tunnel: false,
            had_tunnel: false,
            wish: Wish::None,
            idle: None,
            is_over: false,
        }
    }

    /// Something happened to it.
    pub fn hear(&mut self, now: Instant) {
        let at = self.pace.next(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// It is to be looked at again, if nothing happens before.
    pub fn again(&mut self, now: Instant) {
        self.again.look(now);
        let at = self.again.next(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Looks whether its tunnel is used; false if nobody can tell.
    pub fn tick(&mut self, manager: &Manager<'_>, id: u16, limit: Duration, now: Instant) -> bool {
        let tunnel = Tunnel {
            front: id,
            back: manager.domain,
        };
        let Some(counters) = manager.kernel.counters(tunnel) else {
            self.idle = None;
            return false;
        };
        let count = |name| counters.get(name).copied().unwrap_or_default();
        let opened = count("opened");
        if count("channels") > 0 || self.wish != Wish::None {
            self.idle = None;
            return true;
        }
        let (since, before) = *self.idle.get_or_insert((now, opened));
        if before != opened {
            self.idle = Some((now, opened));
        } else if now.saturating_duration_since(since) >= limit {
            self.is_over = true;
            self.hear(now);
        }
        true
    }
}

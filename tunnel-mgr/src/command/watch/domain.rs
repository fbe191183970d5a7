// SPDX-License-Identifier: GPL-2.0
//! What `watch` knows of one domain, and what it does for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::attach::{create, say_lost, Created};
use super::super::{detach, Manager};
use super::Watcher;
use crate::model::{ask_path, tell_on_demand, wish, Tunnel, Wish};
use crate::pace::{Lines, Pace};
use crate::settings::Detached;
use crate::store::transact;
use crate::text::Name;
use crate::{say, store, sweep};

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
    pub pace: Pace,
    /// Of looks at what is under way or failed.
    again: Pace,
    pub lines: Lines,
    /// Who it was at the last look: its UUID and name.
    who: Option<(Option<String>, Name)>,
    /// It may have a tunnel, and what it asks is heard.
    pub is_allowed: bool,
    pub told: Option<Told>,
    /// It has what the settings file says.
    pub is_told: bool,
    pub has_tunnel: bool,
    /// It had one, so that who removed it had a reason.
    had_tunnel: bool,
    wish: Wish,
    /// Since when nobody uses the tunnel, and its count of channels then.
    idle: Option<(Instant, u64)>,
    /// It has been idle for long enough.
    is_over: bool,
}

impl Seen {
    /// One that is to be looked at.
    pub fn due(now: Instant) -> Self {
        Self {
            due: Some(now),
            pace: Pace::new(EVENT),
            again: Pace::new(AGAIN),
            lines: Lines::default(),
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

impl Watcher {
    /// Does what is to be done for a domain now; false if it has gone.
    pub fn look_at(
        &mut self,
        manager: &mut Manager<'_>,
        id: u16,
        seen: &mut Seen,
        now: Instant,
    ) -> Result<bool> {
        let tunnel = Tunnel {
            front: id,
            back: manager.domain,
        };
        if !store::is_alive(manager.store, id)? {
            sweep::one(manager, tunnel)?;
            sweep::one_setting(manager, id);
            return Ok(false);
        }
        // Its name comes after its folder, with an event of its own.
        let Some(name) = store::name_of(manager.store, id) else {
            return Ok(true);
        };
        self.meet(manager, id, &name, seen)?;
        sweep::one(manager, tunnel)?;
        seen.wish = if seen.is_allowed {
            wish(manager.store, id)?
        } else {
            Wish::None
        };
        let ends = tunnel.ends(manager.store)?;
        seen.has_tunnel = !ends.are_absent();
        if !seen.has_tunnel {
            seen.idle = None;
            seen.is_over = false;
            self.attach(manager, tunnel, &name, seen, now)?;
            return Ok(true);
        }
        seen.had_tunnel = true;
        if !tunnel.is_online(manager.store)? {
            // Somebody detaches: what is left is removed then.
            seen.again(now);
            return Ok(true);
        }
        seen.again.rest();
        if std::mem::take(&mut seen.is_over) && seen.wish == Wish::None {
            detach::begin(manager, tunnel)?;
            say::event(&format!("detached domain {id} ({name}): idle"));
            seen.idle = None;
            seen.again(now);
        }
        Ok(true)
    }

    /// Sees to what depends on who the domain is.
    fn meet(
        &mut self,
        manager: &mut Manager<'_>,
        id: u16,
        name: &Name,
        seen: &mut Seen,
    ) -> Result<()> {
        let who = (store::uuid_of(manager.store, id), name.clone());
        if seen.who.as_ref().is_some_and(|(uuid, _)| *uuid != who.0) {
            // Another one has its id.
            let due = seen.due;
            *seen = Seen::due(Instant::now());
            seen.due = due;
        }
        let is_allowed = self.allows(name);
        if is_allowed != seen.is_allowed {
            let path = ask_path(id);
            match is_allowed {
                true => store::watch(manager.store, &path)?,
                false => drop(manager.store.unwatch(&path)),
            }
            seen.is_allowed = is_allowed;
        }
        if seen.who.as_ref() != Some(&who) {
            seen.is_told = false;
        }
        if let (Some(file), false) = (&self.file, seen.is_told) {
            let said = file.said(who.0.as_deref(), name);
            let settings = manager.settings();
            transact(manager.store, |store| settings.apply(store, id, &said))
                .context("cannot set what the file says")?;
            seen.is_told = true;
        }
        seen.who = Some(who);
        let told = match self.idle {
            Some(_) if is_allowed => Told::OnDemand,
            _ => Told::Nothing,
        };
        if seen.told != Some(told) {
            tell_on_demand(manager.store, id, manager.domain, told == Told::OnDemand)?;
            seen.told = Some(told);
        }
        Ok(())
    }

    /// Attaches a domain that has no tunnel, if it should have one.
    fn attach(
        &mut self,
        manager: &mut Manager<'_>,
        tunnel: Tunnel,
        name: &Name,
        seen: &mut Seen,
        now: Instant,
    ) -> Result<()> {
        let id = tunnel.front;
        if !seen.is_allowed {
            return Ok(());
        }
        if seen.wish != Wish::Attach {
            let stays = match manager.settings().detached(manager.store, id)? {
                Some(Detached::ByHand) => true,
                // It would wait for its guest to ask, and nobody would hear that.
                Some(Detached::Idle) => self.idle.is_some(),
                None => false,
            };
            if seen.had_tunnel || stays {
                return Ok(());
            }
        }
        let lost = self.lost(manager, id, name)?;
        match create(manager, tunnel)? {
            Created::New => {
                say::event(&format!("attached domain {id} ({name})"));
                lost.iter().for_each(|lost| say::remark(lost));
            }
            Created::There(_) => {}
            Created::Held => {
                seen.again(now);
                return Ok(());
            }
        }
        seen.again.rest();
        seen.has_tunnel = true;
        seen.had_tunnel = true;
        Ok(())
    }

    /// What to say of a domain that comes without what its name had.
    fn lost(&mut self, manager: &mut Manager<'_>, id: u16, name: &Name) -> Result<Option<String>> {
        let settings = manager.settings();
        if settings.has_any(manager.store, id)? {
            return Ok(None);
        }
        let lost = match &mut self.lost {
            Some(lost) => lost,
            lost => lost.insert(settings.lost(manager.store)?),
        };
        let uuid = store::uuid_of(manager.store, id);
        let own = |(_, had): &(Vec<u8>, String)| Some(had) == uuid.as_ref();
        if lost.iter().any(own) {
            return Ok(None);
        }
        Ok(say_lost(id, name, uuid.as_deref(), lost))
    }
}

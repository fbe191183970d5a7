// SPDX-License-Identifier: GPL-2.0
//! What `watch` does for one domain.

use std::time::Instant;

use anyhow::{Context, Result};

use super::seen::{Seen, Told};
use super::Watcher;
use crate::command::attach::{create, say_lost, Created};
use crate::command::{detach, Manager};
use crate::model::{ask_path, tell_on_demand, wish, Tunnel, Wish};
use crate::settings::Detached;
use crate::store::{self, transact};
use crate::text::Name;
use crate::{say, sweep};

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
            let put_away = sweep::one_setting(manager, id).is_some();
            let uuid = seen.who.take().and_then(|(uuid, _)| uuid);
            if let (true, Some(uuid)) = (put_away, uuid) {
                self.give_to_heir(manager, &uuid, now);
            }
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

    /// Other domains of that UUID: one that is being migrated within this host is two.
    fn twins(&self, uuid: &str) -> Vec<u16> {
        let is_it = |seen: &Seen| {
            let of = seen.who.as_ref().and_then(|(of, _)| of.as_deref());
            of == Some(uuid) && !seen.is_gone
        };
        let twins = self.seen.iter().filter(|(_, seen)| is_it(seen));
        twins.map(|(id, _)| *id).collect()
    }

    /// Has what was put away for a UUID be that of a domain that has it.
    fn give_to_heir(&mut self, manager: &mut Manager<'_>, uuid: &str, now: Instant) {
        for id in self.twins(uuid) {
            sweep::give_back(manager, id);
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.is_told = false;
                seen.again.rest();
                seen.due = Some(now);
            }
        }
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
            let settings = manager.settings();
            let uuid = who.0.as_deref();
            for twin in uuid.map(|uuid| self.twins(uuid)).unwrap_or_default() {
                for (from, to) in [(twin, id), (id, twin)] {
                    transact(manager.store, |store| settings.inherit(store, from, to))?;
                }
            }
        }
        if let (Some(file), false) = (&self.file, seen.is_told) {
            let said = file.said(who.0.as_deref(), name);
            let settings = manager.settings();
            let typed = transact(manager.store, |store| settings.apply(store, id, &said))
                .context("cannot set what the file says")?;
            if !typed.is_empty() {
                let keys = typed.join(", ");
                say::remark(&format!(
                    "domain {id} ({name}): what was typed holds, not what the file says: {keys}"
                ));
            }
            seen.is_told = true;
        }
        seen.who = Some(who);
        let told = match self.idle {
            Some(_) if is_allowed => Told::OnDemand,
            _ => Told::Nothing,
        };
        if seen.told.is_none() && told == Told::Nothing && !self.is_alone {
            seen.told = Some(told);
        }
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

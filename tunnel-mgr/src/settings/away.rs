// SPDX-License-Identifier: GPL-2.0
//! What was typed for domains that are gone: by UUID, so many at most.

use anyhow::Result;
use idts_core::policy::{self, Key};

use super::{by_file, get, values, Settings, NAME, UUID};
use crate::say;
use crate::store::{list, read, remove, uuid_of, Store};

/// So many, at most; when there are more, the oldest go, an eighth at once.
pub const AWAY_MAX: usize = 1024;
/// In the folder of each: how many were put away before it, so that the oldest
/// can be found.
const ORDER: &str = "order";

impl Settings {
    /// Where settings of domains that are gone are, by UUID.
    fn away(&self) -> String {
        self.path(&format!("{}/away", policy::DIR))
    }

    /// Puts a domain's folder away: what was typed is kept. Gives how many others had
    /// to go for it.
    pub(super) fn put_away(&self, store: &mut dyn Store, domain: u16) -> Result<usize> {
        let mut dropped = 0;
        let dir = self.dir(domain);
        let uuid = get(store, &format!("{dir}/{UUID}"))?.unwrap_or_default();
        let typed = typed(store, &dir)?;
        if !uuid.is_empty() && !typed.is_empty() {
            let order;
            (order, dropped) = self.make_room(store)?;
            let to = format!("{}/{uuid}", self.away());
            remove(store, &to)?;
            for (key, value) in typed {
                self.put(store, &format!("{to}/{}", key.name()), &value)?;
            }
            self.put(store, &format!("{to}/{ORDER}"), &order.to_string())?;
            if let Some(name) = read(store, &format!("{dir}/{NAME}"))? {
                self.put_new(store, &format!("{to}/{NAME}"), &name)?;
            }
        }
        remove(store, &dir)?;
        Ok(dropped)
    }

    /// Drops the oldest if there are too many; gives the number of the next, and how
    /// many were dropped.
    fn make_room(&self, store: &mut dyn Store) -> Result<(u64, usize)> {
        let away = self.away();
        // The folder's own value counts.
        let order = number(get(store, &away)?);
        self.put(store, &away, &(order + 1).to_string())?;
        let uuids = list(store, &away)?;
        if uuids.len() < AWAY_MAX {
            return Ok((order, 0));
        }
        let mut aged = Vec::new();
        for uuid in uuids {
            aged.push((number(get(store, &format!("{away}/{uuid}/{ORDER}"))?), uuid));
        }
        aged.sort_unstable();
        let excess = aged.len() - AWAY_MAX * 7 / 8;
        for (_, uuid) in aged.iter().take(excess) {
            remove(store, &format!("{away}/{uuid}"))?;
        }
        Ok((order, excess))
    }

    /// Gives a domain back what was typed for it under another id.
    pub(super) fn give_back(&self, store: &mut dyn Store, domain: u16) -> Result<()> {
        let Some(uuid) = uuid_of(store, domain) else {
            return Ok(());
        };
        let away = format!("{}/{uuid}", self.away());
        if get(store, &away)?.is_none() {
            return Ok(());
        }
        let mut given = values(store, &away)?;
        remove(store, &away)?;
        let has = typed(store, &self.dir(domain))?;
        if !has.is_empty() {
            // Who has inherited lacks the alias alone.
            let has_alias = has.iter().any(|(key, _)| *key == Key::Alias);
            given.retain(|(key, _)| *key == Key::Alias && !has_alias);
        }
        if let Some(at) = given.iter().position(|(key, _)| *key == Key::Alias) {
            if let Err(error) = self.refuse_taken(store, domain, &given[at].1) {
                say::remark(&format!(
                    "domain {domain} does not get its alias back: {error:#}"
                ));
                given.remove(at);
            }
        }
        self.write_all(store, domain, given)
    }

    fn write_all(
        &self,
        store: &mut dyn Store,
        domain: u16,
        given: Vec<(Key, String)>,
    ) -> Result<()> {
        if given.is_empty() {
            return Ok(());
        }
        let given = given.into_iter().map(|(key, value)| (key, Some(value)));
        self.write(store, domain, &given.collect::<Vec<_>>())
    }

    /// Gives a domain that has nothing typed what was typed for another one that lives
    /// and has its UUID, for that is the same one, on its way to another id. The alias
    /// can be of one alone, and comes when the other one goes. Belongs in one
    /// transaction.
    pub fn inherit(&self, store: &mut dyn Store, from: u16, to: u16) -> Result<()> {
        let uuid = uuid_of(store, to);
        if uuid.is_none() || uuid != uuid_of(store, from) || !self.is_its_own(store, from)? {
            return Ok(());
        }
        self.own(store, to)?;
        if !typed(store, &self.dir(to))?.is_empty() {
            return Ok(());
        }
        let mut given = typed(store, &self.dir(from))?;
        given.retain(|(key, _)| *key != Key::Alias);
        self.write_all(store, to, given)
    }

    /// Another domain that lives, has that domain's UUID, and has something set.
    pub fn twin(&self, store: &mut dyn Store, domain: u16) -> Result<Option<u16>> {
        let Some(uuid) = uuid_of(store, domain) else {
            return Ok(None);
        };
        for id in self.ids(store)? {
            if id != domain && uuid_of(store, id).as_ref() == Some(&uuid) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Whether something was put away for a domain.
    pub fn is_awaited(&self, store: &mut dyn Store, domain: u16) -> bool {
        let uuid = uuid_of(store, domain);
        let path = uuid.map(|uuid| format!("{}/{uuid}", self.away()));
        path.is_some_and(|path| matches!(store.read(&path), Ok(Some(_))))
    }

    /// UUIDs of domains that are gone and had something set, by the names that they
    /// had.
    pub fn lost(&self, store: &mut dyn Store) -> Result<Vec<(Vec<u8>, String)>> {
        let away = self.away();
        let mut lost = Vec::new();
        for uuid in list(store, &away)? {
            if let Some(name) = read(store, &format!("{away}/{uuid}/{NAME}"))? {
                lost.push((name, uuid));
            }
        }
        Ok(lost)
    }

    /// Whether something is set for a domain.
    pub fn has_any(&self, store: &mut dyn Store, domain: u16) -> Result<bool> {
        let nodes = list(store, &self.dir(domain))?;
        Ok(nodes.iter().any(|node| Key::from_name(node).is_some()))
    }
}

/// The keys of a domain's folder that were typed.
fn typed(store: &mut dyn Store, dir: &str) -> Result<Vec<(Key, String)>> {
    let by_file = by_file(store, dir)?;
    let mut typed = values(store, dir)?;
    typed.retain(|(key, _)| !by_file.contains(key.name()));
    Ok(typed)
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

// SPDX-License-Identifier: GPL-2.0
//! What was typed for domains that are gone: by UUID, so many at most.

use anyhow::Result;
use idts_core::policy::{self, Key};

use super::{by_file, get, Settings, NAME, UUID};
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
        let by_file = by_file(store, &dir)?;
        let mut typed = Vec::new();
        for key in Key::LIST {
            let value = get(store, &format!("{dir}/{}", key.name()))?;
            let value = value.filter(|_| !by_file.contains(key.name()));
            typed.extend(value.map(|value| (key.name(), value)));
        }
        if !uuid.is_empty() && !typed.is_empty() {
            let order;
            (order, dropped) = self.make_room(store)?;
            let to = format!("{}/{uuid}", self.away());
            remove(store, &to)?;
            for (name, value) in typed {
                self.put(store, &format!("{to}/{name}"), &value)?;
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
        let dir = self.dir(domain);
        if get(store, &dir)?.is_none() {
            for key in Key::LIST {
                if let Some(value) = get(store, &format!("{away}/{}", key.name()))? {
                    self.put(store, &format!("{dir}/{}", key.name()), &value)?;
                }
            }
            self.tidy(store, domain)?;
        }
        remove(store, &away)
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

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

// SPDX-License-Identifier: GPL-2.0
//! What is set for a domain, in xenstore's keys that only the backend's domain
//! can read: where they are, and how long they live.
//!
//! They live as long as the domain does for Xen's tools, over reboot, save and
//! restore, although it gets another id there. So the domain's UUID lies beside
//! them; what is set for a domain that is gone is put away under it, and given
//! back when a domain with that UUID comes. Meaning and grammar of values are
//! `idts_core::policy`'s.

use anyhow::{bail, Result};
use idts_core::policy::{self, Key};

use crate::store::{domain_id, is_alive, list, make, read, remove, transact, uuid_of, Store};

/// Beside the keys: whose they are.
const UUID: &str = "uuid";
/// Settings of domains that are gone are put away for so many, at most.
const AWAY_MAX: usize = 128;

/// What is set in the domain `home`, that of the backends.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub home: u16,
}

impl Settings {
    fn path(&self, below: &str) -> String {
        format!("/local/domain/{}/{below}", self.home)
    }

    fn domains(&self) -> String {
        self.path(policy::DOMAINS)
    }

    fn dir(&self, domain: u16) -> String {
        format!("{}/{domain}", self.domains())
    }

    /// Where settings of domains that are gone are, by UUID.
    fn away(&self) -> String {
        self.path(&format!("{}/away", policy::DIR))
    }

    /// The directory of what is set for all domains together.
    pub fn scheduler(&self) -> String {
        self.path(policy::SCHEDULER)
    }

    /// What is set for a domain, key by key.
    pub fn read(&self, store: &mut dyn Store, domain: u16) -> Result<Vec<(Key, Option<String>)>> {
        let dir = self.dir(domain);
        let value = |key: Key| Ok((key, get(store, &format!("{dir}/{}", key.name()))?));
        Key::LIST.into_iter().map(value).collect()
    }

    /// Sets keys of a domain, or takes them away; belongs in one transaction.
    pub fn write(
        &self,
        store: &mut dyn Store,
        domain: u16,
        changes: &[(Key, Option<String>)],
    ) -> Result<()> {
        let dir = self.dir(domain);
        if let Some(uuid) = uuid_of(store, domain) {
            self.put(store, &format!("{dir}/{UUID}"), &uuid)?;
        }
        for (key, value) in changes {
            if let (Key::Alias, Some(alias)) = (key, value) {
                self.refuse_taken(store, domain, alias)?;
            }
            let path = format!("{dir}/{}", key.name());
            match value {
                Some(value) => self.put(store, &path, value)?,
                None => remove(store, &path)?,
            }
        }
        let is_empty = self.read(store, domain)?.iter().all(|(_, v)| v.is_none());
        if is_empty {
            remove(store, &dir)?;
        }
        Ok(())
    }

    /// Two domains of one alias could not be told apart.
    fn refuse_taken(&self, store: &mut dyn Store, domain: u16, alias: &str) -> Result<()> {
        for other in self.ids(store)? {
            let path = format!("{}/{}", self.dir(other), Key::Alias.name());
            if other != domain && get(store, &path)?.as_deref() == Some(alias) {
                bail!("domain {other} has the alias `{alias}` already");
            }
        }
        Ok(())
    }

    /// Writes a node that nobody else can read, with all folders down to it.
    pub fn put(&self, store: &mut dyn Store, path: &str, value: &str) -> Result<()> {
        let ours = [format!("n{}", self.home)];
        let root = self.path("");
        let below = path.strip_prefix(&root).unwrap_or_default();
        for (at, _) in below.match_indices('/') {
            let folder = &path[..root.len() + at];
            if get(store, folder)?.is_none() {
                make(store, folder, b"", &ours)?;
            }
        }
        make(store, path, value.as_bytes(), &ours)
    }

    /// Domains for which something is set.
    fn ids(&self, store: &mut dyn Store) -> Result<Vec<u16>> {
        let names = list(store, &self.domains())?;
        Ok(names.iter().filter_map(|name| domain_id(name)).collect())
    }

    /// Puts away what is set for domains that are gone; also of those whose id
    /// another domain has now.
    pub fn sweep(&self, store: &mut dyn Store) -> Result<()> {
        for domain in self.ids(store)? {
            transact(store, |store| {
                let dir = self.dir(domain);
                let owner = get(store, &format!("{dir}/{UUID}"))?;
                let is_its_own = owner.is_none() || owner == uuid_of(store, domain);
                if is_alive(store, domain)? && is_its_own {
                    return Ok(());
                }
                if let Some(uuid) = owner {
                    self.make_room(store)?;
                    self.copy(store, &dir, &format!("{}/{uuid}", self.away()))?;
                }
                remove(store, &dir)
            })?;
        }
        Ok(())
    }

    fn make_room(&self, store: &mut dyn Store) -> Result<()> {
        let away = list(store, &self.away())?;
        let excess = (away.len() + 1).saturating_sub(AWAY_MAX);
        for uuid in away.iter().take(excess) {
            remove(store, &format!("{}/{uuid}", self.away()))?;
        }
        Ok(())
    }

    /// Gives a domain back what was set for it under another id; belongs in one
    /// transaction.
    pub fn give_back(&self, store: &mut dyn Store, domain: u16) -> Result<()> {
        let Some(uuid) = uuid_of(store, domain) else {
            return Ok(());
        };
        let away = format!("{}/{uuid}", self.away());
        if get(store, &away)?.is_none() {
            return Ok(());
        }
        let dir = self.dir(domain);
        if get(store, &dir)?.is_none() {
            self.copy(store, &away, &dir)?;
        }
        remove(store, &away)
    }

    fn copy(&self, store: &mut dyn Store, from: &str, to: &str) -> Result<()> {
        for name in list(store, from)? {
            if let Some(value) = get(store, &format!("{from}/{name}"))? {
                self.put(store, &format!("{to}/{name}"), &value)?;
            }
        }
        Ok(())
    }
}

/// A value as text; ours are.
fn get(store: &mut dyn Store, path: &str) -> Result<Option<String>> {
    let value = read(store, path)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use idts_xenstore::Tree;

    const HOME: Settings = Settings { home: 0 };

    fn host() -> Fake {
        Fake::with_domains(&[(0, "Domain-0"), (3, "u3"), (4, "u4")])
    }

    fn weight(value: &str) -> [(Key, Option<String>); 1] {
        [(Key::Weight, Some(value.into()))]
    }

    #[test]
    fn only_the_home_can_read() {
        let mut store = host();
        store
            .set_permissions("/local/domain/0", &["n0".into(), "r3".into()])
            .unwrap();
        HOME.write(&mut store, 3, &weight("2")).unwrap();
        for path in [
            "",
            "/domain",
            "/domain/3",
            "/domain/3/weight",
            "/domain/3/uuid",
        ] {
            let path = format!("/local/domain/0/idts{path}");
            assert_eq!(store.permissions(&path), "n0", "{path}");
        }
        let value = store.value("/local/domain/0/idts/domain/3/weight");
        assert_eq!(value, Some("2"));
    }

    #[test]
    fn what_is_taken_away_leaves_nothing() {
        let mut store = host();
        HOME.write(&mut store, 3, &weight("2")).unwrap();
        HOME.write(&mut store, 3, &[(Key::Weight, None)]).unwrap();
        assert_eq!(store.value("/local/domain/0/idts/domain/3"), None);
    }

    #[test]
    fn an_alias_is_that_of_one_domain() {
        let mut store = host();
        let alias = [(Key::Alias, Some("web".to_string()))];
        HOME.write(&mut store, 3, &alias).unwrap();
        HOME.write(&mut store, 3, &alias).unwrap();
        let error = HOME.write(&mut store, 4, &alias).unwrap_err().to_string();
        assert!(error.contains("domain 3 has the alias"), "{error}");
    }

    #[test]
    fn a_restored_domain_gets_its_own_back() {
        let mut store = host();
        HOME.write(&mut store, 3, &weight("7")).unwrap();
        HOME.write(&mut store, 4, &weight("9")).unwrap();
        store.unset("/local/domain/3");
        HOME.sweep(&mut store).unwrap();
        assert_eq!(store.value("/local/domain/0/idts/domain/3"), None);
        for (id, vm) in [(5, "/vm/another"), (6, "/vm/uuid-of-u3")] {
            store.set(&format!("/local/domain/{id}/name"), "u3");
            store.set(&format!("/local/domain/{id}/vm"), vm);
            HOME.give_back(&mut store, id).unwrap();
        }
        let all = |store: &mut Fake, id| HOME.read(store, id).unwrap();
        assert_eq!(all(&mut store, 5)[0], (Key::Weight, None));
        assert_eq!(all(&mut store, 6)[0], (Key::Weight, Some("7".into())));
        assert_eq!(all(&mut store, 4)[0], (Key::Weight, Some("9".into())));
        let away = store.list("/local/domain/0/idts/away").unwrap();
        assert!(away.is_empty(), "{away:?}");
    }

    #[test]
    fn a_new_domain_of_an_old_id_inherits_nothing() {
        let mut store = host();
        HOME.write(&mut store, 3, &weight("7")).unwrap();
        store.set("/local/domain/3/vm", "/vm/new");
        HOME.sweep(&mut store).unwrap();
        assert_eq!(HOME.read(&mut store, 3).unwrap()[0].1, None);
    }

    #[test]
    fn what_is_put_away_is_bounded() {
        let mut store = host();
        for id in 100..100 + AWAY_MAX as u16 + 20 {
            store.set(&format!("/local/domain/{id}/vm"), format!("/vm/uuid-{id}"));
            HOME.write(&mut store, id, &weight("2")).unwrap();
            store.unset(&format!("/local/domain/{id}"));
            HOME.sweep(&mut store).unwrap();
        }
        let away = store.list("/local/domain/0/idts/away").unwrap();
        assert_eq!(away.len(), AWAY_MAX);
    }
}

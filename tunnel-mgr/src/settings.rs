// SPDX-License-Identifier: GPL-2.0
//! What is set for a domain, in xenstore's keys that only the backend's domain
//! can read: where they are, who gave them, and how long they live.
//!
//! They live as long as the domain does for Xen's tools, over reboot, save and
//! restore, although it gets another id there. So the domain's UUID lies beside
//! them; what was typed for a domain that is gone is put away under it, and given
//! back when a domain with that UUID comes (away.rs). Meaning and grammar of
//! values are `idts_core::policy`'s.
//!
//! A domain's folder has each key with the value that holds, typed or the settings
//! file's; the folder `file` has what the file says, also where something typed
//! holds, and `by-file` names the keys that hold by it.

pub mod away;
pub mod disk;
pub mod file;
pub mod value;

use std::collections::BTreeSet;

use anyhow::{bail, Result};
use idts_core::policy::{self, Key};

use crate::store::{domain_id, is_alive, list, make, read, remove, transact, uuid_of, Store};

/// Beside the keys: whose they are; empty for a domain without a UUID.
const UUID: &str = "uuid";
/// The name that the domain had then.
const NAME: &str = "name";
/// That the domain was detached, and is to stay so.
const DETACHED: &str = "detached";
/// What the settings file says.
const FILE: &str = "file";
/// Keys that hold by it, with commas between.
const BY_FILE: &str = "by-file";

/// A key with its value, or without one.
pub type Change = (Key, Option<String>);

/// Why a domain has no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    ByHand,
    /// Nobody used it.
    Idle,
}

impl Detached {
    const fn word(self) -> &'static str {
        match self {
            Self::ByHand => "by-hand",
            Self::Idle => "idle",
        }
    }
}

/// Who gave a value that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giver {
    /// Typed, for this domain.
    Set,
    File,
    /// Typed, for all domains.
    Default,
    BuiltIn,
}

/// What holds for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub key: Key,
    pub value: String,
    pub by: Giver,
}

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

    /// The directory of what holds for whom nothing else is set.
    fn default_dir(&self) -> String {
        self.path(policy::DEFAULT)
    }

    /// The directory of what is set for all domains together.
    pub fn scheduler(&self) -> String {
        self.path(policy::SCHEDULER)
    }

    /// What holds for a domain, key by key; or for one that nothing is set for.
    pub fn held(&self, store: &mut dyn Store, domain: Option<u16>) -> Result<Vec<Held>> {
        let default = values(store, &self.default_dir())?;
        let (mut own, mut by_file) = (Vec::new(), BTreeSet::new());
        if let Some(domain) = domain {
            own = values(store, &self.dir(domain))?;
            if !own.is_empty() {
                by_file = self::by_file(store, &self.dir(domain))?;
            }
        }
        let of = |values: &[(Key, String)], key: Key| {
            let value = values.iter().find(|(of, _)| *of == key);
            value.map(|(_, value)| value.clone())
        };
        let held = |key: Key| {
            let (value, by) = match (of(&own, key), of(&default, key)) {
                (Some(value), _) if by_file.contains(key.name()) => (value, Giver::File),
                (Some(value), _) => (value, Giver::Set),
                (_, Some(value)) if key != Key::Alias => (value, Giver::Default),
                _ => (key.default_text().into(), Giver::BuiltIn),
            };
            Held { key, value, by }
        };
        Ok(Key::LIST.into_iter().map(held).collect())
    }

    /// Types keys of a domain, or takes them away, so that what the file says holds;
    /// belongs in one transaction.
    pub fn write(&self, store: &mut dyn Store, domain: u16, changes: &[Change]) -> Result<()> {
        self.own(store, domain)?;
        let dir = self.dir(domain);
        let mut by_file = by_file(store, &dir)?;
        for (key, typed) in changes {
            let name = key.name();
            let said = match typed {
                Some(_) => None,
                None => get(store, &format!("{dir}/{FILE}/{name}"))?,
            };
            if said.is_some() {
                by_file.insert(name.into());
            } else {
                by_file.remove(name);
            }
            self.hold(store, domain, *key, typed.clone().or(said))?;
        }
        self.put_by_file(store, &dir, &by_file)?;
        self.tidy(store, domain)
    }

    /// Has the keys of a domain be what the file says, where nothing was typed; gives
    /// those where something else was. Belongs in one transaction.
    pub fn apply(
        &self,
        store: &mut dyn Store,
        domain: u16,
        said: &[(Key, String)],
    ) -> Result<Vec<&'static str>> {
        let mut typed = Vec::new();
        self.own(store, domain)?;
        let dir = self.dir(domain);
        let before = by_file(store, &dir)?;
        let mut by_file = before.clone();
        for key in Key::LIST {
            let name = key.name();
            let said = said.iter().find(|(of, _)| *of == key);
            let said = said.map(|(_, value)| value.clone());
            let path = format!("{dir}/{FILE}/{name}");
            let known = get(store, &path)?;
            match &said {
                Some(value) if known.as_ref() != Some(value) => self.put(store, &path, value)?,
                None if known.is_some() => remove(store, &path)?,
                _ => {}
            }
            let now = get(store, &format!("{dir}/{name}"))?;
            let is_typed = now.is_some() && !by_file.contains(name);
            if is_typed {
                typed.extend((said.is_some() && said != now).then_some(name));
                continue;
            }
            if said.is_some() {
                by_file.insert(name.into());
            } else {
                by_file.remove(name);
            }
            if now != said {
                self.hold(store, domain, key, said)?;
            }
        }
        if by_file != before {
            self.put_by_file(store, &dir, &by_file)?;
        }
        self.tidy(store, domain)?;
        Ok(typed)
    }

    /// Takes an alias away that the file gave and does not give any more, so that
    /// another domain can have it; belongs in one transaction.
    pub fn let_go_of_alias(
        &self,
        store: &mut dyn Store,
        domain: u16,
        said: &[(Key, String)],
    ) -> Result<()> {
        let name = Key::Alias.name();
        let dir = self.dir(domain);
        let mut by_file = by_file(store, &dir)?;
        let now = get(store, &format!("{dir}/{name}"))?;
        let said = said.iter().find(|(key, _)| *key == Key::Alias);
        if !by_file.remove(name) || said.map(|(_, value)| value) == now.as_ref() {
            return Ok(());
        }
        remove(store, &format!("{dir}/{name}"))?;
        remove(store, &format!("{dir}/{FILE}/{name}"))?;
        self.put_by_file(store, &dir, &by_file)?;
        self.tidy(store, domain)
    }

    /// Types keys for all domains, or takes them away; belongs in one transaction.
    pub fn write_default(&self, store: &mut dyn Store, changes: &[Change]) -> Result<()> {
        let dir = self.default_dir();
        for (key, value) in changes {
            if *key == Key::Alias {
                bail!("an alias is that of one domain");
            }
            let path = format!("{dir}/{}", key.name());
            match value {
                Some(value) => self.put(store, &path, value)?,
                None => remove(store, &path)?,
            }
        }
        if list(store, &dir)?.is_empty() {
            remove(store, &dir)?;
        }
        Ok(())
    }

    /// Has a key of a domain have that value.
    fn hold(
        &self,
        store: &mut dyn Store,
        domain: u16,
        key: Key,
        value: Option<String>,
    ) -> Result<()> {
        if let (Key::Alias, Some(alias)) = (key, &value) {
            self.refuse_taken(store, domain, alias)?;
        }
        let path = format!("{}/{}", self.dir(domain), key.name());
        match value {
            Some(value) => self.put(store, &path, &value),
            None => remove(store, &path),
        }
    }

    fn put_by_file(&self, store: &mut dyn Store, dir: &str, keys: &BTreeSet<String>) -> Result<()> {
        let path = format!("{dir}/{BY_FILE}");
        if keys.is_empty() {
            return remove(store, &path);
        }
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        self.put(store, &path, &keys.join(","))
    }

    /// Notes that a domain was detached; belongs in one transaction.
    pub fn mark(&self, store: &mut dyn Store, domain: u16, why: Detached) -> Result<()> {
        self.own(store, domain)?;
        let path = format!("{}/{DETACHED}", self.dir(domain));
        self.put(store, &path, why.word())?;
        self.tidy(store, domain)
    }

    /// Takes that note away; belongs in one transaction.
    pub fn unmark(&self, store: &mut dyn Store, domain: u16) -> Result<()> {
        let path = format!("{}/{DETACHED}", self.dir(domain));
        if get(store, &path)?.is_none() {
            return Ok(());
        }
        remove(store, &path)?;
        self.tidy(store, domain)
    }

    /// Why a domain is to stay without a tunnel, if it is.
    pub fn detached(&self, store: &mut dyn Store, domain: u16) -> Result<Option<Detached>> {
        let word = get(store, &format!("{}/{DETACHED}", self.dir(domain)))?;
        let all = [Detached::ByHand, Detached::Idle];
        let is = |why: &Detached| word.as_deref() == Some(why.word());
        if !self.is_its_own(store, domain)? {
            return Ok(None);
        }
        Ok(all.into_iter().find(is))
    }

    /// Leaves beside what there is of a domain whose it is; or removes the folder,
    /// if nothing is in it.
    fn tidy(&self, store: &mut dyn Store, domain: u16) -> Result<()> {
        let dir = self.dir(domain);
        let file = format!("{dir}/{FILE}");
        if get(store, &file)?.is_some() && list(store, &file)?.is_empty() {
            remove(store, &file)?;
        }
        let nodes = list(store, &dir)?;
        let is_of_use = |node: &String| node != UUID && node != NAME;
        if !nodes.iter().any(is_of_use) {
            return remove(store, &dir);
        }
        let uuid = uuid_of(store, domain).unwrap_or_default();
        self.put_new(store, &format!("{dir}/{UUID}"), uuid.as_bytes())?;
        let name = crate::store::name_of(store, domain);
        let name = name.map(|name| name.0).unwrap_or_default();
        self.put_new(store, &format!("{dir}/{NAME}"), &name)
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
        self.put_bytes(store, path, value.as_bytes())
    }

    /// The same unless it is there as it is: each change is told to the backend.
    fn put_new(&self, store: &mut dyn Store, path: &str, value: &[u8]) -> Result<()> {
        if read(store, path)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.put_bytes(store, path, value)
    }

    fn put_bytes(&self, store: &mut dyn Store, path: &str, value: &[u8]) -> Result<()> {
        let ours = [format!("n{}", self.home)];
        let root = self.path("");
        let below = path.strip_prefix(&root).unwrap_or_default();
        for (at, _) in below.match_indices('/') {
            let folder = &path[..root.len() + at];
            if get(store, folder)?.is_none() {
                make(store, folder, b"", &ours)?;
            }
        }
        make(store, path, value, &ours)
    }

    /// Domains for which there is something.
    pub fn ids(&self, store: &mut dyn Store) -> Result<Vec<u16>> {
        let names = list(store, &self.domains())?;
        Ok(names.iter().filter_map(|name| domain_id(name)).collect())
    }

    /// False where a domain's folder is of one that had its id before.
    fn is_its_own(&self, store: &mut dyn Store, domain: u16) -> Result<bool> {
        let owner = get(store, &format!("{}/{UUID}", self.dir(domain)))?;
        // Where nothing is said, somebody wrote the keys by hand.
        Ok(match owner {
            None => true,
            Some(owner) => owner == uuid_of(store, domain).unwrap_or_default(),
        })
    }

    /// Sees to it that a domain's folder is its own: what is of another one that had
    /// its id is put away, and what was put away for it comes back; belongs in one
    /// transaction.
    pub fn own(&self, store: &mut dyn Store, domain: u16) -> Result<()> {
        if !self.is_its_own(store, domain)? {
            self.put_away(store, domain)?;
        }
        self.give_back(store, domain)
    }

    /// Puts away what is set for a domain that is gone, or whose id another one has
    /// now; gives how many that were put away before had to go for it, or None.
    pub fn sweep(&self, store: &mut dyn Store, domain: u16) -> Result<Option<usize>> {
        if is_alive(store, domain)? && self.is_its_own(store, domain)? {
            return Ok(None);
        }
        transact(store, |store| {
            if is_alive(store, domain)? && self.is_its_own(store, domain)? {
                return Ok(None);
            }
            self.put_away(store, domain).map(Some)
        })
    }
}

/// The keys that a folder has, with their values.
fn values(store: &mut dyn Store, dir: &str) -> Result<Vec<(Key, String)>> {
    let mut values = Vec::new();
    for key in list(store, dir)?
        .iter()
        .filter_map(|name| Key::from_name(name))
    {
        let value = get(store, &format!("{dir}/{}", key.name()))?;
        values.extend(value.map(|value| (key, value)));
    }
    Ok(values)
}

fn by_file(store: &mut dyn Store, dir: &str) -> Result<BTreeSet<String>> {
    let keys = get(store, &format!("{dir}/{BY_FILE}"))?.unwrap_or_default();
    let keys = keys.split(',').filter(|key| !key.is_empty());
    Ok(keys.map(String::from).collect())
}

/// A value as text; ours are.
fn get(store: &mut dyn Store, path: &str) -> Result<Option<String>> {
    let value = read(store, path)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

#[cfg(test)]
mod tests;

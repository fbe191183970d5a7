// SPDX-License-Identifier: GPL-2.0
//! A xenstore in memory for the tests: values, permissions as they are
//! inherited, transactions that can fail, and peers that act while one waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use idts_xenstore::Tree;

use crate::store::Store;

#[derive(Clone, Debug, Default)]
struct Node {
    value: Vec<u8>,
    permissions: Vec<String>,
}

/// What a peer does the next time that somebody waits.
pub type Step = Box<dyn FnOnce(&mut Fake)>;

#[derive(Default)]
pub struct Fake {
    nodes: BTreeMap<String, Node>,
    /// The tree as it was when the transaction began.
    before: Option<BTreeMap<String, Node>>,
    /// So many transactions still fail to commit.
    pub conflicts: u32,
    /// Transactions committed, and writes outside of any.
    pub commits: u32,
    pub loose_writes: u32,
    /// One for each wait; without any the deadline has passed.
    pub steps: VecDeque<Step>,
    pub watches: BTreeSet<String>,
}

impl Fake {
    /// A store of domain 0, in which these domains live.
    pub fn with_domains(domains: &[(u16, &str)]) -> Self {
        let mut fake = Self::default();
        fake.set("/local/domain/0/domid", "0");
        for (id, name) in domains {
            fake.set(&format!("/local/domain/{id}"), "");
            fake.set(&format!("/local/domain/{id}/name"), name);
            fake.set(
                &format!("/local/domain/{id}/vm"),
                format!("/vm/uuid-of-{name}"),
            );
            fake.set(&format!("/local/domain/{id}/device"), "");
            fake.set(&format!("/local/domain/{id}/backend"), "");
        }
        fake
    }

    pub fn value(&self, path: &str) -> Option<&str> {
        let node = self.nodes.get(path)?;
        std::str::from_utf8(&node.value).ok()
    }

    pub fn permissions(&self, path: &str) -> String {
        self.nodes
            .get(path)
            .map(|node| node.permissions.join(" "))
            .unwrap_or_default()
    }

    pub fn paths(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Writes as some other domain would.
    pub fn set(&mut self, path: &str, value: impl AsRef<[u8]>) {
        let (parent, _) = path.rsplit_once('/').unwrap_or_default();
        if !parent.is_empty() && !self.nodes.contains_key(parent) {
            self.set(parent, "");
        }
        let inherited = self
            .nodes
            .get(parent)
            .map_or_else(|| vec!["n0".to_string()], |node| node.permissions.clone());
        self.nodes
            .entry(path.into())
            .or_insert(Node {
                value: Vec::new(),
                permissions: inherited,
            })
            .value = value.as_ref().to_vec();
    }

    /// Removes as some other domain would.
    pub fn unset(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes
            .retain(|key, _| key != path && !key.starts_with(&below));
    }

    pub fn then(&mut self, step: impl FnOnce(&mut Self) + 'static) {
        self.steps.push_back(Box::new(step));
    }

    fn absolute(path: &str) -> String {
        if path.starts_with('/') {
            path.into()
        } else {
            format!("/local/domain/0/{path}")
        }
    }

    fn count_write(&mut self) {
        self.loose_writes += u32::from(self.before.is_none());
    }
}

impl Tree for Fake {
    fn read(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self
            .nodes
            .get(&Self::absolute(path))
            .map(|node| node.value.clone()))
    }

    fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        let below = format!("{path}/");
        let names = self.nodes.keys().filter_map(|key| key.strip_prefix(&below));
        Ok(names
            .filter(|name| !name.contains('/'))
            .map(Into::into)
            .collect())
    }
}

impl Store for Fake {
    fn write(&mut self, path: &str, value: &[u8]) -> io::Result<()> {
        self.count_write();
        self.set(path, value);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.count_write();
        self.unset(path);
        Ok(())
    }

    fn set_permissions(&mut self, path: &str, permissions: &[String]) -> io::Result<()> {
        let node = self.nodes.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        node.permissions = permissions.to_vec();
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        assert!(self.before.is_none(), "a transaction inside another");
        self.before = Some(self.nodes.clone());
        Ok(())
    }

    fn end(&mut self, commit: bool) -> io::Result<bool> {
        let before = self.before.take().expect("no transaction");
        let passes = self.conflicts == 0;
        if !commit || !passes {
            self.nodes = before;
        }
        if commit {
            self.conflicts = self.conflicts.saturating_sub(1);
            self.commits += u32::from(passes);
        }
        Ok(!commit || passes)
    }

    fn watch(&mut self, path: &str) -> io::Result<()> {
        self.watches.insert(path.into());
        Ok(())
    }

    fn unwatch(&mut self, path: &str) -> io::Result<()> {
        self.watches.remove(path);
        Ok(())
    }

    fn wait(&mut self, _: Instant, _: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let Some(step) = self.steps.pop_front() else {
            return Ok(false);
        };
        step(self);
        Ok(true)
    }

    fn changes(&mut self) -> io::Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Xenstore as the verbs need it: a trait that the real client and the fake of
//! the tests fill, transactions that repeat themselves, and who is who.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use idts_core::nodes::number;
use idts_xenstore::{domain_by_name, Client, Tree};

use crate::text::Name;

/// Domain ids from here on are Xen's own (`DOMID_FIRST_RESERVED`).
pub const FIRST_RESERVED: u32 = 0x7ff0;

/// A transaction that always meets another one is given up after so many tries,
/// each after a longer pause.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// A xenstore that can be changed and watched.
pub trait Store: Tree {
    /// Writes a value; makes the node, and its parents, when not there.
    fn write(&mut self, path: &str, value: &[u8]) -> io::Result<()>;
    /// Removes a node and all below; fine when not there.
    fn remove(&mut self, path: &str) -> io::Result<()>;
    /// Sets who may do what, as in `n0 r3`.
    fn set_permissions(&mut self, path: &str, permissions: &[String]) -> io::Result<()>;
    /// Starts a transaction.
    fn begin(&mut self) -> io::Result<()>;
    /// Ends it; false when it must be done again from its start.
    fn end(&mut self, commit: bool) -> io::Result<bool>;
    /// Has changes told by `wait`.
    fn watch(&mut self, path: &str) -> io::Result<()>;
    /// Ends a watch; fine when there is none.
    fn unwatch(&mut self, path: &str) -> io::Result<()>;
    /// Waits for a change, or until `wake` is readable; false once the deadline
    /// has passed, whatever has changed.
    fn wait(&mut self, deadline: Instant, wake: Option<BorrowedFd<'_>>) -> io::Result<bool>;
    /// The watched paths at or below which something has changed since this was
    /// last asked.
    fn changes(&mut self) -> io::Result<BTreeSet<String>>;
}

impl Store for Client {
    fn write(&mut self, path: &str, value: &[u8]) -> io::Result<()> {
        Client::write(self, path, value)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        Client::remove(self, path)
    }

    fn set_permissions(&mut self, path: &str, permissions: &[String]) -> io::Result<()> {
        Client::set_permissions(self, path, permissions)
    }

    fn begin(&mut self) -> io::Result<()> {
        Client::begin(self)
    }

    fn end(&mut self, commit: bool) -> io::Result<bool> {
        Client::end(self, commit)
    }

    fn watch(&mut self, path: &str) -> io::Result<()> {
        // Twice is as good as once.
        match Client::watch(self, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn unwatch(&mut self, path: &str) -> io::Result<()> {
        match Client::unwatch(self, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn wait(&mut self, deadline: Instant, wake: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        Client::wait_or(self, deadline, wake)
    }

    fn changes(&mut self) -> io::Result<BTreeSet<String>> {
        Client::changes(self)
    }
}

/// Runs `body` in one transaction, again whenever another one came between.
pub fn transact<T>(
    store: &mut dyn Store,
    mut body: impl FnMut(&mut dyn Store) -> Result<T>,
) -> Result<T> {
    for tried in 0..TRIES {
        sleep(PAUSE * tried);
        store.begin().context("cannot start a transaction")?;
        match body(store) {
            Ok(value) => {
                if store.end(true).context("cannot end a transaction")? {
                    return Ok(value);
                }
            }
            Err(error) => {
                // What went wrong first is what counts.
                let _ = store.end(false);
                return Err(error);
            }
        }
    }
    bail!("xenstore changes too fast: {TRIES} transactions met another one")
}

/// The value at `path`; None when there is no such node.
pub fn read(store: &mut dyn Store, path: &str) -> Result<Option<Vec<u8>>> {
    let value = store.read(path);
    value.with_context(|| format!("cannot read {path}"))
}

/// Names of the children of `path`.
pub fn list(store: &mut dyn Store, path: &str) -> Result<Vec<String>> {
    let names = store.list(path);
    names.with_context(|| format!("cannot list {path}"))
}

pub fn write(store: &mut dyn Store, path: &str, value: &[u8]) -> Result<()> {
    let written = store.write(path, value);
    written.with_context(|| format!("cannot write {path}"))
}

/// Writes a node with its permissions, as in `n0 r3`.
pub fn make(store: &mut dyn Store, path: &str, value: &[u8], permissions: &[String]) -> Result<()> {
    write(store, path, value)?;
    store
        .set_permissions(path, permissions)
        .with_context(|| format!("cannot set the permissions of {path}"))
}

/// Removes a node and all below; fine when not there.
pub fn remove(store: &mut dyn Store, path: &str) -> Result<()> {
    let removed = store.remove(path);
    removed.with_context(|| format!("cannot remove {path}"))
}

/// Has changes of `path` told.
pub fn watch(store: &mut dyn Store, path: &str) -> Result<()> {
    let watched = store.watch(path);
    watched.with_context(|| format!("cannot watch {path}"))
}

/// The id of the domain that this program runs in.
pub fn own_domain(store: &mut dyn Store) -> Result<u16> {
    let text = store
        .read("domid")
        .context("cannot read this domain's id")?;
    match text.as_deref().and_then(domain_id_of) {
        Some(id) => Ok(id),
        None => bail!("xenstore does not tell this domain's id: has xen-init-dom0 run?"),
    }
}

/// The domain that `text` means: digits are an id, all else is a name.
/// A domain of that id need not be alive.
pub fn resolve(store: &mut dyn Store, text: &str) -> Result<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return domain_id(text).with_context(|| format!("{text} is no domain id"));
    }
    domain_by_name(store, text)
        .context("cannot find the domain by its name")?
        .with_context(|| format!("no domain is called `{text}`"))
}

/// True while the domain exists.
pub fn is_alive(store: &mut dyn Store, domain: u16) -> Result<bool> {
    Ok(read(store, &format!("/local/domain/{domain}"))?.is_some())
}

/// The domain's name, while it has one.
pub fn name_of(store: &mut dyn Store, domain: u16) -> Option<Name> {
    let name = store.read(&name_path(domain));
    name.ok().flatten().map(Name)
}

/// Where a domain's name is.
pub fn name_path(domain: u16) -> String {
    format!("/local/domain/{domain}/name")
}

/// What Xen's tools call a domain for its whole life, over save and restore.
pub fn uuid_of(store: &mut dyn Store, domain: u16) -> Option<String> {
    let vm = store.read(&format!("/local/domain/{domain}/vm"));
    let vm = String::from_utf8(vm.ok().flatten()?).ok()?;
    let uuid = vm.strip_prefix("/vm/")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!uuid.is_empty() && uuid.bytes().all(is_plain)).then(|| uuid.into())
}

/// A domain's id from its text; None for what Xen would not give a domain.
pub fn domain_id(text: &str) -> Option<u16> {
    domain_id_of(text.as_bytes())
}

/// The same of what stands in a node.
pub fn domain_id_of(text: &[u8]) -> Option<u16> {
    number(text, 0, FIRST_RESERVED - 1).and_then(|id| id.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn a_transaction_is_repeated_until_it_passes() {
        let mut store = Fake::default();
        store.conflicts = 2;
        let mut runs = 0;
        transact(&mut store, |store| {
            runs += 1;
            Ok(store.write("/a", b"1")?)
        })
        .unwrap();
        assert_eq!(runs, 3);
        assert_eq!(store.value("/a"), Some("1"));
    }

    #[test]
    fn a_transaction_that_never_passes_is_given_up() {
        let mut store = Fake::default();
        store.conflicts = TRIES;
        let result = transact(&mut store, |store| Ok(store.write("/a", b"1")?));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("changes too fast"), "{error}");
        assert_eq!(store.value("/a"), None);
    }

    #[test]
    fn a_failed_transaction_changes_nothing() {
        let mut store = Fake::default();
        let result: Result<()> = transact(&mut store, |store| {
            store.write("/a", b"1")?;
            bail!("no")
        });
        assert!(result.is_err());
        assert_eq!(store.value("/a"), None);
    }

    #[test]
    fn domains_go_by_id_and_by_name() {
        let mut store = Fake::with_domains(&[(0, "Domain-0"), (3, "u1")]);
        assert_eq!(own_domain(&mut store).unwrap(), 0);
        assert_eq!(resolve(&mut store, "u1").unwrap(), 3);
        assert_eq!(resolve(&mut store, "7").unwrap(), 7);
        assert!(resolve(&mut store, "u2").is_err());
        store.set("/local/domain/4/name", "u1");
        let error = format!("{:#}", resolve(&mut store, "u1").unwrap_err());
        assert!(error.contains("`u1`: 3 and 4"), "{error}");
        assert!(resolve(&mut store, "32752").is_err());
        assert!(is_alive(&mut store, 3).unwrap());
        assert!(!is_alive(&mut store, 7).unwrap());
    }
}

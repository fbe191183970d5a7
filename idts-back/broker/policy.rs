// SPDX-License-Identifier: GPL-2.0

//! The policy of each domain, as tunnel-mgr wrote it into xenstore. It is cached in memory, so
//! that a guest's request needs no read. Guests can neither read nor write the keys.
//!
//! This file reads and watches; `idts_core::policy` interprets the values.

use idts_core::policy::{self, DomainSettings, Key, Target};
use idts_core::sched::Policy;
use idts_core::wire::{Kind, Name, BACKEND_NAME};
use idts_kernel::tunnel::services::Services;
use idts_kernel::xen::xenstore;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::lock::mutex::MutexGuard;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The policy of one domain.
struct Entry {
    domid: u16,
    numbers: DomainSettings,
    alias: Option<KVec<u8>>,
    connect: Option<KVec<u8>>,
    publish: Option<KVec<u8>>,
    subscribe: Option<KVec<u8>>,
}

impl Entry {
    /// Creates the entry of a domain whose policy is not loaded. It allows nothing, as a
    /// malformed or empty value does.
    fn new(domid: u16) -> Self {
        Self {
            domid,
            numbers: DomainSettings::DEFAULT,
            alias: None,
            connect: Some(KVec::new()),
            publish: Some(KVec::new()),
            subscribe: Some(KVec::new()),
        }
    }

    /// The groups that it may publish to, or subscribe to.
    fn groups(&self, kind: Kind) -> Option<&[u8]> {
        match kind {
            Kind::Publish => self.publish.as_deref(),
            _ => self.subscribe.as_deref(),
        }
    }
}

/// The policies of all domains with a tunnel.
#[pin_data]
pub(super) struct Policies {
    #[pin]
    entries: Mutex<KVec<Entry>>,
    /// Held from the first read of a domain's keys until they are applied, so that an older read
    /// is never applied after a newer one. Taken before `entries`.
    #[pin]
    obeying: Mutex<()>,
}

/// Reads one key of a directory; `None` if it is absent. A malformed value is kept, and allows
/// nothing.
///
/// # Errors
/// xenstore's; an error is not an absent key.
fn read_in(services: &Services, domid: u16, dir: &CStr, key: Key) -> Result<Option<KVec<u8>>> {
    let text = match xenstore::read(dir, key.name()) {
        Err(error) if error == ENOENT => return Ok(None),
        text => text?,
    };
    if !key.accepts(&text) && services.may_log(domid) {
        pr_warn!("{}/{}: malformed\n", dir, key.name());
    }
    Ok(Some(text))
}

/// The directories that have the keys of a domain.
struct Dirs {
    domid: u16,
    own: CString,
    /// The directory of the defaults.
    all: CString,
}

impl Dirs {
    /// The directories of a domain.
    fn of(domid: u16) -> Result<Self> {
        Ok(Self {
            domid,
            own: CString::try_from_fmt(fmt!("{}/{}", policy::DOMAINS, domid))?,
            all: CString::try_from_fmt(fmt!("{}", policy::DEFAULT))?,
        })
    }

    /// Reads one key, from the defaults if the domain has none of its own. An alias has no
    /// default.
    fn read(&self, services: &Services, key: Key) -> Result<Option<KVec<u8>>> {
        match read_in(services, self.domid, &self.own, key)? {
            None if key != Key::Alias => read_in(services, self.domid, &self.all, key),
            text => Ok(text),
        }
    }
}

impl Policies {
    /// Creates an empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                entries <- new_mutex!(KVec::new()),
                obeying <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// Serialises loading and applying a policy until the guard is dropped.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.obeying.lock()
    }

    /// Loads the policy of a domain, and returns its numbers. A key that cannot be read keeps
    /// its value.
    pub(super) fn load(&self, services: &Services, domid: u16) -> DomainSettings {
        // A malformed number keeps its value, too.
        let mut numbers = self.numbers(domid).unwrap_or(DomainSettings::DEFAULT);
        let Ok(dirs) = Dirs::of(domid) else {
            return numbers;
        };
        for key in Key::LIST {
            if key.range().is_some() {
                if let Ok(text) = dirs.read(services, key) {
                    numbers.set(key, text.as_deref());
                }
            }
        }
        let alias = dirs.read(services, Key::Alias);
        let connect = dirs.read(services, Key::Connect);
        let publish = dirs.read(services, Key::Publish);
        let subscribe = dirs.read(services, Key::Subscribe);
        let mut entries = self.entries.lock();
        let known = entries.iter().any(|e| e.domid == domid);
        if !known && entries.push(Entry::new(domid), GFP_KERNEL).is_err() {
            // A domain without an entry may do nothing.
            return numbers;
        }
        if let Some(entry) = entries.iter_mut().find(|e| e.domid == domid) {
            entry.numbers = numbers;
            for (place, text) in [
                (&mut entry.alias, alias),
                (&mut entry.connect, connect),
                (&mut entry.publish, publish),
                (&mut entry.subscribe, subscribe),
            ] {
                if let Ok(text) = text {
                    *place = text;
                }
            }
        }
        numbers
    }

    /// Removes the policy of a domain.
    pub(super) fn forget(&self, domid: u16) {
        self.entries.lock().retain(|e| e.domid != domid);
    }

    /// What is set in numbers for a domain, if its policy is loaded.
    fn numbers(&self, domid: u16) -> Option<DomainSettings> {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|e| e.domid == domid);
        entry.map(|e| e.numbers)
    }

    /// The limits of a domain; of one of which nothing is known yet, nothing.
    pub(super) fn limits(&self, domid: u16) -> DomainSettings {
        self.numbers(domid).unwrap_or(DomainSettings {
            channels: 0,
            memory: 0,
            peer: 0,
            ..DomainSettings::DEFAULT
        })
    }

    /// The domain that one alone has as its alias; `dom0` is ours.
    pub(super) fn named(&self, name: &Name) -> Option<u16> {
        let text = name.text();
        if text == BACKEND_NAME {
            return Some(0);
        }
        let entries = self.entries.lock();
        let mut found = entries
            .iter()
            .filter(|e| policy::is_name(text) && e.alias.as_deref() == Some(text));
        let domid = found.next()?.domid;
        found.next().is_none().then_some(domid)
    }

    /// Returns whether a guest may join a group, as `kind` says.
    pub(super) fn may_join(&self, from: u16, kind: Kind, group: &[u8]) -> bool {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|e| e.domid == from);
        entry.is_some_and(|e| policy::may_join(e.groups(kind), group))
    }

    /// Returns whether a guest has lost the right to a group that it is in.
    pub(super) fn ends_join(&self, from: u16, kind: Kind, group: &[u8]) -> bool {
        let entries = self.entries.lock();
        let entry = entries.iter().find(|e| e.domid == from);
        // A domain without an entry has lost no right.
        entry.is_some_and(|e| policy::revokes_join(e.groups(kind), group))
    }

    /// Returns whether a guest has lost the right to a connection that it has.
    pub(super) fn ends_connect(&self, from: u16, to: u16, port: u32) -> bool {
        self.judge_connect(from, (to, port), policy::revokes_connect)
    }

    /// Returns whether a guest may connect to a port of domain `to`; 0 is this domain.
    pub(super) fn may_connect(&self, from: u16, to: u16, port: u32) -> bool {
        self.judge_connect(from, (to, port), policy::may_connect)
    }

    /// Applies `judge` to a connection. False for a domain without an entry, whose tunnel is
    /// ending: it has no rights, and has lost none.
    fn judge_connect(
        &self,
        from: u16,
        (to, port): (u16, u32),
        judge: fn(Option<&[u8]>, Target<'_>) -> bool,
    ) -> bool {
        let entries = self.entries.lock();
        let entry = |domid: u16| entries.iter().find(|e| e.domid == domid);
        let target = Target {
            domain: to,
            is_backend: to == 0,
            alias: entry(to).and_then(|e| e.alias.as_deref()),
            port,
        };
        entry(from).is_some_and(|e| judge(e.connect.as_deref(), target))
    }
}

/// Reads the scheduler's policy and total rate.
pub(super) fn scheduler() -> (Policy, u64) {
    let value = |node| {
        let dir = CString::try_from_fmt(fmt!("{}", policy::SCHEDULER)).ok()?;
        xenstore::read(&dir, node).ok()
    };
    (
        value(policy::SCHEDULER_POLICY)
            .and_then(|text| policy::scheduler_policy(&text))
            .unwrap_or_default(),
        value(policy::SCHEDULER_RATE)
            .and_then(|text| policy::scheduler_rate(&text))
            .unwrap_or(0),
    )
}

// SPDX-License-Identifier: GPL-2.0
//! A tunnel as xenstore shows it: where its nodes are, what they are when it is
//! new, what its two ends are doing. Reads and writes by a store it is given,
//! decides nothing.

use std::fmt;

use anyhow::{bail, Context, Result};
use idts_core::nodes::{self, number, DEVICE};
use idts_core::state::XenbusState;
use rustix::rand::{getrandom, GetRandomFlags};

use crate::store::{
    domain_id_of, is_alive, list, make, read, remove, transact, watch, write, Store,
};
use crate::text::escape;

/// A tunnel between the domain `front` and the one that serves it, `back`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    pub front: u16,
    pub back: u16,
}

impl Tunnel {
    /// The frontend's nodes.
    pub fn front_dir(&self) -> String {
        format!("/local/domain/{}/device/{DEVICE}/0", self.front)
    }

    /// The backend's nodes.
    pub fn back_dir(&self) -> String {
        format!("{}/0", self.back_parent())
    }

    /// The folder that they are in.
    pub fn back_parent(&self) -> String {
        format!("{}/{}", Self::back_root(self.back), self.front)
    }

    /// Where the backends of all tunnels of `back` are, by their front's id.
    pub fn back_root(back: u16) -> String {
        format!("/local/domain/{back}/backend/{DEVICE}")
    }

    /// Where each side's kernel tells what it could not do.
    fn error_dirs(&self) -> [String; 2] {
        [
            format!("/local/domain/{}/error/device/{DEVICE}/0", self.front),
            format!(
                "/local/domain/{}/error/backend/{DEVICE}/{}/0",
                self.back, self.front
            ),
        ]
    }

    /// The other domain that the front's nodes are of a tunnel with, if so: a
    /// driver domain's backend is none of our business.
    fn other_back(&self, store: &mut dyn Store) -> Result<Option<u16>> {
        let id = read(store, &format!("{}/backend-id", self.front_dir()))?;
        let id = id.as_deref().and_then(domain_id_of);
        Ok(id.filter(|id| *id != self.back))
    }

    /// Writes all nodes of a new tunnel; belongs in one transaction.
    pub fn create(&self, store: &mut dyn Store) -> Result<()> {
        if let Some(other) = self.other_back(store)? {
            bail!("domain {} has a tunnel with domain {other}", self.front);
        }
        let (front, back) = (self.front_dir(), self.back_dir());
        let theirs = [format!("n{}", self.front), format!("r{}", self.back)];
        let ours = [format!("n{}", self.back), format!("r{}", self.front)];
        for dir in self.error_dirs() {
            remove(store, &dir)?;
        }
        make(store, &front, b"", &theirs)?;
        make(store, &back, b"", &ours)?;
        // The guest owns its folder, but whom it talks to is not its choice.
        make(store, &format!("{front}/backend"), back.as_bytes(), &ours)?;
        make(
            store,
            &format!("{front}/backend-id"),
            self.back.to_string().as_bytes(),
            &ours,
        )?;
        make(store, &format!("{front}/handle"), b"0", &ours)?;
        make(store, &format!("{back}/frontend"), front.as_bytes(), &ours)?;
        make(
            store,
            &format!("{back}/frontend-id"),
            self.front.to_string().as_bytes(),
            &ours,
        )?;
        make(store, &format!("{back}/online"), b"1", &ours)?;
        let generation = new_generation()?;
        make(store, &format!("{back}/generation"), &generation, &ours)?;
        make(
            store,
            &format!("{front}/state"),
            to_text(XenbusState::Initialising).as_bytes(),
            &theirs,
        )?;
        make(
            store,
            &format!("{back}/state"),
            to_text(XenbusState::Initialising).as_bytes(),
            &ours,
        )
    }

    /// Removes all nodes, and the folders that are empty then; belongs in one
    /// transaction.
    pub fn remove(&self, store: &mut dyn Store) -> Result<()> {
        if self.other_back(store)?.is_none() {
            remove(store, &self.front_dir())?;
            remove_if_empty(
                store,
                &format!("/local/domain/{}/device/{DEVICE}", self.front),
            )?;
        }
        remove(store, &self.back_dir())?;
        remove_if_empty(store, &self.back_parent())?;
        remove_if_empty(store, &Self::back_root(self.back))
    }

    /// Tells both sides to close, for good; belongs in one transaction.
    pub fn close(&self, store: &mut dyn Store) -> Result<()> {
        let back = self.back_dir();
        write(store, &format!("{back}/online"), b"0")?;
        match self.ends(store)?.back {
            Some(XenbusState::Closing | XenbusState::Closed) => Ok(()),
            _ => write(
                store,
                &format!("{back}/state"),
                to_text(XenbusState::Closing).as_bytes(),
            ),
        }
    }

    /// What both ends are doing.
    pub fn ends(&self, store: &mut dyn Store) -> Result<Ends> {
        let front = match self.other_back(store)? {
            Some(_) => None,
            None => state(store, &self.front_dir())?,
        };
        let back = state(store, &self.back_dir())?;
        Ok(Ends { front, back })
    }

    /// Tells this tunnel from one that comes after it; None where there is none, or
    /// an earlier version made it.
    pub fn generation(&self, store: &mut dyn Store) -> Result<Option<Vec<u8>>> {
        read(store, &format!("{}/generation", self.back_dir()))
    }

    /// False once `close` was called.
    pub fn is_online(&self, store: &mut dyn Store) -> Result<bool> {
        let online = read(store, &format!("{}/online", self.back_dir()))?;
        Ok(online.as_deref() == Some(b"1"))
    }

    /// Has changes of both states told.
    pub fn watch(&self, store: &mut dyn Store) -> Result<()> {
        for dir in [self.front_dir(), self.back_dir()] {
            watch(store, &format!("{dir}/state"))?;
        }
        Ok(())
    }

    /// What the kernels of both sides say went wrong.
    pub fn errors(&self, store: &mut dyn Store) -> Vec<String> {
        let read = |dir: String| store.read(&format!("{dir}/error")).ok().flatten();
        let errors = self.error_dirs().into_iter().filter_map(read);
        errors.map(|error| escape(&error)).collect()
    }
}

/// Sixteen digits that no other tunnel has.
fn new_generation() -> Result<Vec<u8>> {
    let mut bytes = [0; 8];
    let got = getrandom(&mut bytes, GetRandomFlags::empty());
    got.context("cannot get random bytes")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)).into())
}

/// A node of a domain's own home.
fn of_domain(domain: u16, (dir, node): (&str, &str)) -> String {
    format!("/local/domain/{domain}/{dir}/{node}")
}

/// Where a domain says whether it wants a tunnel: a node of its own.
pub fn ask_path(domain: u16) -> String {
    of_domain(domain, nodes::REQUEST)
}

/// What a domain wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing, or nothing that can be understood.
    None,
    /// To keep the tunnel that it has.
    Keep,
    /// A tunnel.
    Attach,
}

/// What a domain wants.
pub fn wish(store: &mut dyn Store, domain: u16) -> Result<Wish> {
    let ask = read(store, &ask_path(domain))?;
    let is = |word: &str| ask.as_deref() == Some(word.as_bytes());
    Ok(match () {
        () if is(nodes::REQUEST_ATTACH) => Wish::Attach,
        () if is(nodes::REQUEST_KEEP) => Wish::Keep,
        () => Wish::None,
    })
}

/// Tells a domain whether a tunnel comes when it asks.
pub fn tell_on_demand(store: &mut dyn Store, domain: u16, home: u16, on: bool) -> Result<()> {
    let path = of_domain(domain, nodes::ON_DEMAND);
    let now = read(store, &path)?;
    if on == (now.as_deref() == Some(nodes::ON_DEMAND_ENABLED.as_bytes())) {
        return Ok(());
    }
    if !on {
        return remove(store, &path);
    }
    let permissions = [format!("n{home}"), format!("r{domain}")];
    transact(store, |store| {
        if !is_alive(store, domain)? {
            return Ok(());
        }
        make(
            store,
            &path,
            nodes::ON_DEMAND_ENABLED.as_bytes(),
            &permissions,
        )
    })
}

/// Takes the domain's asking away.
pub fn remove_ask(store: &mut dyn Store, domain: u16) -> Result<()> {
    remove(store, &ask_path(domain))
}

/// The states of both ends; None where there is no such node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub front: Option<XenbusState>,
    pub back: Option<XenbusState>,
}

impl Ends {
    pub const CONNECTED: Self = Self {
        front: Some(XenbusState::Connected),
        back: Some(XenbusState::Connected),
    };

    /// True when there is nothing at all of the tunnel.
    pub const fn are_absent(&self) -> bool {
        self.front.is_none() && self.back.is_none()
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "front {}, back {}",
            state_name(self.front),
            state_name(self.back)
        )
    }
}

/// A state in words.
pub fn state_name(state: Option<XenbusState>) -> String {
    state.map_or_else(|| "gone".into(), |state| format!("{state:?}"))
}

fn state(store: &mut dyn Store, dir: &str) -> Result<Option<XenbusState>> {
    let text = read(store, &format!("{dir}/state"))?;
    // The frontend's state is the guest's to write: anything may stand there.
    Ok(text.map(|text| XenbusState::from_wire(number(&text, 0, u32::MAX).unwrap_or_default())))
}

fn to_text(state: XenbusState) -> String {
    (state as u32).to_string()
}

fn remove_if_empty(store: &mut dyn Store, path: &str) -> Result<()> {
    if list(store, path)?.is_empty() {
        remove(store, path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    const TUNNEL: Tunnel = Tunnel { front: 3, back: 0 };

    #[test]
    fn a_new_tunnel_has_these_nodes_and_permissions() {
        let mut store = Fake::with_domains(&[(0, "Domain-0"), (3, "u1")]);
        TUNNEL.create(&mut store).unwrap();
        let front = "/local/domain/3/device/idts/0";
        let back = "/local/domain/0/backend/idts/3/0";
        let (theirs, ours) = ("n3 r0", "n0 r3");
        for (path, value, permissions) in [
            (front.to_string(), "", theirs),
            (format!("{front}/backend"), back, ours),
            (format!("{front}/backend-id"), "0", ours),
            (format!("{front}/handle"), "0", ours),
            (format!("{front}/state"), "1", theirs),
            (back.to_string(), "", ours),
            (format!("{back}/frontend"), front, ours),
            (format!("{back}/frontend-id"), "3", ours),
            (format!("{back}/online"), "1", ours),
            (format!("{back}/state"), "1", ours),
        ] {
            assert_eq!(store.value(&path), Some(value), "{path}");
            assert_eq!(store.permissions(&path), permissions, "{path}");
        }
        let first = TUNNEL.generation(&mut store).unwrap().unwrap();
        TUNNEL.create(&mut store).unwrap();
        assert_ne!(TUNNEL.generation(&mut store).unwrap().unwrap(), first);
    }

    #[test]
    fn the_front_of_another_backend_is_left_alone() {
        let mut store = Fake::with_domains(&[(0, "Domain-0"), (2, "driver"), (3, "u1")]);
        let other = Tunnel { front: 3, back: 2 };
        other.create(&mut store).unwrap();
        assert!(TUNNEL.ends(&mut store).unwrap().are_absent());
        assert!(TUNNEL.create(&mut store).is_err());
        // A leftover of ours beside it.
        store.set("/local/domain/0/backend/idts/3/0/state", "4");
        TUNNEL.remove(&mut store).unwrap();
        assert_eq!(store.value("/local/domain/0/backend/idts"), None);
        assert!(other.ends(&mut store).unwrap().front.is_some());
    }

    #[test]
    fn removal_leaves_no_trace_and_spares_others() {
        let mut store = Fake::with_domains(&[(0, "Domain-0"), (3, "u1"), (4, "u2")]);
        let before = store.paths();
        let other = Tunnel { front: 4, back: 0 };
        other.create(&mut store).unwrap();
        let with_other = store.paths();
        TUNNEL.create(&mut store).unwrap();
        TUNNEL.remove(&mut store).unwrap();
        assert_eq!(store.paths(), with_other);
        other.remove(&mut store).unwrap();
        assert_eq!(store.paths(), before);
    }

    #[test]
    fn a_guest_may_write_any_state() {
        let mut store = Fake::with_domains(&[(0, "Domain-0"), (3, "u1")]);
        TUNNEL.create(&mut store).unwrap();
        for text in ["", "-1", "99", "4294967296", "Connected"] {
            store.set("/local/domain/3/device/idts/0/state", text);
            let ends = TUNNEL.ends(&mut store).unwrap();
            assert_eq!(ends.front, Some(XenbusState::Unknown), "{text}");
        }
    }
}

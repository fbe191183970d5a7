// SPDX-License-Identifier: GPL-2.0
//! House-keeping: leftovers, which are tunnels that can never work again, and what
//! is set for domains that are gone. libxl does not know the device, so the
//! backend's nodes stay when a domain dies.
//!
//! It is done beside what was asked for, so what goes wrong is a remark.

use anyhow::{bail, Result};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use idts_core::state::XenbusState;
use idts_xenstore::DOMAINS;

use crate::command::Manager;
use crate::model::Tunnel;
use crate::say;
use crate::settings::away::AWAY_MAX;
use crate::store::{domain_id, domain_id_of, is_alive, list, read, transact, Store};

/// How long the kernel may take to notice that nodes are gone.
const KERNEL_LIMIT: Duration = Duration::from_secs(30);

/// All tunnels of the domain `back`, whole or not.
pub fn tunnels(store: &mut dyn Store, back: u16) -> Result<BTreeSet<Tunnel>> {
    let mut fronts = backs(store, back)?;
    for domain in ids(store, DOMAINS)? {
        let front = Tunnel {
            front: domain,
            back,
        }
        .front_dir();
        let backend_id = read(store, &format!("{front}/backend-id"))?;
        if backend_id.as_deref().and_then(domain_id_of) == Some(back) {
            fronts.insert(domain);
        }
    }
    Ok(fronts
        .into_iter()
        .map(|front| Tunnel { front, back })
        .collect())
}

/// Domains for which the domain `back` has nodes of a backend.
pub fn backs(store: &mut dyn Store, back: u16) -> Result<BTreeSet<u16>> {
    ids(store, &Tunnel::back_root(back))
}

/// The domain ids among a folder's children.
pub fn ids(store: &mut dyn Store, path: &str) -> Result<BTreeSet<u16>> {
    let names = list(store, path)?;
    Ok(names.iter().filter_map(|name| domain_id(name)).collect())
}

/// Why the tunnel can never work again, if so.
pub fn leftover(store: &mut dyn Store, tunnel: Tunnel) -> Result<Option<&'static str>> {
    let has_back = read(store, &tunnel.back_parent())?.is_some();
    if !is_alive(store, tunnel.front)? {
        return Ok(has_back.then_some("the domain is gone"));
    }
    let ends = tunnel.ends(store)?;
    Ok(match (ends.front, ends.back) {
        (None, None) if !has_back => None,
        (None, _) => Some("the frontend's nodes are gone"),
        (_, None) => Some("the backend's nodes are gone"),
        (_, Some(XenbusState::Closed)) if !tunnel.is_online(store)? => {
            Some("it is closed for good, and its nodes are still there")
        }
        _ => None,
    })
}

/// Removes the tunnel with a domain if it is a leftover, and says so.
pub fn one(manager: &mut Manager<'_>, tunnel: Tunnel) -> Result<bool> {
    // Most are none, which needs no transaction.
    if leftover(manager.store, tunnel)?.is_none() {
        return Ok(false);
    }
    let reason = transact(manager.store, |store| {
        let reason = leftover(store, tunnel)?;
        if reason.is_some() {
            tunnel.remove(store)?;
        }
        Ok(reason)
    })?;
    if let Some(reason) = reason {
        let front = tunnel.front;
        say::remark(&format!("removed the tunnel with domain {front}: {reason}"));
    }
    Ok(reason.is_some())
}

/// Removes all leftovers and says so, and puts away what is set for domains that
/// are gone; gives the domains that the leftovers were of.
pub fn run(manager: &mut Manager<'_>) -> Vec<u16> {
    let tunnels = tunnels(manager.store, manager.domain);
    let tunnels = warn("leftovers are not removed", tunnels).unwrap_or_default();
    let mut removed = Vec::new();
    for tunnel in tunnels {
        let what = format!("the leftover of domain {} is not removed", tunnel.front);
        if warn(&what, one(manager, tunnel)) == Some(true) {
            removed.push(tunnel.front);
        }
    }
    settings(manager);
    removed
}

/// Puts away what is set for domains that are gone.
pub fn settings(manager: &mut Manager<'_>) {
    let settings = manager.settings();
    let ids = warn("settings are not swept", settings.ids(manager.store));
    let ids = ids.unwrap_or_default();
    let put_away = ids.iter().filter(|id| one_setting(manager, **id).is_some());
    if put_away.count() == 0 {
        return;
    }
    // What was set for one that was migrated within this host is for who it is now.
    let alive = warn(
        "what is put away is not given back",
        self::ids(manager.store, DOMAINS),
    );
    for id in alive.unwrap_or_default() {
        if manager.settings().is_awaited(manager.store, id) {
            give_back(manager, id);
        }
    }
}

/// Has a domain have what was put away for it.
pub fn give_back(manager: &mut Manager<'_>, id: u16) {
    let settings = manager.settings();
    let given = transact(manager.store, |store| match is_alive(store, id)? {
        true => settings.own(store, id),
        false => Ok(()),
    });
    warn(
        &format!("domain {id} does not have what was set for it"),
        given,
    );
}

/// Puts away what is set for a domain if it is gone; None if it is not.
pub fn one_setting(manager: &mut Manager<'_>, id: u16) -> Option<()> {
    let swept = manager.settings().sweep(manager.store, id);
    let what = format!("what is set for domain {id} is not put away");
    let dropped = warn(&what, swept)??;
    if dropped > 0 {
        say::remark(&format!(
            "what was set for {dropped} domains that are gone is forgotten: \
             of no more than {AWAY_MAX} it is kept"
        ));
    }
    Some(())
}

/// What could be done; what could not is a remark.
fn warn<T>(what: &str, result: Result<T>) -> Option<T> {
    result
        .map_err(|error| say::remark(&format!("{what}: {error:#}")))
        .ok()
}

/// Waits until the driver let go of a tunnel whose nodes are removed.
pub fn wait_for_kernel(manager: &Manager<'_>, tunnel: Tunnel) -> Result<()> {
    let deadline = Instant::now() + KERNEL_LIMIT;
    if manager.kernel.wait_until_gone(tunnel, deadline) {
        return Ok(());
    }
    bail!(
        "idts_back still holds the device of domain {}, whose nodes are removed",
        tunnel.front
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};

    #[test]
    fn only_what_cannot_work_is_removed() {
        let mut ground = Ground::new(&[3, 4, 5, 6, 7]);
        for front in [3, 4, 5, 6, 7] {
            Tunnel { front, back: 0 }.create(&mut ground.store).unwrap();
        }
        ground.store.unset("/local/domain/4");
        ground.store.unset("/local/domain/5/device/idts/0");
        ground.store.unset("/local/domain/0/backend/idts/6");
        ground
            .store
            .set("/local/domain/0/backend/idts/7/0/state", "6");
        ground
            .store
            .set("/local/domain/0/backend/idts/7/0/online", "0");
        let removed = run(&mut manager(&mut ground));
        assert_eq!(removed, [4, 5, 6, 7]);
        let left = tunnels(&mut ground.store, 0).unwrap();
        assert_eq!(left, [Tunnel { front: 3, back: 0 }].into());
        assert_eq!(ground.store.value("/local/domain/5"), Some(""));
    }

    #[test]
    fn tunnels_of_other_backends_are_not_ours() {
        let mut ground = Ground::new(&[2, 3]);
        Tunnel { front: 3, back: 2 }
            .create(&mut ground.store)
            .unwrap();
        assert!(run(&mut manager(&mut ground)).is_empty());
        assert!(ground
            .store
            .value("/local/domain/3/device/idts/0")
            .is_some());
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Leftovers: tunnels that can never work again. libxl does not know the
//! device, so the backend's nodes stay when a domain dies.

use anyhow::{bail, Result};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use idts_core::state::XenbusState;

use crate::command::Manager;
use crate::model::Tunnel;
use crate::say;
use crate::store::{domain_id, domain_id_of, is_alive, list, read, transact, Store};

/// How long the kernel may take to notice that nodes are gone.
const KERNEL_LIMIT: Duration = Duration::from_secs(30);

/// All tunnels of the domain `back`, whole or not.
pub fn tunnels(store: &mut dyn Store, back: u16) -> Result<BTreeSet<Tunnel>> {
    let mut fronts = ids(store, &Tunnel::back_root(back))?;
    for domain in ids(store, "/local/domain")? {
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

fn ids(store: &mut dyn Store, path: &str) -> Result<BTreeSet<u16>> {
    let names = list(store, path)?;
    Ok(names.iter().filter_map(|name| domain_id(name)).collect())
}

/// Why the tunnel can never work again, if so.
pub fn leftover(store: &mut dyn Store, tunnel: Tunnel) -> Result<Option<&'static str>> {
    if !is_alive(store, tunnel.front)? {
        return Ok(Some("the domain is gone"));
    }
    let ends = tunnel.ends(store)?;
    Ok(match (ends.front, ends.back) {
        (None, _) => Some("the frontend's nodes are gone"),
        (_, None) => Some("the backend's nodes are gone"),
        (_, Some(XenbusState::Closed)) if !tunnel.is_online(store)? => {
            Some("its detach was not finished")
        }
        _ => None,
    })
}

/// Removes all leftovers and says so, and puts away what is set for domains that
/// are gone; gives the domains that they were of.
pub fn run(manager: &mut Manager<'_>) -> Result<Vec<u16>> {
    let mut removed = Vec::new();
    for tunnel in tunnels(manager.store, manager.domain)? {
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
            wait_for_kernel(manager, tunnel)?;
            removed.push(tunnel.front);
        }
    }
    manager.settings().sweep(manager.store)?;
    Ok(removed)
}

/// Waits until the driver let go of a tunnel whose nodes are removed.
pub fn wait_for_kernel(manager: &Manager<'_>, tunnel: Tunnel) -> Result<()> {
    if manager
        .kernel
        .wait_until_gone(tunnel, Instant::now() + KERNEL_LIMIT)
    {
        return Ok(());
    }
    bail!(
        "the tunnel with domain {} is removed, but idts_back still holds its device",
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
        let removed = run(&mut manager(&mut ground)).unwrap();
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
        assert!(run(&mut manager(&mut ground)).unwrap().is_empty());
        assert!(ground
            .store
            .value("/local/domain/3/device/idts/0")
            .is_some());
    }
}

// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr detach`: as libxl removes a device. Backend offline and Closing,
//! wait for Closed, nodes away.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use idts_core::state::XenbusState;

use super::Manager;
use crate::cli::Detach;
use crate::model::{remove_ask, Ends, Tunnel};
use crate::settings::Detached;
use crate::store::{is_alive, transact};
use crate::{say, sweep};

/// Once the backend is Closed, the frontend still ends its grants. It gets this
/// long, and no longer: a guest must not be able to hold the tunnel.
const FRONT_LIMIT: Duration = Duration::from_secs(5);

/// Tells a tunnel from the next one with the same domain.
type Generation = Option<Vec<u8>>;

pub fn run(manager: &mut Manager<'_>, args: &Detach) -> Result<()> {
    let swept = sweep::run(manager);
    let tunnel = manager.tunnel(&args.domain)?;
    let label = manager.label(tunnel.front);
    if swept.contains(&tunnel.front) || sweep::one(manager, tunnel)? {
        stay(manager, tunnel, Detached::ByHand)?;
        return sweep::wait_for_kernel(manager, tunnel);
    }
    if !is_alive(manager.store, tunnel.front)? {
        bail!(
            "there is no domain {}, and nothing left of its tunnel",
            tunnel.front
        );
    }
    let (ends, generation) = close(manager, tunnel, &label, Detached::ByHand)?;
    if !args.force && somebody_will_act(ends) {
        wait_until_closed(manager, tunnel, &generation, &label, args.wait)?;
    }
    transact(manager.store, |store| {
        // Somebody may have been faster, and have attached it anew.
        if tunnel.generation(store)? != generation {
            return Ok(());
        }
        remove_ask(store, tunnel.front)?;
        tunnel.remove(store)
    })?;
    sweep::wait_for_kernel(manager, tunnel)?;
    Ok(say::result(&format!(
        "the tunnel with {label} is removed\n"
    ))?)
}

/// Starts the closing and leaves the rest to a sweep; at once where nobody will
/// act.
pub fn begin(manager: &mut Manager<'_>, tunnel: Tunnel) -> Result<()> {
    let label = manager.label(tunnel.front);
    let (ends, _) = close(manager, tunnel, &label, Detached::Idle)?;
    if somebody_will_act(ends) {
        return Ok(());
    }
    transact(manager.store, |store| tunnel.remove(store))
}

/// Notes that the domain is to stay without a tunnel, if it is alive.
fn stay(manager: &mut Manager<'_>, tunnel: Tunnel, why: Detached) -> Result<()> {
    let settings = manager.settings();
    transact(manager.store, |store| {
        match is_alive(store, tunnel.front)? && tunnel.ends(store)?.are_absent() {
            true => settings.mark(store, tunnel.front, why),
            false => Ok(()),
        }
    })
}

/// Starts the closing, for a reason that is noted; gives what the ends did before,
/// and which tunnel it is.
fn close(
    manager: &mut Manager<'_>,
    tunnel: Tunnel,
    label: &str,
    why: Detached,
) -> Result<(Ends, Generation)> {
    let settings = manager.settings();
    transact(manager.store, |store| {
        let ends = tunnel.ends(store)?;
        if ends.are_absent() {
            bail!("{label} is not attached");
        }
        if ends.back.is_some() {
            tunnel.close(store)?;
        }
        settings.mark(store, tunnel.front, why)?;
        Ok((ends, tunnel.generation(store)?))
    })
}

/// A frontend that never started, or has ended, does not see the backend's
/// Closing, and so nothing ever makes the backend Closed.
fn somebody_will_act(before: Ends) -> bool {
    use XenbusState::{Closed, Initialising, Unknown};
    let front_acts = !matches!(before.front, None | Some(Unknown | Initialising | Closed));
    // Without its driver the backend stays as it was created.
    let back_acts = !matches!(before.back, None | Some(Unknown | Initialising | Closed));
    front_acts && back_acts
}

fn wait_until_closed(
    manager: &mut Manager<'_>,
    tunnel: Tunnel,
    generation: &Generation,
    label: &str,
    seconds: u32,
) -> Result<()> {
    let mut deadline = Instant::now() + Duration::from_secs(seconds.into());
    let mut back_closed = false;
    tunnel.watch(manager.store)?;
    loop {
        if tunnel.generation(manager.store)? != *generation {
            return Ok(());
        }
        let ends = tunnel.ends(manager.store)?;
        if is_over(ends.front) && (back_closed || ends.front.is_none()) {
            return Ok(());
        }
        if !back_closed && is_over(ends.back) {
            back_closed = true;
            deadline = Instant::now() + FRONT_LIMIT;
            continue;
        }
        if !manager.wait(deadline)? {
            if back_closed {
                return Ok(());
            }
            bail!(
                "the tunnel with {label} is not closed after {seconds} s: {ends}; \
                 --force removes it all the same"
            );
        }
    }
}

fn is_over(state: Option<XenbusState>) -> bool {
    matches!(state, None | Some(XenbusState::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};

    const FRONT: &str = "/local/domain/3/device/idts/0/state";
    const BACK: &str = "/local/domain/0/backend/idts/3/0/state";
    const ONLINE: &str = "/local/domain/0/backend/idts/3/0/online";

    fn args(force: bool) -> Detach {
        Detach {
            domain: "3".into(),
            wait: 30,
            force,
        }
    }

    /// All nodes but what is set.
    fn of_tunnels(ground: &Ground) -> Vec<String> {
        let mut paths = ground.store.paths();
        paths.retain(|path| !path.starts_with("/local/domain/0/idts"));
        paths
    }

    /// A host whose guest 3 has a tunnel with these states.
    fn attached(front: &str, back: &str) -> (Ground, Vec<String>) {
        let mut ground = Ground::new(&[3]);
        let before = of_tunnels(&ground);
        Tunnel { front: 3, back: 0 }
            .create(&mut ground.store)
            .unwrap();
        ground.store.set(FRONT, front);
        ground.store.set(BACK, back);
        ground.store.loose_writes = 0;
        (ground, before)
    }

    #[test]
    fn closes_waits_and_removes() {
        let (mut ground, before) = attached("4", "4");
        ground.store.then(|store| {
            assert_eq!(
                (store.value(ONLINE), store.value(BACK)),
                (Some("0"), Some("5"))
            );
            store.set(FRONT, "5");
        });
        ground.store.then(|store| store.set(BACK, "6"));
        ground.store.then(|store| {
            assert!(
                store.value(FRONT).is_some(),
                "removed before the front was done"
            );
            store.set(FRONT, "6");
        });
        run(&mut manager(&mut ground), &args(false)).unwrap();
        assert_eq!(of_tunnels(&ground), before);
        assert_eq!((ground.store.commits, ground.store.loose_writes), (2, 0));
    }

    #[test]
    fn a_tunnel_that_came_meanwhile_stays() {
        let (mut ground, _) = attached("4", "4");
        ground.store.then(|store| {
            let tunnel = Tunnel { front: 3, back: 0 };
            tunnel.remove(store).unwrap();
            tunnel.create(store).unwrap();
        });
        run(&mut manager(&mut ground), &args(false)).unwrap();
        assert_eq!(ground.store.value(BACK), Some("1"));
    }

    #[test]
    fn a_silent_guest_cannot_hold_a_closed_backend() {
        let (mut ground, before) = attached("4", "4");
        ground.store.then(|store| store.set(BACK, "6"));
        run(&mut manager(&mut ground), &args(false)).unwrap();
        assert_eq!(of_tunnels(&ground), before);
    }

    #[test]
    fn a_backend_that_does_not_close_is_an_error_unless_forced() {
        let (mut ground, before) = attached("4", "4");
        let error = run(&mut manager(&mut ground), &args(false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("front Connected, back Closing"), "{error}");
        assert!(ground.store.value(FRONT).is_some());
        run(&mut manager(&mut ground), &args(true)).unwrap();
        assert_eq!(of_tunnels(&ground), before);
    }

    #[test]
    fn without_a_driver_on_either_side_nobody_is_waited_for() {
        for (front, back) in [("1", "1"), ("1", "2"), ("6", "2"), ("nonsense", "4")] {
            let (mut ground, before) = attached(front, back);
            run(&mut manager(&mut ground), &args(false)).unwrap();
            assert_eq!(of_tunnels(&ground), before, "{front} {back}");
        }
    }

    #[test]
    fn a_domain_that_dies_meanwhile_ends_the_wait() {
        let (mut ground, _) = attached("4", "4");
        ground.store.then(|store| store.unset("/local/domain/3"));
        run(&mut manager(&mut ground), &args(false)).unwrap();
        assert_eq!(ground.store.value("/local/domain/0/backend/idts"), None);
    }

    #[test]
    fn leftovers_of_a_dead_domain_are_removed_once() {
        let (mut ground, _) = attached("4", "4");
        ground.store.unset("/local/domain/3");
        run(&mut manager(&mut ground), &args(false)).unwrap();
        assert_eq!(ground.store.value("/local/domain/0/backend/idts"), None);
        let error = run(&mut manager(&mut ground), &args(false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no domain 3"), "{error}");
    }

    #[test]
    fn what_is_not_attached_cannot_be_detached() {
        let mut ground = Ground::new(&[3]);
        let error = run(&mut manager(&mut ground), &args(false))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "domain 3 (u3) is not attached");
    }
}

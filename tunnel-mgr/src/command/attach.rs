// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr attach`: writes the nodes, waits until both sides connected.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use idts_core::state::XenbusState;

use super::Manager;
use crate::cli::Attach;
use crate::model::{Ends, Tunnel};
use crate::store::{is_alive, transact};
use crate::{say, sweep};

pub fn run(manager: &mut Manager<'_>, args: &Attach) -> Result<()> {
    sweep::run(manager)?;
    let tunnel = manager.tunnel(&args.domain)?;
    let label = manager.label(tunnel.front);
    if let Some(ends) = create(manager, tunnel)? {
        if !args.if_absent {
            bail!("{label} is attached already: {ends}");
        }
    }
    if args.wait == 0 {
        return Ok(say::result(&format!(
            "the tunnel with {label} is attached\n"
        ))?);
    }
    wait_until_connected(manager, tunnel, &label, args.wait)?;
    Ok(say::result(&format!(
        "the tunnel with {label} is connected\n"
    ))?)
}

/// Creates the tunnel, with what was set for the domain under another id; gives
/// what its ends do when there is one already.
pub fn create(manager: &mut Manager<'_>, tunnel: Tunnel) -> Result<Option<Ends>> {
    let settings = manager.settings();
    transact(manager.store, |store| {
        if !is_alive(store, tunnel.front)? {
            bail!("there is no domain {}", tunnel.front);
        }
        let ends = tunnel.ends(store)?;
        if !ends.are_absent() {
            return Ok(Some(ends));
        }
        settings.give_back(store, tunnel.front)?;
        tunnel.create(store)?;
        Ok(None)
    })
}

fn wait_until_connected(
    manager: &mut Manager<'_>,
    tunnel: Tunnel,
    label: &str,
    seconds: u32,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    tunnel.watch(manager.store)?;
    loop {
        let ends = tunnel.ends(manager.store)?;
        if ends == Ends::CONNECTED {
            return Ok(());
        }
        if ends.front.is_none() || ends.back.is_none() {
            bail!("the tunnel with {label} was removed meanwhile: {ends}");
        }
        if !manager.wait(deadline)? {
            bail!("{}", explain(manager, tunnel, ends, label, seconds));
        }
    }
}

fn explain(
    manager: &mut Manager<'_>,
    tunnel: Tunnel,
    ends: Ends,
    label: &str,
    seconds: u32,
) -> String {
    let guess = match (ends.front, ends.back) {
        (_, Some(XenbusState::Initialising)) => "; idts_back is not loaded in this domain?".into(),
        (Some(XenbusState::Initialising), _) => format!("; idts_front is not loaded in {label}?"),
        _ => String::new(),
    };
    let errors = tunnel.errors(manager.store);
    let said: String = errors
        .iter()
        .map(|error| format!("; its kernel says: {error}"))
        .collect();
    format!(
        "the tunnel with {label} is attached, but not connected after {seconds} s: \
         {ends}{guess}{said}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};

    const FRONT: &str = "/local/domain/3/device/idts/0/state";
    const BACK: &str = "/local/domain/0/backend/idts/3/0/state";

    fn args(wait: u32, if_absent: bool) -> Attach {
        Attach {
            domain: "u3".into(),
            wait,
            if_absent,
        }
    }

    #[test]
    fn writes_all_in_one_transaction_and_waits_for_both() {
        let mut ground = Ground::new(&[3]);
        ground.store.conflicts = 1;
        ground.store.then(|store| store.set(BACK, "2"));
        ground.store.then(|store| store.set(FRONT, "4"));
        ground.store.then(|store| store.set(BACK, "4"));
        run(&mut manager(&mut ground), &args(30, false)).unwrap();
        assert_eq!((ground.store.commits, ground.store.loose_writes), (1, 0));
        assert!(ground.store.steps.is_empty());
    }

    #[test]
    fn names_who_is_missing() {
        for (front, back, expected) in [
            ("1", "1", "idts_back is not loaded"),
            ("1", "2", "idts_front is not loaded in domain 3 (u3)?"),
            ("6", "5", "front Closed, back Closing"),
        ] {
            let mut ground = Ground::new(&[3]);
            ground.store.then(move |store| {
                store.set(FRONT, front);
                store.set(BACK, back);
                store.set("/local/domain/3/error/device/idts/0/error", "12 no memory");
            });
            let error = run(&mut manager(&mut ground), &args(30, false))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("12 no memory"), "{error}");
            assert!(ground.store.value(FRONT).is_some());
        }
    }

    #[test]
    fn a_second_attach_is_an_error_unless_wished() {
        let mut ground = Ground::new(&[3]);
        run(&mut manager(&mut ground), &args(0, false)).unwrap();
        let error = run(&mut manager(&mut ground), &args(0, false))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("attached already: front Initialising"),
            "{error}"
        );
        run(&mut manager(&mut ground), &args(0, true)).unwrap();
        assert_eq!(ground.store.value(FRONT), Some("1"));
    }

    #[test]
    fn a_half_removed_tunnel_is_replaced() {
        let mut ground = Ground::new(&[3]);
        run(&mut manager(&mut ground), &args(0, false)).unwrap();
        ground.store.unset("/local/domain/3/device/idts");
        ground.store.set(BACK, "4");
        run(&mut manager(&mut ground), &args(0, false)).unwrap();
        assert_eq!(ground.store.value(BACK), Some("1"));
    }

    #[test]
    fn a_domain_that_dies_meanwhile_ends_the_wait() {
        let mut ground = Ground::new(&[3]);
        ground.store.then(|store| store.unset("/local/domain/3"));
        let error = run(&mut manager(&mut ground), &args(30, false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("removed meanwhile: front gone"), "{error}");
    }

    #[test]
    fn there_must_be_such_a_domain() {
        let mut ground = Ground::new(&[3]);
        let before = ground.store.paths();
        for domain in ["9", "u9", "0"] {
            let args = Attach {
                domain: domain.into(),
                wait: 0,
                if_absent: false,
            };
            assert!(run(&mut manager(&mut ground), &args).is_err());
        }
        assert_eq!(ground.store.paths(), before);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr attach`: writes the nodes, waits until both sides connected.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use idts_core::state::XenbusState;

use super::Manager;
use crate::cli::Attach;
use crate::model::{Ends, Tunnel};
use crate::store::{is_alive, transact};
use crate::text::Name;
use crate::{say, store, sweep};

pub fn run(manager: &mut Manager<'_>, args: &Attach) -> Result<()> {
    sweep::run(manager);
    let tunnel = manager.tunnel(&args.domain)?;
    let label = manager.label(tunnel.front);
    sweep::one(manager, tunnel)?;
    inherit(manager, tunnel.front)?;
    let lost = lost_settings(manager, tunnel.front);
    let created = match create(manager, tunnel)? {
        Created::Held => {
            sweep::wait_for_kernel(manager, tunnel)?;
            create(manager, tunnel)?
        }
        created => created,
    };
    match created {
        Created::There(ends) if !args.if_absent => bail!("{label} is attached already: {ends}"),
        Created::There(_) => {}
        Created::Held => bail!("{label}: another one attaches and detaches it"),
        Created::New => lost.iter().for_each(|lost| say::remark(lost)),
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

/// What a try to attach comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    New,
    There(Ends),
    /// The driver has yet to let go of the tunnel before.
    Held,
}

/// Creates the tunnel, with what was set for the domain under another id.
pub fn create(manager: &mut Manager<'_>, tunnel: Tunnel) -> Result<Created> {
    let settings = manager.settings();
    let kernel = manager.kernel.clone();
    transact(manager.store, |store| {
        if !is_alive(store, tunnel.front)? {
            bail!("there is no domain {}", tunnel.front);
        }
        let ends = tunnel.ends(store)?;
        if !ends.are_absent() {
            return Ok(Created::There(ends));
        }
        if kernel.holds(tunnel) {
            return Ok(Created::Held);
        }
        settings.own(store, tunnel.front)?;
        settings.unmark(store, tunnel.front)?;
        tunnel.create(store)?;
        Ok(Created::New)
    })
}

/// Gives a domain what was typed for it under another id that still lives.
pub fn inherit(manager: &mut Manager<'_>, domain: u16) -> Result<()> {
    let settings = manager.settings();
    if let Some(twin) = settings.twin(manager.store, domain)? {
        transact(manager.store, |store| settings.inherit(store, twin, domain))?;
    }
    Ok(())
}

/// What to say of a domain that comes without what its name had.
fn lost_settings(manager: &mut Manager<'_>, domain: u16) -> Option<String> {
    let name = store::name_of(manager.store, domain)?;
    let uuid = store::uuid_of(manager.store, domain);
    let settings = manager.settings();
    if settings.has_any(manager.store, domain).ok()? {
        return None;
    }
    let lost = settings.lost(manager.store).ok()?;
    say_lost(domain, &name, uuid.as_deref(), &lost)
}

/// The same, where it is known what was lost: the UUIDs of domains that had
/// something set, by their names.
pub fn say_lost(
    domain: u16,
    name: &Name,
    uuid: Option<&str>,
    lost: &[(Vec<u8>, String)],
) -> Option<String> {
    let is_it = |(of, had): &&(Vec<u8>, String)| *of == name.0 && Some(had.as_str()) != uuid;
    let (_, had) = lost.iter().find(is_it)?;
    Some(format!(
        "domain {domain} ({name}) comes without what was set for the one called so before, \
         whose UUID is {had}; a settings file can say it by name"
    ))
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
    fn the_driver_has_to_let_go_of_the_tunnel_before() {
        let mut ground = Ground::new(&[3]);
        let root = std::env::temp_dir().join(format!("idts-held-{}", std::process::id()));
        let device = root.join("sys/bus/xen-backend/devices/idts-3-0");
        std::fs::create_dir_all(&device).unwrap();
        let mut manager = manager(&mut ground);
        manager.kernel.root = root.clone();
        let tunnel = manager.tunnel("u3").unwrap();
        assert_eq!(create(&mut manager, tunnel).unwrap(), Created::Held);
        let gone = std::thread::spawn(move || std::fs::remove_dir_all(root).unwrap());
        run(&mut manager, &args(0, false)).unwrap();
        gone.join().unwrap();
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

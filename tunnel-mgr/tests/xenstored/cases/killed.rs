// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr` killed by SIGKILL at every request that it makes: what it did is
//! there as a whole or not at all, and the same command then does the rest.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use super::{back, front};
use crate::bed::{done, program, until, Bed, Watch};
use crate::proxy::Proxy;

/// Runs it until it ends, or has had the answers to all but the last of so many
/// requests; false if it was killed there.
fn ends_within(proxy: &Proxy, requests: u64, args: &[&str]) -> Result<bool> {
    proxy.stop_after(requests);
    let mut child = program(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = until("it ends or stops", || {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Some(status)));
        }
        Ok(proxy.has_stopped().then_some(None))
    })?;
    // At the very last request it may be both.
    let status = match ended {
        Some(status) => Some(status),
        None => {
            child.kill()?;
            child.wait()?;
            None
        }
    };
    proxy.stop_after(u64::MAX);
    if let Some(status) = status {
        ensure!(status.success(), "`{}` ends with {status}", args.join(" "));
    }
    Ok(status.is_some())
}

/// All of a tunnel's nodes are there, or none.
fn is_whole(bed: &mut Bed, id: u16) -> Result<bool> {
    let mut nodes = Vec::new();
    for node in ["backend", "backend-id", "state"] {
        nodes.push(format!("{}/{node}", front(id)));
    }
    for node in ["frontend", "frontend-id", "online", "state"] {
        nodes.push(format!("{}/{node}", back(id)));
    }
    let there = nodes
        .iter()
        .filter(|path| bed.dom0.read(path).is_some())
        .count();
    ensure!(
        there == 0 || there == nodes.len(),
        "{there} nodes of domain {id}"
    );
    Ok(there > 0)
}

pub fn at_every_request() -> Result<()> {
    let mut bed = Bed::new()?;
    let proxy = Proxy::start()?;
    let verbs: [(&str, &[&str]); 4] = [
        ("attach", &["--if-absent", "--wait", "0"]),
        ("set", &["weight=7", "connect=none", "alias=web"]),
        ("detach", &["--force"]),
        ("list", &["--sweep"]),
    ];
    let mut id = 1;
    for (verb, rest) in verbs {
        for requests in 1.. {
            id += 1;
            bed.dom0.domain(id, format!("u{id}"))?;
            let text = id.to_string();
            let of_one = ["detach", "list"].contains(&verb);
            if of_one {
                done(&["attach", &text, "--wait", "0"])?;
                done(&["set", &text, "weight=7"])?;
            }
            if verb == "list" {
                bed.dom0.destroy(id);
            }
            let mut args = vec![verb];
            args.extend((verb != "list").then_some(text.as_str()));
            args.extend(rest);
            let ended = ends_within(&proxy, requests, &args)
                .with_context(|| format!("{verb}, killed at request {requests}"))?;
            if verb != "list" {
                is_whole(&mut bed, id).with_context(|| format!("{verb} at {requests}"))?;
            }
            let key = |bed: &mut Bed, key: &str| {
                bed.dom0
                    .read(&format!("/local/domain/0/idts/domain/{id}/{key}"))
            };
            if verb == "set" {
                let keys = ["weight", "connect", "alias"].map(|name| key(&mut bed, name).is_some());
                ensure!(
                    keys == [true; 3] || keys == [false; 3],
                    "{keys:?} of domain {id}"
                );
            }
            // Who detached has nothing left to detach.
            if verb != "detach" {
                done(&args)?;
            }
            bed.dom0.destroy(id);
            done(&["list", "--sweep"])?;
            ensure!(!is_whole(&mut bed, id)?, "what is left of domain {id}");
            ensure!(
                key(&mut bed, "weight").is_none(),
                "settings left of domain {id}"
            );
            if ended {
                break;
            }
        }
    }
    Ok(())
}

/// The same of a watch that meets a new domain and what another one left: the next
/// one does the rest.
pub fn while_it_watches() -> Result<()> {
    const FILE: &str = "/run/idts.toml";
    const ARGS: [&str; 6] = ["--attach", "all", "--idle", "60", "--settings", FILE];
    /// Who asks for nothing for so long has done all.
    const SILENT: Duration = Duration::from_millis(300);
    let mut bed = Bed::new()?;
    let proxy = Proxy::start()?;
    fs::write(FILE, "[default]\nconnect = 'none'\nrate = 7\n")?;
    for requests in 1.. {
        let (id, gone) = (requests as u16 * 2, requests as u16 * 2 + 1);
        for id in [id, gone] {
            bed.dom0.domain(id, format!("u{id}"))?;
        }
        let text = gone.to_string();
        done(&["attach", &text, "--wait", "0"])?;
        done(&["set", &text, "weight=7"])?;
        bed.dom0.destroy(gone);
        proxy.stop_after(requests);
        let mut child = program(&[&["watch"], &ARGS[..]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let (mut seen, mut since) = (0, Instant::now());
        let stopped = until("it stops or is silent", || {
            if std::mem::replace(&mut seen, proxy.requests()) != seen {
                since = Instant::now();
            }
            let is_done = seen > 0 && since.elapsed() > SILENT;
            Ok((proxy.has_stopped() || is_done).then_some(proxy.has_stopped()))
        })?;
        child.kill()?;
        child.wait()?;
        proxy.stop_after(u64::MAX);
        is_whole(&mut bed, id).with_context(|| format!("killed at request {requests}"))?;
        let watch = Watch::start(&ARGS)?;
        let key = |key: &str| format!("/local/domain/0/idts/domain/{id}/{key}");
        until("the next one does the rest", || {
            let told = bed.dom0.read(&format!("/local/domain/{id}/control/idts"));
            let is_told = told.as_deref() == Some("on-demand");
            let keys = ["connect", "rate"].map(|name| bed.dom0.read(&key(name)));
            let has_keys = keys == [Some("none".into()), Some("7".into())];
            let is_clean = bed.dom0.read(&back(gone)).is_none()
                && bed
                    .dom0
                    .read(&format!("/local/domain/0/idts/domain/{gone}"))
                    .is_none();
            Ok(
                (bed.dom0.read(&front(id)).is_some() && is_told && has_keys && is_clean)
                    .then_some(()),
            )
        })
        .with_context(|| format!("killed at request {requests}"))?;
        drop(watch);
        ensure!(is_whole(&mut bed, id)?, "domain {id} has no tunnel");
        bed.dom0.destroy(id);
        done(&["list", "--sweep"])?;
        if !stopped {
            return Ok(());
        }
    }
    Ok(())
}

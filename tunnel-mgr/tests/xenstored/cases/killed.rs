// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr` killed by SIGKILL at every request that it makes: what it did is
//! there as a whole or not at all, and the same command then does the rest.

use std::process::Stdio;

use anyhow::{ensure, Context, Result};

use super::{back, front};
use crate::bed::{done, program, until, Bed};
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

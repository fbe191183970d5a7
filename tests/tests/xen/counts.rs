// SPDX-License-Identifier: GPL-2.0
//! As many channels as are promised, and what opening and closing one costs, seen from outside:
//! Xen's tables, xenstored's log of requests, the kernels' calls as ftrace counts them.

use std::time::Instant;

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use testbed::running::HANG;

use crate::domains::with_setting;
use crate::lab::{Guest, Lab, FIRST_PAGES};
use crate::run::expect;
use crate::transfer::ways;

/// Channels of 4 KiB rings at once, and how large the rings of one more are.
const CROWD: u64 = 1024;
const BIG_RING: u64 = 4 << 20;
/// Pages of all these rings.
const CROWD_PAGES: u64 = (CROWD * 2 * 4096 + 2 * BIG_RING) / 4096;
/// Where xenstored logs requests meanwhile.
const LOG: &str = "/tmp/idts-xenstored.log";

/// 1024 channels and a pair of large rings, all open at once, then all in use; dom0 asks for nearly
/// all of the region.
pub fn crowd(lab: &Lab, guest: &Guest) -> Result<()> {
    let setting = ("limit-peer", "100");
    with_setting(lab, guest.name, setting, || open_crowd(lab, guest))
}

fn open_crowd(lab: &Lab, guest: &Guest) -> Result<()> {
    let seed = lab.seed.to_string();
    let bytes = (16 * 1024 * lab.times).to_string();
    for (client, server) in ways(guest) {
        let port = lab.port();
        let (all, small) = ((CROWD + 1).to_string(), CROWD.to_string());
        let tail = ["--bytes", &bytes, "--seed", &seed];
        let port_text = port.to_string();
        let serve = ["crowd-serve", &port_text, "--channels", &all];
        let serve: Vec<_> = serve.into_iter().chain(tail).collect();
        let serving = lab.serve(server, &serve)?;
        let address = lab.address(server, port)?;
        let big = BIG_RING.to_string();
        let ask = ["crowd", &address, "--channels", &small, "--big-ring", &big];
        let ask: Vec<_> = ask.into_iter().chain(tail).collect();
        let mut asking = lab.exercise(client, &ask)?;
        asking.wait_line("open 1025")?;
        for (domain, peer) in ways(guest) {
            let channels = lab.counter(domain, peer, "channels")?;
            let pages = lab.counter(domain, peer, "region_pages")?;
            ensure!(
                channels == CROWD + 1 && pages >= CROWD_PAGES,
                "{domain}: {channels} channels in {pages} pages"
            );
        }
        asking.tell("go")?;
        for report in [asking.report()?, serving.report()?] {
            expect(&report, "channels", CROWD + 1)?;
        }
        lab.wait_gauge(guest.name, "region_pages", |pages| pages == FIRST_PAGES)?;
    }
    Ok(())
}

/// While the region has room, opening and closing a channel makes no grant, no event channel, no
/// access to xenstore. When it has none, it grows: then the same count finds grants.
pub fn cost(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let free = cycle(lab, client, server, &["--count", "100", "--ring", "4096"])?;
        for (domain, calls) in &free {
            ensure!(
                calls.as_object().is_some_and(|calls| calls.is_empty()),
                "{domain}: while there was room: {calls}"
            );
        }
        let ring = BIG_RING.to_string();
        let grown = ["--count", "1", "--ring", &ring, "--anchor-ring", "4096"];
        for (domain, calls) in cycle(lab, client, server, &grown)? {
            let wanted = if domain == "dom0" {
                "xenbus_map_ring_valloc"
            } else {
                "gnttab_grant_foreign_access"
            };
            ensure!(
                calls[wanted].as_u64() > Some(0),
                "{domain}: the region grew without {wanted}: {calls}"
            );
        }
    }
    Ok(())
}

/// Opens and closes channels; what both kernels called for it. Xen's tables and xenstored's log
/// must show nothing if the kernels do not.
fn cycle<'a>(
    lab: &Lab,
    client: &'a str,
    server: &'a str,
    args: &[&str],
) -> Result<[(&'a str, Value); 2]> {
    let port = lab.port();
    let serve = [
        "cycle-serve",
        &port.to_string(),
        "--trace",
        args[0],
        args[1],
    ];
    let serving = lab.serve(server, &serve)?;
    let address = lab.address(server, port)?;
    let ask = ["cycle", &address, "--trace"];
    let ask: Vec<_> = ask.iter().chain(args).copied().collect();
    let mut asking = lab.exercise(client, &ask)?;
    asking.wait_line("warm")?;
    let before = lab.tb.tables()?;
    watch_xenstored(lab)?;
    asking.tell("go")?;
    asking.wait_line("done")?;
    let requests = requests(lab)?;
    lab.tb
        .sh("dom0", &format!("xenstore-control log off; rm -f {LOG}"))?;
    let after = lab.tb.tables()?;
    asking.tell("enough")?;
    let calls = [asking.report()?, serving.report()?].map(|report| report["calls"].clone());
    ensure!(requests.is_empty(), "requests to xenstored: {requests}");
    if calls.iter().all(|calls| *calls == serde_json::json!({})) {
        ensure!(
            before == after,
            "Xen's tables were {before:?} and are {after:?}"
        );
    }
    let [ours, theirs] = calls;
    Ok([(client, ours), (server, theirs)])
}

/// Has xenstored log all requests, from a moment on at which nobody makes any.
fn watch_xenstored(lab: &Lab) -> Result<()> {
    let start = "xenstore-control log on && xenstore-control logfile";
    lab.tb.sh("dom0", &format!("{start} {LOG}"))?;
    let begin = Instant::now();
    loop {
        lab.tb.sh("dom0", &format!(": >{LOG}; sleep 1"))?;
        if requests(lab)?.is_empty() {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < HANG,
            "somebody uses xenstore all the time"
        );
    }
}

/// The requests that are logged.
fn requests(lab: &Lab) -> Result<String> {
    let found = lab.tb.exec("dom0", &["grep", " IN ", LOG])?;
    ensure!(found.code < 2, "{LOG}: {}", found.stderr_text());
    Ok(found.stdout_text())
}

/// Channels opened and closed, see [`crate::leaks`].
pub fn cycles(lab: &Lab, guest: &Guest, count: u64) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port();
        let count = count.to_string();
        let serve = ["cycle-serve", &port.to_string(), "--count", &count];
        let serving = lab.serve(server, &serve)?;
        let address = lab.address(server, port)?;
        let mut asking = lab.exercise(client, &["cycle", &address, "--count", &count])?;
        asking.wait_line("warm")?;
        asking.tell("go")?;
        asking.wait_line("done")?;
        asking.tell("enough")?;
        asking.report().context("who asks")?;
        serving.report().context("who answers")?;
    }
    Ok(())
}

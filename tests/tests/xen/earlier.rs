// SPDX-License-Identifier: GPL-2.0
//! Version 0.1.0 and this one together: fronts and backs of either at the two ends of a tunnel,
//! programs of either on modules of the other. A file, records and a group cross in each.
//!
//! scripts/lib/earlier.sh builds what is called earlier here, or says why it cannot be had.

use std::fs;

use anyhow::{ensure, Context, Result};
use testbed::product::module_of;

use crate::c_program;
use crate::domains::{other, start, with_setting};
use crate::lab::{built, parameters_of, Guest, Lab, GUESTS};
use crate::run::Run;
use crate::skips;
use crate::transfer::ways;

/// Where what is earlier is in a domain.
const THERE: &str = "/tmp/earlier";
/// Its command, and today's.
const EARLIER: &str = "/tmp/earlier/idts";
const TODAYS: &str = "idts";
/// Bytes of the file: more than a ring.
const FILE: u64 = 1_001_000;
/// Records of the group.
const RECORDS: u64 = 200;
const SIGTERM: i32 = 15;

/// Why there is nothing earlier, if so.
pub fn absent() -> Option<String> {
    let path = skips::top().join("target/earlier/absent");
    fs::read_to_string(path)
        .ok()
        .map(|why| why.trim().to_string())
}

/// Every pair of modules that is not all of today, and the programs that are not of their modules.
pub fn version(lab: &Lab, guest: &Guest) -> Result<()> {
    for domain in Lab::domains() {
        lab.tb.sh(domain, &format!("mkdir -p {THERE}"))?;
        for name in [&format!("{}.ko", module_of(domain)), "idts", "idts_c"] {
            let file = built(&format!("earlier/{name}"))?;
            lab.tb.push(&file, domain, &format!("{THERE}/{name}"))?;
        }
    }
    all_cross(lab, guest, EARLIER).context("earlier programs")?;
    let program = format!("{THERE}/idts_c");
    c_program::between(lab, guest, &program).context("the earlier C program")?;

    earlier_module(lab, "dom0")?;
    all_cross(lab, guest, TODAYS).context("an earlier back")?;
    earlier_module(lab, guest.name)?;
    all_cross(lab, guest, TODAYS).context("an earlier back and front")?;
    todays_module(lab, "dom0")?;
    all_cross(lab, guest, TODAYS).context("an earlier front")?;
    todays_module(lab, guest.name)
}

fn earlier_module(lab: &Lab, domain: &str) -> Result<()> {
    lab.rmmod(domain)?;
    let (module, parameters) = (module_of(domain), parameters_of(domain));
    lab.tb
        .sh(domain, &format!("insmod {THERE}/{module}.ko {parameters}"))?;
    connected(lab)
}

fn todays_module(lab: &Lab, domain: &str) -> Result<()> {
    lab.rmmod(domain)?;
    lab.insmod(domain)?;
    connected(lab)
}

fn connected(lab: &Lab) -> Result<()> {
    GUESTS
        .iter()
        .try_for_each(|guest| lab.tb.wait_connected(guest))
}

/// Moves something of each kind with this command in all domains.
fn all_cross(lab: &Lab, guest: &Guest, idts: &str) -> Result<()> {
    for (from, to) in ways(guest) {
        file(lab, from, to, idts).with_context(|| format!("a file from {from} to {to}"))?;
    }
    records(lab, guest, idts).context("records")?;
    group(lab, guest, idts).context("a group")
}

fn file(lab: &Lab, from: &str, to: &str, idts: &str) -> Result<()> {
    let port = lab.port();
    let make = format!("head -c {FILE} /dev/urandom >/tmp/out; rm -f /tmp/in");
    lab.tb.sh(from, &make)?;
    let recv = [idts, "recv", &port.to_string(), "/tmp/in", "--json"];
    let receiver = start(lab, to, &recv, "listening on")?;
    let target = lab.address(to, port)?;
    let sent = lab.start(from, &[idts, "send", "/tmp/out", &target, "--json"])?;
    let (sent, received) = (sent.report()?, receiver.report()?);
    ensure!(
        sent["bytes"] == FILE && sent["crc32"] == received["crc32"],
        "sent {sent}, received {received}"
    );
    Ok(())
}

fn records(lab: &Lab, guest: &Guest, idts: &str) -> Result<()> {
    let port = lab.port();
    let echo = [idts, "echo", &port.to_string(), "--record"];
    let echo = start(lab, "dom0", &echo, "listening on")?;
    let target = lab.address("dom0", port)?;
    let ping = [
        idts, "ping", &target, "-c", "20", "-s", "65537", "--record", "--json",
    ];
    let report = lab.start(guest.name, &ping)?.report()?;
    ensure!(report["count"] == 20, "{report}");
    echo.signal(SIGTERM)?;
    echo.end()?;
    Ok(())
}

/// From the guest to dom0 and, by dom0's relay, to the other guest.
fn group(lab: &Lab, guest: &Guest, idts: &str) -> Result<()> {
    let there = other(guest);
    with_setting(lab, guest.name, ("publish", "news"), || {
        with_setting(lab, there, ("subscribe", "news"), || {
            let follow = [idts, "subscribe", "news", "--json", "--on-lag", "block"];
            let mut subscribers = Vec::new();
            for domain in ["dom0", there] {
                subscribers.push((domain, start(lab, domain, &follow, "subscribed to")?));
            }
            let count = RECORDS.to_string();
            let publish = [
                idts,
                "publish",
                "news",
                "--may-block",
                "--count",
                &count,
                "--size",
                "5000",
                "--json",
            ];
            let published = lab.start(guest.name, &publish).and_then(Run::report)?;
            ensure!(published["records"] == RECORDS, "published {published}");
            for (domain, run) in subscribers {
                let got = run.report()?;
                ensure!(
                    got["records"] == RECORDS && got["ended"] == "publisher",
                    "{domain} got {got}"
                );
            }
            Ok(())
        })
    })
}

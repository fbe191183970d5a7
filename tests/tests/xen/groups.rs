// SPDX-License-Identifier: GPL-2.0
//! Groups: what becomes of a subscriber that is too slow, and that it is nobody else's concern.

use anyhow::{ensure, Result};
use serde_json::Value;

use crate::domains::{other, start, with_setting};
use crate::lab::{Guest, Lab};
use crate::run::Run;

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// Records of a test, and what a ring must hold to take them all, or far from all.
const RECORDS: u64 = 3000;
const SIZE: &str = "1000";
const ALL: &str = "4M";
const FEW: &str = "4K";

/// Starts a subscriber and waits until it is one.
fn subscribe(lab: &Lab, domain: &str, (group, on_lag, ring): (&str, &str, &str)) -> Result<Run> {
    let argv = [
        "idts",
        "subscribe",
        group,
        "--on-lag",
        on_lag,
        "--ring",
        ring,
        "--json",
    ];
    start(lab, domain, &argv, "subscribed to")
}

/// Publishes [`RECORDS`] and waits until all have been taken.
fn publish(lab: &Lab, domain: &str, group: &str, more: &[&str]) -> Result<()> {
    let count = RECORDS.to_string();
    let argv = [
        "idts", "publish", group, "--count", &count, "--size", SIZE, "--json",
    ];
    let argv: Vec<_> = argv.iter().chain(more).copied().collect();
    let report = lab.start(domain, &argv)?.report()?;
    ensure!(report["records"] == RECORDS, "published: {report}");
    Ok(())
}

/// A subscriber that nothing was kept from.
fn got_all(run: Run) -> Result<()> {
    let report = run.report()?;
    ensure!(
        report["records"] == RECORDS && report["lag"] == 0 && report["ended"] == "publisher",
        "a brisk subscriber got {report}"
    );
    Ok(())
}

/// The report of a subscriber however it ended.
fn report(run: Run) -> Result<Value> {
    Ok(serde_json::from_slice(&run.end()?.stdout)?)
}

/// Subscribers that sleep all the time: who drops misses records and knows how many, who is to be
/// disconnected is, who would block may not; the publisher and the others go on.
fn stopped(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    let brisk = [
        subscribe(lab, "dom0", ("slow", "drop", ALL))?,
        subscribe(lab, there, ("slow", "drop", ALL))?,
    ];
    let mut asleep = Vec::new();
    for (domain, on_lag) in [
        ("dom0", "drop"),
        (there, "drop"),
        (there, "disconnect"),
        ("dom0", "disconnect"),
        ("dom0", "block"),
    ] {
        let run = subscribe(lab, domain, ("slow", on_lag, FEW))?;
        run.signal(SIGSTOP)?;
        asleep.push((on_lag, run));
    }
    publish(lab, guest.name, "slow", &[])?;
    for run in brisk {
        got_all(run)?;
    }
    for (on_lag, run) in asleep {
        run.signal(SIGCONT)?;
        let report = report(run)?;
        let number = |name: &str| report[name].as_u64().unwrap_or(0);
        let right = match on_lag {
            "disconnect" => report["ended"] == "reset" && number("records") < RECORDS,
            _ => {
                report["ended"] == "publisher"
                    && number("lag") > 0
                    && number("records") + number("lag") == RECORDS
            }
        };
        ensure!(right, "a stopped subscriber with {on_lag} got {report}");
    }
    Ok(())
}

/// Where the publisher lets it, a subscriber holds it up: one that sleeps is thrown out in the end,
/// and nothing was kept from the others.
fn blocking(lab: &Lab, guest: &Guest) -> Result<()> {
    let brisk = subscribe(lab, "dom0", ("held", "drop", ALL))?;
    let asleep = subscribe(lab, other(guest), ("held", "block", FEW))?;
    asleep.signal(SIGSTOP)?;
    publish(lab, guest.name, "held", &["--may-block"])?;
    got_all(brisk)?;
    asleep.signal(SIGCONT)?;
    let report = report(asleep)?;
    ensure!(
        report["ended"] == "reset",
        "who held the publisher up for too long got {report}"
    );
    Ok(())
}

/// Each of these in a group of its own, with leave.
pub fn members(lab: &Lab, guest: &Guest) -> Result<()> {
    with_setting(lab, guest.name, ("publish", "all"), || {
        with_setting(lab, other(guest), ("subscribe", "all"), || {
            stopped(lab, guest)?;
            blocking(lab, guest)
        })
    })
}

// SPDX-License-Identifier: GPL-2.0
//! Groups: what becomes of a subscriber that is too slow, and that it is nobody else's concern;
//! joining and leaving while data flows; a member's domain that dies.

use std::thread;
use std::time::Duration;

use anyhow::{ensure, Result};
use serde_json::Value;

use crate::domains::{other, set, start, with_setting};
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

/// Members come and go while records flow; who stays misses none.
fn come_and_go(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    let stays = subscribe(lab, there, ("busy", "drop", ALL))?;
    let count = RECORDS.to_string();
    let argv = [
        "idts",
        "publish",
        "busy",
        "--count",
        &count,
        "--size",
        SIZE,
        "--interval",
        "0.001",
        "--json",
    ];
    let publisher = lab.start(guest.name, &argv)?;
    publisher.wait_line("publishing to")?;
    for domain in ["dom0", there, "dom0"] {
        let argv = ["idts", "subscribe", "busy", "--count", "5", "--json"];
        let run = lab.start(domain, &argv)?;
        let killed = subscribe(lab, domain, ("busy", "drop", FEW))?;
        let ended = run.end()?;
        killed.stop()?;
        if publisher.is_running() {
            let report: Value = serde_json::from_slice(&ended.stdout)?;
            ensure!(report["records"] == 5, "who joined late got {report}");
        }
    }
    let second = ["idts", "publish", "busy", "--count", "1"];
    let second = lab.tb.exec(guest.name, &second)?;
    ensure!(
        !publisher.is_running() || second.stderr_text().contains("(os error 98)"),
        "a second publisher hears {}",
        second.stderr_text()
    );
    publisher.report()?;
    let report = report(stays)?;
    ensure!(
        report["records"] == RECORDS && report["lag"] == 0,
        "who stayed got {report}"
    );
    Ok(())
}

/// Each of these in a group of its own, with leave.
pub fn members(lab: &Lab, guest: &Guest) -> Result<()> {
    with_setting(lab, guest.name, ("publish", "all"), || {
        with_setting(lab, other(guest), ("subscribe", "all"), || {
            stopped(lab, guest)?;
            blocking(lab, guest)?;
            come_and_go(lab, guest)
        })
    })
}

/// A domain dies with a hundred channels and three memberships, all busy: everybody who dealt with
/// it learns it, everybody else goes on.
pub fn destroyed(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    lab.make_guest(guest)?;
    for setting in ["publish=all", "subscribe=all"] {
        set(lab, guest.name, setting)?;
    }
    let hears = subscribe(lab, "dom0", ("theirs", "drop", FEW))?;
    let endless = [
        "--count",
        "1000000000",
        "--size",
        SIZE,
        "--interval",
        "0.005",
    ];
    let publisher = |domain, group| {
        let argv = ["idts", "publish", group];
        let argv: Vec<_> = argv.iter().chain(&endless).copied().collect();
        start(lab, domain, &argv, "publishing to")
    };
    let theirs = publisher(guest.name, "theirs")?;
    let ours = publisher("dom0", "ours")?;
    let stays = subscribe(lab, "dom0", ("ours", "drop", ALL))?;
    let listeners = [
        subscribe(lab, guest.name, ("ours", "drop", FEW))?,
        subscribe(lab, guest.name, ("quiet", "block", FEW))?,
    ];
    let port = lab.port().to_string();
    let moves = ["--channels", "100", "--bytes", "100000000"];
    let argv: Vec<_> = ["many-serve", &port]
        .iter()
        .chain(&moves)
        .copied()
        .collect();
    let server = lab.serve("dom0", &argv)?;
    let target = format!("0:{port}");
    let argv = ["many", &target, "--ring", "4096"];
    let argv: Vec<_> = argv.iter().chain(&moves).copied().collect();
    let client = lab.exercise(guest.name, &argv)?;
    while lab.counter("dom0", guest.name, "rx_bytes")? < 10_000_000 {
        ensure!(
            server.is_running(),
            "the server has ended: {}",
            server.end()?.stderr
        );
        thread::sleep(Duration::from_millis(200));
    }
    lab.tb.destroy(guest.name)?;
    client.lost();
    theirs.lost();
    listeners.into_iter().for_each(Run::lost);
    let served = server.end()?;
    // ECONNRESET, or ENOTCONN where the channel's other thread was told that before.
    let told = ["(os error 104)", "(os error 107)"].map(|words| served.stderr.contains(words));
    ensure!(
        served.code == 1 && told.contains(&true),
        "the server of a dead guest ends with {}: {}",
        served.code,
        served.stderr
    );
    let heard = report(hears)?;
    ensure!(heard["ended"] == "publisher", "its subscriber got {heard}");
    ensure!(
        ours.is_running() && stays.is_running(),
        "the group that it had joined has ended too"
    );
    ours.stop()?;
    let stayed = report(stays)?;
    ensure!(stayed["ended"] == "publisher", "who stayed got {stayed}");
    lab.sweep(guest)?;
    lab.tb.wait_tables(&before)
}

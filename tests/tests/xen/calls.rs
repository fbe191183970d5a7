// SPDX-License-Identifier: GPL-2.0
//! What each system call gives, beyond moving bytes.

use std::collections::BTreeSet;

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};

use crate::domains::with_setting;
use crate::lab::{Guest, Lab, GUESTS};
use crate::run::{expect, expect_in};
use crate::skips;
use crate::transfer::ways;

/// Runs both ends of a dialogue.
fn dialogue(lab: &Lab, client: &str, server: &str, verb: &str) -> Result<[Value; 2]> {
    let port = lab.port();
    let serving = lab.serve(server, &[&format!("{verb}-serve"), &port.to_string()])?;
    let asked = lab.ask(client, &[verb, &lab.address(server, port)?])?;
    Ok([asked, serving.report()?])
}

/// readv, writev, FIONREAD, room, counters, addresses, EAGAIN, EINTR, half-close, EMFILE.
pub fn stream(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let [asked, served] = dialogue(lab, client, server, "calls")?;
        let (sent, answered) = (7, 1000 + 24 + 4);
        for (field, wanted) in [
            ("written", json!(sent)),
            ("there", json!(1024)),
            ("left", json!(24)),
            ("empty", json!("EAGAIN")),
            ("signal", json!("EINTR")),
            ("shut", json!("EPIPE")),
            ("late", json!("late")),
            ("peer", json!(true)),
            ("tx_bytes", json!(sent)),
            ("rx_bytes", json!(answered)),
            ("rings", json!([16384, 16384])),
        ] {
            expect(&asked, field, wanted).context("who asks")?;
        }
        for (field, wanted) in [
            ("accept", json!("EMFILE")),
            ("free", json!(16384)),
            ("taken", json!(1000)),
            ("read", json!(sent)),
            ("content", json!("abcdefg")),
            ("end", json!(0)),
            ("domain", json!(lab.id(client)?)),
            ("tx_bytes", json!(answered)),
            ("rx_bytes", json!(sent)),
        ] {
            expect(&served, field, wanted).context("who answers")?;
        }
        // The peer reads on: it is no hang-up.
        expect_in(&served, "poll", "RDHUP")?;
        expect_in(&served, "poll", "OUT")?;
    }
    Ok(())
}

/// Write and read in one call, also with requests longer than the ring; what was sent is told when
/// the call cannot go on, and when a signal ends it.
pub fn transact(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let [asked, served] = dialogue(lab, client, server, "transact")?;
        expect(&asked, "full", json!(["EAGAIN", 16384]))?;
        expect(&asked, "signal", json!(["EINTR", 1]))?;
        expect(&asked, "end", 0)?;
        expect(&served, "rounds", asked["rounds"].clone())?;
        expect(&served, "rest", 16384 + 1)?;
        expect(&served, "twos", 1)?;
    }
    Ok(())
}

/// The longest record, one too long for the ring, one too long for the reader's buffer.
pub fn records(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let [asked, served] = dialogue(lab, client, server, "records")?;
        expect(&asked, "too_long", "EMSGSIZE")?;
        let longest = asked["longest"].clone();
        let got = json!([[longest, false], [10, true], [20, false]]);
        expect(&served, "got", got)?;
        expect(&served, "truncated", 1)?;
    }
    Ok(())
}

/// A record of a group that is longer than a subscriber's ring is lost to that one alone.
pub fn long_in_group(lab: &Lab, guest: &Guest) -> Result<()> {
    with_setting(lab, guest.name, ("subscribe", "all"), || {
        let subscribe = |domain: &str, ring: &str| {
            let run = lab.exercise(domain, &["group-subscribe", "sizes", "--ring", ring])?;
            run.wait_line("subscribed").map(|_| run)
        };
        let small = subscribe(guest.name, "4096")?;
        let large = subscribe("dom0", "65536")?;
        let publish = ["group-publish", "sizes", "100", "8000", "200"];
        let mut publisher = lab.exercise("dom0", &publish)?;
        publisher.wait_line("publishing")?;
        publisher.tell("go")?;
        publisher.report()?;
        let (small, large) = (small.report()?, large.report()?);
        expect(&small, "sizes", json!([100, 200]))?;
        expect(&small, "lag", 1)?;
        expect(&large, "sizes", json!([100, 8000, 200]))?;
        expect(&large, "lag", 0)
    })
}

/// What the table's rows are besides the header's ioctls.
const OTHER_ROWS: [&str; 4] = ["FIONREAD", "read", "write", "poll"];

/// The ioctls that the header has.
fn ioctls() -> Result<BTreeSet<String>> {
    let header = std::fs::read_to_string(skips::top().join("idts-common/uapi/idts.h"))?;
    let names = header.lines().filter_map(|line| {
        let line = line.strip_prefix("#define IDTS_IOC_")?;
        let (name, value) = line.split_once(char::is_whitespace)?;
        value.trim().starts_with("_IO").then(|| name.to_string())
    });
    Ok(names.collect())
}

/// Every call against everything: each cell holds, or says why it is empty.
fn check_table(report: &Value, wanted: &BTreeSet<String>) -> Result<()> {
    let cells = report["cells"].as_array().context("no cells")?;
    let text = |cell: &Value, field: &str| cell[field].as_str().unwrap_or_default().to_string();
    let wrong: Vec<_> = cells
        .iter()
        .filter(|cell| match cell["state"].as_str() {
            Some("holds") => false,
            Some("empty") => text(cell, "why").is_empty(),
            _ => true,
        })
        .map(|cell| format!("{} {}: {}", cell["row"], cell["column"], text(cell, "why")))
        .collect();
    ensure!(wrong.is_empty(), "{} cells fail: {wrong:#?}", wrong.len());
    let rows: BTreeSet<_> = cells.iter().map(|cell| text(cell, "row")).collect();
    ensure!(rows == *wanted, "the rows are {rows:?}, not {wanted:?}");
    let columns = report["columns"].as_u64().unwrap_or(0) as usize;
    let everyday = report["everyday"].as_u64().unwrap_or(0) as usize;
    let count = (wanted.len() - 1) * columns + everyday;
    ensure!(
        columns == 7 && cells.len() == count,
        "{} cells of {count}",
        cells.len()
    );
    let holds = cells.iter().filter(|cell| cell["state"] == "holds").count();
    eprintln!("calls::table: {holds} checks of {count} cells hold");
    Ok(())
}

/// The table, within dom0 and both ways between dom0 and the guest. The other guest is paused: it is
/// the one who answers nobody.
pub fn table(lab: &Lab, guest: &Guest) -> Result<()> {
    let mut rows = ioctls()?;
    rows.extend(OTHER_ROWS.map(String::from));
    rows.insert("everyday".into());
    let other = GUESTS.iter().find(|name| **name != guest.name);
    let other = other.context("no other guest")?;
    let silent = lab.address(other, lab.port())?;
    let allow = |value: &str| -> Result<()> {
        let words = ["connect", "publish", "subscribe"].map(|key| format!("{key}={value}"));
        let [a, b, c] = &words;
        let set = ["tunnel-mgr", "set", guest.name, a, b, c];
        lab.tb.exec("dom0", &set)?.check("set").map(drop)
    };
    allow("all")?;
    lab.tb.xl(&["pause", other])?;
    let try_all = |client: &str, server: &str| -> Result<()> {
        let port = lab.port();
        let mut serving = lab.serve(server, &["table-serve", &port.to_string()])?;
        let address = lab.address(server, port)?;
        let mut args = vec!["table", &address, "--silent", &silent];
        if client == server {
            args.push("--home");
        }
        let report = lab.ask(client, &args)?;
        serving.tell("enough")?;
        serving.report()?;
        check_table(&report, &rows).with_context(|| format!("{client} to {server}"))
    };
    let results = [("dom0", "dom0"), ("dom0", guest.name), (guest.name, "dom0")]
        .map(|(client, server)| try_all(client, server));
    lab.tb.xl(&["unpause", other])?;
    allow("")?;
    results.into_iter().collect()
}

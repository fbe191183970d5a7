// SPDX-License-Identifier: GPL-2.0
//! Wake-ups out of poll and epoll: for a connection, a byte, room. A lost one is a hang.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::lab::{Guest, Lab};
use crate::run::expect;
use crate::transfer::ways;

pub fn level(lab: &Lab, guest: &Guest) -> Result<()> {
    both_ways(lab, guest, false)
}

pub fn edge(lab: &Lab, guest: &Guest) -> Result<()> {
    both_ways(lab, guest, true)
}

fn both_ways(lab: &Lab, guest: &Guest, edge: bool) -> Result<()> {
    for (client, server) in ways(guest) {
        one_way(lab, client, server, edge).with_context(|| format!("{client} polls {server}"))?;
    }
    Ok(())
}

fn one_way(lab: &Lab, client: &str, server: &str, edge: bool) -> Result<()> {
    let (port, seed) = (lab.port(), lab.seed.to_string());
    let rounds = 100 * lab.times;
    let (port_text, rounds_text) = (port.to_string(), rounds.to_string());
    let more = |args: &mut Vec<&str>| {
        if edge {
            args.push("--edge");
        }
    };
    let mut args = vec![
        "poll-serve",
        &port_text,
        "--rounds",
        &rounds_text,
        "--seed",
        &seed,
    ];
    more(&mut args);
    let serving = lab.serve(server, &args)?;
    let address = lab.address(server, port)?;
    let mut args = vec!["poll", &address, "--rounds", &rounds_text, "--seed", &seed];
    more(&mut args);
    let asked = lab.ask(client, &args)?;
    let served = serving.report()?;
    expect(&asked, "full", rounds)?;
    expect(&served, "moved", asked["moved"].clone())?;
    let waited = |report: &Value, field: &str| report[field].as_u64().is_some_and(|n| n > 0);
    ensure!(
        waited(&served, "accept_waits") && waited(&served, "waits") && waited(&asked, "waits"),
        "nobody ever waited: {served} {asked}"
    );
    Ok(())
}

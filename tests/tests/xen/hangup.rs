// SPDX-License-Identifier: GPL-2.0
//! What the other end sees of a close: as TCP has it.

use anyhow::Result;
use serde_json::{json, Value};

use crate::lab::{Guest, Lab};
use crate::run::{expect, expect_in};
use crate::transfer::ways;

fn hang_up(lab: &Lab, client: &str, server: &str, unread: bool) -> Result<Value> {
    let port = lab.port();
    let port_text = port.to_string();
    let address = lab.address(server, port)?;
    let more: &[&str] = if unread { &["--unread"] } else { &[] };
    let serve: Vec<_> = ["hangup-serve", &port_text]
        .iter()
        .chain(more)
        .copied()
        .collect();
    let ask: Vec<_> = ["hangup", &address].iter().chain(more).copied().collect();
    let serving = lab.serve(server, &serve)?;
    let report = lab.ask(client, &ask)?;
    serving.report()?;
    expect(&report, "content", true)?;
    Ok(report)
}

/// The rest, then the end; writing is of no use.
pub fn all_read(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let report = hang_up(lab, client, server, false)?;
        expect(&report, "reads", json!([10, 0, 0]))?;
        expect(&report, "writes", json!(["EPIPE", "EPIPE"]))?;
        for event in ["IN", "OUT", "RDHUP", "HUP"] {
            expect_in(&report, "poll", event)?;
        }
    }
    Ok(())
}

/// Data that nobody will read is a reset.
pub fn data_unread(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let report = hang_up(lab, client, server, true)?;
        let reads = &report["reads"];
        anyhow::ensure!(reads[0] == "ECONNRESET", "the first read of {report}");
        anyhow::ensure!(reads[1] == "ENOTCONN", "the second read of {report}");
        for event in ["RDHUP", "HUP", "ERR"] {
            expect_in(&report, "poll", event)?;
        }
    }
    Ok(())
}

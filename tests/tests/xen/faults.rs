// SPDX-License-Identifier: GPL-2.0
//! Buffers on userfaultfd: a read or write that waits for its own buffer holds up nobody, above
//! all no teardown.

use anyhow::{ensure, Context, Result};
use serde_json::json;

use crate::lab::{Guest, Lab};
use crate::run::{expect, expect_in, Run};
use crate::transfer::{move_bytes, ways};

/// An end in `client` that waits for its buffer, and its peer. For a read the peer has sent enough.
fn stall(lab: &Lab, client: &str, server: &str, verb: &str) -> Result<(Run, Run)> {
    let port = lab.port();
    let address = lab.address(server, port)?;
    let script = match verb {
        "fault-write" => format!("exec idts cat --listen {port} </dev/null >/dev/null"),
        _ => format!("yes | idts cat --listen {port}"),
    };
    let peer = lab.start(server, &["sh", "-c", &script])?;
    peer.wait_line("listening on")?;
    let stalled = lab.exercise(client, &[verb, &address])?;
    stalled.wait_line("stalled")?;
    Ok((stalled, peer))
}

fn mended(lab: &Lab, guest: &Guest, verb: &str) -> Result<()> {
    for (client, server) in ways(guest) {
        let (mut stalled, peer) = stall(lab, client, server, verb)?;
        // Others go on meanwhile, both ways.
        for (from, to) in ways(guest) {
            move_bytes(lab, from, to, 1 << 20).context("beside a stalled one")?;
        }
        ensure!(stalled.is_running(), "it did not wait");
        stalled.tell("mend")?;
        let report = stalled.report()?;
        let moved = |n: usize| report["results"][n].as_u64().unwrap_or(0);
        ensure!((0..3).all(|n| moved(n) > 0), "after mending: {report}");
        // It may have ended with the channel.
        let _ = peer.kill();
        peer.end()?;
    }
    Ok(())
}

pub fn write_mended(lab: &Lab, guest: &Guest) -> Result<()> {
    mended(lab, guest, "fault-write")
}

pub fn read_mended(lab: &Lab, guest: &Guest) -> Result<()> {
    mended(lab, guest, "fault-read")
}

/// The guest is destroyed while a program of dom0 waits for its own buffer. All is freed before
/// that buffer comes, and then the program learns what happened.
fn destroyed(lab: &Lab, guest: &Guest, verb: &str, first: serde_json::Value) -> Result<()> {
    let before = lab.tb.tables()?;
    lab.make_guest(guest)?;
    let (mut stalled, peer) = stall(lab, "dom0", guest.name, verb)?;
    lab.drop_guest(guest)?;
    peer.lost();
    lab.tb
        .wait_tables(&before)
        .context("while the buffer is not there")?;
    let zombies = lab.tb.xl(&["list"])?.stdout_text();
    ensure!(
        !zombies.contains("(null)"),
        "the domain is not freed: {zombies}"
    );
    ensure!(stalled.is_running(), "it did not wait");
    stalled.tell("mend")?;
    let report = stalled.report()?;
    let results = report["results"].clone();
    let wanted = match first.as_u64() {
        Some(_) => json!([first, "ECONNRESET", "ENOTCONN"]),
        None => json!([first, "ENOTCONN", "ENOTCONN"]),
    };
    ensure!(results == wanted, "results are {results}, not {wanted}");
    expect_in(&report, "poll", "ERR")?;
    expect_in(&report, "poll", "HUP")?;
    expect(&report, "results", wanted)
}

/// The first page had gone before.
pub fn destroy_while_write_stalls(lab: &Lab, guest: &Guest) -> Result<()> {
    destroyed(lab, guest, "fault-write", json!(4096))
}

/// Nothing was read before.
pub fn destroy_while_read_stalls(lab: &Lab, guest: &Guest) -> Result<()> {
    destroyed(lab, guest, "fault-read", json!("ECONNRESET"))
}

// SPDX-License-Identifier: GPL-2.0
//! The command `idts`: what it moves, what it says, how it exits.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::lab::{Guest, Lab};
use crate::run::Run;
use crate::transfer::ways;

const SIGTERM: i32 = 15;

fn listening(lab: &Lab, domain: &str, argv: &[&str]) -> Result<Run> {
    let run = lab.start(domain, argv)?;
    run.wait_line("listening on")?;
    Ok(run)
}

/// In dom0 a guest goes by its name.
fn name_of<'a>(client: &str, server: &'a str) -> &'a str {
    if client == "dom0" {
        server
    } else {
        "0"
    }
}

fn sum(lab: &Lab, domain: &str, file: &str) -> Result<String> {
    let text = lab.tb.sh(domain, &format!("md5sum <{file}"))?.stdout_text();
    Ok(text.trim().to_string())
}

/// A file arrives whole, under its name only then, and both ends tell the same of it.
pub fn send_recv(lab: &Lab, guest: &Guest) -> Result<()> {
    for (from, to) in ways(guest) {
        let port = lab.port().to_string();
        lab.tb.sh(
            from,
            "dd if=/dev/urandom of=/tmp/out bs=1000 count=3001 2>/dev/null",
        )?;
        lab.tb.sh(to, "rm -f /tmp/in /tmp/.in*")?;
        let receiver = listening(lab, to, &["idts", "recv", &port, "/tmp/in", "--json"])?;
        let target = format!("{}:{port}", name_of(from, to));
        let argv = [
            "idts", "send", "/tmp/out", &target, "--wait", "60", "--json",
        ];
        let sent = lab.start(from, &argv)?.report()?;
        let received = receiver.report()?;
        ensure!(sent["bytes"] == 3_001_000, "{sent}");
        for field in ["bytes", "crc32"] {
            ensure!(sent[field] == received[field], "{field}: {sent} {received}");
        }
        ensure!(
            sum(lab, from, "/tmp/out")? == sum(lab, to, "/tmp/in")?,
            "another file arrived"
        );
    }
    Ok(())
}

/// Whoever is killed, the other exits with 1 and says why, and no file is left.
pub fn interrupted(lab: &Lab, guest: &Guest) -> Result<()> {
    // Endless for this test, and it takes no room.
    let make = "rm -f /tmp/big; dd if=/dev/null of=/tmp/big bs=1M seek=4000 2>/dev/null";
    for (from, to) in ways(guest) {
        lab.tb.sh(from, make)?;
        for victim in ["sender", "receiver", "receiver, asked to end"] {
            lab.tb.sh(to, "rm -rf /tmp/folder; mkdir /tmp/folder")?;
            let port = lab.port();
            let port_text = port.to_string();
            let receiver = listening(
                lab,
                to,
                &["idts", "recv", &port_text, "/tmp/folder/in", "--max", "8G"],
            )?;
            let target = lab.address(to, port)?;
            let before = lab.counter(from, to, "tx_bytes")?;
            let sender = lab.start(from, &["idts", "send", "/tmp/big", &target])?;
            while lab.counter(from, to, "tx_bytes")? < before + (1 << 20) {
                ensure!(
                    sender.is_running(),
                    "the sender has ended: {}",
                    sender.end()?.stderr
                );
            }
            let survivor = match victim {
                "sender" => {
                    sender.stop()?;
                    receiver.end()?
                }
                _ => {
                    receiver.signal(if victim == "receiver" { 9 } else { SIGTERM })?;
                    let ended = receiver.end()?;
                    ensure!(ended.code != 0, "a receiver that was ended exits with 0");
                    sender.end()?
                }
            };
            let left = lab.tb.sh(to, "ls -A /tmp/folder")?.stdout_text();
            ensure!(
                survivor.code == 1,
                "{victim} killed: exit code {}",
                survivor.code
            );
            ensure!(
                survivor.stderr.contains("cannot "),
                "it says {}",
                survivor.stderr
            );
            ensure!(left.is_empty(), "{victim} killed: this is left: {left}");
        }
        lab.tb.sh(from, "rm -f /tmp/big")?;
    }
    Ok(())
}

/// The other verbs, and the exit codes of wrong use.
pub fn echo_ping_cat(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port().to_string();
        let echo = listening(lab, server, &["idts", "echo", &port])?;
        let target = format!("{}:{port}", name_of(client, server));
        let argv = ["idts", "ping", &target, "-c", "20", "-s", "1000", "--json"];
        let report: Value = lab.start(client, &argv)?.report()?;
        ensure!(report["count"] == 20 && report["bytes"] == 1000, "{report}");
        let said = lab
            .tb
            .exec_with(client, &["idts", "cat", &target], b"some words")?;
        let said = said.check("idts cat")?;
        ensure!(
            said.stdout == b"some words",
            "cat gets {:?} back",
            said.stdout_text()
        );
        ensure!(echo.is_running(), "echo ended");
        echo.signal(SIGTERM)?;
        echo.end()?;
        let failed = lab.tb.exec(client, &["idts", "ping", &target])?;
        ensure!(
            failed.code == 1,
            "ping without echo: exit code {}",
            failed.code
        );
        let peer = lab.address(server, 0)?;
        let peer = peer.trim_end_matches('0');
        ensure!(
            failed.stderr_text().contains(peer),
            "it names nobody: {}",
            failed.stderr_text()
        );
        let wrong = lab.tb.exec(client, &["idts", "ping"]).context("usage")?;
        ensure!(wrong.code == 2, "wrong usage: exit code {}", wrong.code);
    }
    Ok(())
}

/// Lines as records, there and back: each arrives whole, as one, and an empty line is none.
pub fn cat_records(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port().to_string();
        let echo = listening(lab, server, &["idts", "echo", &port, "--record", "--once"])?;
        let target = format!("{}:{port}", name_of(client, server));
        let cat = ["idts", "cat", &target, "--record", "--lines"];
        let said = lab.tb.exec_with(client, &cat, b"one\n\ntwo words\nlast")?;
        let said = said.check("idts cat")?;
        ensure!(
            said.stdout == b"one\ntwo words\nlast\n",
            "cat gets {:?} back",
            said.stdout_text()
        );
        let ended = echo.end()?;
        ensure!(ended.code == 0, "echo says {}", ended.stderr);
    }
    Ok(())
}

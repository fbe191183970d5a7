// SPDX-License-Identifier: GPL-2.0
//! The testbed through changes: without modules, with new ones, after a restore, after its emulator
//! was killed.

use std::io::{BufRead, BufReader};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use rustix::process::{kill_process, Pid, Signal};
use serde_json::Value;

use crate::bed::{folder, start_sleeper, streams_in};
use crate::entry::{finish, run, start, testbed};
use crate::lab::{Guest, Lab};
use crate::transfer::{move_bytes, ways};

/// Where dom0 has room for a guest's memory.
const IMAGE: &str = "/var/lib/xen/saved";

/// Commands need nothing of ours in the domains.
pub fn without_modules(lab: &Lab) -> Result<()> {
    for domain in Lab::domains() {
        let modules = "! grep -E '^idts_(front|back) ' /proc/modules";
        lab.tb.sh(domain, modules)?;
        streams_in(lab, domain)?;
    }
    Ok(())
}

pub fn restored_pv(lab: &Lab) -> Result<()> {
    restored(lab, "u1")
}

pub fn restored_pvh(lab: &Lab) -> Result<()> {
    restored(lab, "u2")
}

/// A command that runs while its guest is saved has failed here; after the restore others run.
fn restored(lab: &Lab, guest: &str) -> Result<()> {
    let before = lab.id(guest)?;
    let (child, _) = start_sleeper(guest, "")?;
    lab.tb.xl(&["save", guest, IMAGE])?;
    finish(child)?.expect(125, guest)?;
    lab.tb.xl(&["restore", IMAGE])?;
    lab.tb.sh("dom0", &format!("rm {IMAGE}"))?;
    ensure!(lab.id(guest)? != before, "{guest} was not restored");
    streams_in(lab, guest)
}

/// Modules and programs reach the running domains, and tunnels are back.
pub fn reload(lab: &Lab, guest: &Guest) -> Result<()> {
    for domain in ["dom0", guest.name] {
        lab.tb.sh(domain, "echo old >/usr/bin/idts")?;
    }
    run(testbed(&["reload"]))?.expect(0, "reloaded")?;
    for domain in ["dom0", guest.name] {
        lab.tb.exec(domain, &["idts", "--help"])?.check("idts")?;
    }
    for (from, to) in ways(guest) {
        move_bytes(lab, from, to, 10_000)?;
    }
    Ok(())
}

/// Whatever a testbed was at when its emulator was killed, the next one comes up. The first is one
/// as people start it, in which guests may do everything.
pub fn killed_emulator() -> Result<()> {
    let state = folder("state")?;
    let bed = |args: &[&str]| -> Command {
        let mut command = testbed(args);
        command.env("IDTS_STATE", &state);
        command
    };
    let result = kill_and_go_on(&bed);
    // Whatever went wrong, nothing stays.
    run(bed(&["down"]))?.expect(0, "")?;
    result
}

fn kill_and_go_on(bed: &dyn Fn(&[&str]) -> Command) -> Result<()> {
    run(bed(&["up", "--no-build", "--guests", "2"]))?.expect(0, "up: dom0, u1, u2")?;
    let mut echo = start(bed(&["exec", "u2", "--", "idts", "echo", "7000"]))?;
    let mut said = BufReader::new(echo.stderr.take().context("no pipe")?).lines();
    ensure!(said.any(|line| line.is_ok_and(|line| line.starts_with("listening on"))));
    let id = run(bed(&["xl", "domid", "u2"]))?.expect(0, "")?.text();
    let target = format!("{}:7000", id.trim());
    let ping = ["exec", "u1", "--", "idts", "ping", &target, "-c", "3"];
    run(bed(&ping))?.expect(0, "")?;
    let publish = [
        "exec", "u1", "--", "idts", "publish", "news", "--count", "1",
    ];
    run(bed(&publish))?.expect(0, "")?;

    kill_process(emulator(bed(&["status", "--json"]))?, Signal::KILL)?;
    ensure!(finish(echo)?.code == 125, "a command outlived its testbed");
    run(bed(&["exec", "u1", "--", "true"]))?.expect(125, "scripts/testbed up")?;
    run(bed(&["up", "--no-build", "--bare", "--guests", "0"]))?.expect(0, "up: dom0")?;
    run(bed(&["exec", "dom0", "--", "true"]))?.expect(0, "")?;
    run(bed(&["down"]))?.expect(0, "ended")?;
    let status = run(bed(&["status"]))?.expect(0, "")?.text();
    ensure!(status == "no testbed is running\n", "after down: {status}");
    run(bed(&["down"]))?.expect(0, "nothing ran")?;
    Ok(())
}

/// The emulator's process.
fn emulator(status: Command) -> Result<Pid> {
    let text = run(status)?.expect(0, "")?.text();
    let status: Value = serde_json::from_str(&text)?;
    let pid = status["pid"]
        .as_i64()
        .and_then(|pid| Pid::from_raw(pid as i32));
    pid.with_context(|| format!("no process in {text}"))
}

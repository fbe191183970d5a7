// SPDX-License-Identifier: GPL-2.0
//! What peers can make the drivers do on xenbus, and what is left to run when a module goes.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use testbed::product::module_of;

use crate::hostile::{HOSTILE, HOSTILE_THERE};
use crate::lab::{built, parameters_of, Guest, Lab, GUESTS};
use crate::run::Run;
use crate::transfer::{move_bytes, ways};

/// What every guest's set-ups get in a real dom0: `idts_back`'s own defaults.
const DEFAULTS: &str = "";
const BURST: u64 = 8;
const SETUP_MS: u64 = 5_000;
/// Set-ups of the guest that flaps.
const ROUNDS: u64 = 12;
/// A moment for the watch to tell the guest that it may go on, in milliseconds.
const NOTICE_MS: u64 = 1_000;
/// Between two looks, and two transfers of the other guest.
const PAUSE: Duration = Duration::from_millis(500);

/// Loads a domain's module anew, the real one or the one for the tests.
fn reload(lab: &Lab, domain: &str, trial: bool, parameters: &str) -> Result<()> {
    lab.rmmod(domain)?;
    if !trial {
        return lab.tb.load_module_with(domain, parameters);
    }
    let module = format!("{}.ko", module_of(domain));
    let there = format!("/tmp/{module}");
    lab.tb
        .push(&built(&format!("trial/{module}"))?, domain, &there)?;
    let others = parameters_of(domain);
    let insmod = format!("insmod {there} {others} {parameters}");
    lab.tb.sh(domain, &insmod).map(drop)
}

/// Afterwards all is as the next test finds it.
fn restore(lab: &Lab, domain: &str) -> Result<()> {
    reload(lab, domain, false, parameters_of(domain))?;
    GUESTS
        .iter()
        .try_for_each(|name| lab.tb.wait_connected(name))
}

fn bring_hostile(lab: &Lab, domain: &str) -> Result<()> {
    lab.tb.push(Path::new(HOSTILE), domain, HOSTILE_THERE)
}

/// A guest that sets its tunnel up and ends it, or spoils it, as fast as it can is slowed to what
/// dom0 gives each; another is served meanwhile.
pub fn flaps(lab: &Lab, guest: &Guest) -> Result<()> {
    bring_hostile(lab, guest.name)?;
    lab.rmmod(guest.name)?;
    stays_closed(lab, guest)?;
    let other = GUESTS.iter().copied().find(|name| *name != guest.name);
    let other = other.context("no other guest")?;
    reload(lab, "dom0", false, DEFAULTS)?;
    lab.tb.wait_connected(other)?;
    let flap = flap(lab, guest, ROUNDS)?;
    let mut moved = 0;
    while flap.is_running() {
        move_bytes(lab, "dom0", other, 100_000)?;
        moved += 1;
        thread::sleep(PAUSE);
    }
    let report = flap.report()?;
    let began = report["began"].as_array().context("no report")?;
    let began: Vec<u64> = began.iter().filter_map(|ms| ms.as_u64()).collect();
    ensure!(began.len() as u64 == ROUNDS, "{report}");
    ensure!(moved > 0, "the other guest moved nothing meanwhile");
    // The first may have been announced long before. Of those after the second a burst is free.
    let slowed = (ROUNDS - 2 - BURST) * SETUP_MS;
    let took = began[began.len() - 1] - began[1];
    ensure!(
        took + NOTICE_MS >= slowed,
        "{} set-ups in {took} ms: {began:?}",
        ROUNDS - 1
    );
    eprintln!(
        "flaps: {} set-ups in {took} ms, {moved} honest transfers",
        ROUNDS - 1
    );
    lab.insmod(guest.name)?;
    lab.tb.wait_connected(guest.name)?;
    for (from, to) in ways(guest) {
        move_bytes(lab, from, to, 10_000)?;
    }
    restore(lab, "dom0")
}

fn flap(lab: &Lab, guest: &Guest, rounds: u64) -> Result<Run> {
    let (id, rounds) = (lab.id(guest.name)?.to_string(), rounds.to_string());
    lab.start(guest.name, &[HOSTILE_THERE, "flap", &id, &rounds])
}

/// Where there is one set-up in an hour the next is not to be had; but from the toolstack.
fn stays_closed(lab: &Lab, guest: &Guest) -> Result<()> {
    reload(lab, "dom0", false, "setup_burst=1 setup_ms=3600000")?;
    flap(lab, guest, 1)?.report()?;
    lab.tb
        .sh("dom0", "dmesg | grep 'sets its tunnel up too often'")?;
    let back = || -> Result<String> {
        let list = lab.tb.tunnels()?;
        let ours = list.iter().find(|tunnel| tunnel["name"] == guest.name);
        let state = ours.context("no tunnel")?["back"].as_str();
        Ok(state.unwrap_or_default().into())
    };
    ensure!(back()? == "Closed", "it is {} and not held", back()?);
    lab.tb.detach_tunnel(guest.name)?;
    let attach = ["tunnel-mgr", "attach", guest.name, "--wait", "0"];
    lab.tb.exec("dom0", &attach)?.check("attach")?;
    while back()? != "InitWait" {
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A guest's rights hold until its last message is judged: while its tunnel is being ended, which
/// takes long here, one that may connect to nothing does not.
pub fn last_words(lab: &Lab, guest: &Guest) -> Result<()> {
    reload(lab, "dom0", true, "delay=stop delay_ms=1500")?;
    lab.tb.wait_connected(guest.name)?;
    lab.rmmod(guest.name)?;
    bring_hostile(lab, guest.name)?;
    let set = |rule: &str| {
        lab.tb
            .sh("dom0", &format!("tunnel-mgr set {} {rule}", guest.name))
    };
    set("connect=none")?;
    let port = lab.port().to_string();
    let echo = lab.start("dom0", &["idts", "echo", &port])?;
    echo.wait_line("listening on")?;
    let id = lab.id(guest.name)?.to_string();
    let words = [HOSTILE_THERE, "last-words", &id, &port, "1000"];
    let report = lab.start(guest.name, &words)?.report()?;
    echo.stop()?;
    set("connect=")?;
    eprintln!("last words: {report}");
    ensure!(report["asked"].as_u64() > Some(0), "{report}");
    ensure!(report["opened"] == 0, "it may connect to nothing: {report}");
    lab.insmod(guest.name)?;
    restore(lab, "dom0")
}

/// dom0 keeps a page mapped while the guest's module goes: nothing of the module runs once it has
/// gone, though what it waits for is yet to come.
pub fn gone_while_mapped(lab: &Lab, guest: &Guest) -> Result<()> {
    bring_hostile(lab, "dom0")?;
    reload(lab, guest.name, true, "delay=reaper delay_ms=300")?;
    lab.tb.wait_connected(guest.name)?;
    let id = lab.id(guest.name)?.to_string();
    let node = format!("/local/domain/{id}/device/idts/0/control-ref");
    let read = lab.tb.exec("dom0", &["xenstore-read", &node])?;
    let reference = read.stdout_text().trim().to_string();
    let hold = lab.start("dom0", &[HOSTILE_THERE, "hold", &id, &reference])?;
    hold.wait_line("ready")?;
    lab.rmmod(guest.name)?;
    // Whatever was to run after that has run.
    lab.tb.sh(guest.name, "sleep 2")?;
    let log = "dmesg | grep 'still mapped by the peer'";
    lab.tb.sh(guest.name, log).context("no page was held")?;
    hold.report()?;
    lab.insmod(guest.name)?;
    lab.tb.wait_connected(guest.name)
}

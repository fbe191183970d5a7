// SPDX-License-Identifier: GPL-2.0
//! Races that are lost each time: modules for the tests stand still at a place of the code that has
//! a name (idts-common/kernel/sys/test_override.c).

use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde_json::json;
use testbed::product::module_of;

use crate::channels::wait_idle;
use crate::domains::{other, start, with_setting};
use crate::lab::{parameters_of, Guest, Lab, GUESTS};
use crate::run::expect;
use crate::skips;

/// For how long a module stands still: far longer than what is to come meanwhile.
const DELAY_MS: u32 = 400;
const SIGTERM: i32 = 15;

/// With dom0's module for the tests.
pub fn dom0(lab: &Lab, guest: &Guest) -> Result<()> {
    with_trial(lab, "dom0", |lab| {
        home_connect(lab).context("home connect")?;
        let all = ("connect", "all");
        with_setting(lab, guest.name, all, || number(lab, guest)).context("number")?;
        lines_go(lab, guest).context("lines that go")
    })
}

/// A guest's channel to dom0 takes the number of one to another guest that was just refused.
fn number(lab: &Lab, guest: &Guest) -> Result<()> {
    const MS: u32 = 100;
    let port = lab.port();
    let echo = start(
        lab,
        "dom0",
        &["idts", "echo", &port.to_string()],
        "listening on",
    )?;
    let nobody = lab.address(other(guest), lab.port())?;
    let echo_at = lab.address("dom0", port)?;
    stand_still(lab, "dom0", "leg-end", MS)?;
    let report = lab.ask(
        guest.name,
        &["race-number", &nobody, &echo_at, &MS.to_string()],
    );
    stand_still(lab, "dom0", "leg-end", 0)?;
    echo.signal(SIGTERM)?;
    report.map(drop)
}

/// A connect of dom0 with itself is given up before it is connected.
fn home_connect(lab: &Lab) -> Result<()> {
    stand_still(lab, "dom0", "home-connect", DELAY_MS)?;
    let port = lab.port().to_string();
    let report = lab.ask("dom0", &["race-home", &port]);
    stand_still(lab, "dom0", "home-connect", 0)?;
    let report = report?;
    let ends = report["ends"].as_array().context("no ends")?;
    ensure!(
        ends.iter()
            .all(|end| *end == json!(0) || *end == "ECONNRESET"),
        "ends of channels that nobody has: {ends:?}"
    );
    Ok(())
}

/// The event handler has found a channel and is about to look at its lines when both ends close and
/// the guest takes back the pages that they lie in: dom0 may unmap them only when the handler is done.
fn lines_go(lab: &Lab, guest: &Guest) -> Result<()> {
    // Two channels, for one of them to be of the second queue; no idle region has room for them.
    const RING: &str = "1048576";
    const MS: u32 = 4000;
    wait_idle(lab, guest)?;
    // Their lines are in a page of the first segment, which stays, unless others have those.
    let many = lab.port();
    let listen = ["listen", &many.to_string(), "--hold", "--backlog", "128"];
    let mut listener = lab.serve("dom0", &listen)?;
    let others = lab.address("dom0", many)?;
    let small = ["connect", &others, "--ring", "4096", "--hold", "64"];
    let mut first = lab.exercise(guest.name, &small)?;
    first.wait_line("holding")?;
    let port = lab.port().to_string();
    let echo = start(lab, "dom0", &["idts", "echo", &port], "listening on")?;
    let address = lab.address("dom0", port.parse()?)?;
    let args = ["connect", &address, "--ring", RING, "--hold", "2"];
    let mut holder = lab.exercise(guest.name, &args)?;
    let held = holder.wait_line("holding")?;
    ensure!(held == "holding 2", "{held}");
    for run in [&mut first, &mut listener] {
        run.tell("enough")?;
    }
    expect(&first.report()?, "channels", 64)?;
    listener.report()?;
    lab.wait_gauge(guest.name, "channels", |open| open == 2)?;
    // The second queue's CPU is to stand still, the first one's goes on with the control ring; and
    // nothing is woken on the one that stands still, for it does not look idle.
    let apart =
        "for q in 0 1; do for irq in $(grep \"idts-q$q\" /proc/interrupts | cut -d: -f1); do \
                 echo $((q + 1)) >/proc/irq/$irq/smp_affinity; done; done; \
                 timeout 10 taskset 2 sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null &";
    lab.tb.sh("dom0", apart)?;
    stand_still(lab, "dom0", "event-lines", MS)?;
    // Who waits in dom0 is told, by a handler that has other things to do.
    holder.tell("enough")?;
    expect(&holder.report()?, "channels", 2)?;
    echo.stop()?;
    wait_idle(lab, guest)?;
    let folder = format!("/sys/module/{}/parameters", module_of("dom0"));
    let left = lab.tb.sh("dom0", &format!("cat {folder}/delay_ms"))?;
    ensure!(left.stdout_text().trim() == "0", "no handler stood still");
    Ok(())
}

/// Has a domain's module stand still at a place; for 0 ms: nowhere.
fn stand_still(lab: &Lab, domain: &str, place: &str, ms: u32) -> Result<()> {
    let folder = format!("/sys/module/{}/parameters", module_of(domain));
    let script = format!("echo {place} >{folder}/delay && echo {ms} >{folder}/delay_ms");
    lab.tb.sh(domain, &script).map(drop)
}

/// Loads a domain's module for the tests, and the real one again afterwards.
fn with_trial(lab: &Lab, domain: &str, steps: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let module = module_of(domain);
    let file = skips::top().join(format!("target/trial/{module}.ko"));
    let there = format!("/tmp/{module}.ko");
    lab.tb.push(Path::new(&file), domain, &there)?;
    lab.rmmod(domain)?;
    let insmod = format!("insmod {there} {}", parameters_of(domain));
    lab.tb.sh(domain, &insmod)?;
    for guest in GUESTS {
        lab.tb.wait_connected(guest)?;
    }
    let result = steps(lab);
    lab.rmmod(domain)?;
    lab.insmod(domain)?;
    for guest in GUESTS {
        lab.tb.wait_connected(guest)?;
    }
    result
}

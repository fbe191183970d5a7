// SPDX-License-Identifier: GPL-2.0
//! Storms of events on real Xen: u3 without its module plays the front and sends events that bring
//! nothing, as many as it can. dom0's kernel delays them; u1 is not slowed down.

use anyhow::{ensure, Context, Result};

use crate::hostile::{with_hostile_guest, HOSTILE_THERE};
use crate::lab::{Guest, Lab};
use crate::transfer::{move_bytes, ways};

/// Events of a storm that are taken: what a queue saves up, and two for each tick of delay.
const SAVED_MAX: u64 = 20;
/// A storm is one.
const SENT_MIN: u64 = 2000;
/// Bytes that an honest guest moves after each storm.
const HONEST: u64 = 1 << 20;

/// Each kind of event for nothing.
pub fn front(lab: &Lab, guest: &Guest) -> Result<()> {
    let honest = Guest {
        name: "u1",
        kind: guest.kind,
    };
    with_hostile_guest(lab, guest, |id| {
        let victim = lab.start("dom0", &[HOSTILE_THERE, "victim", "--listen", "7000"])?;
        victim.wait_line("ready")?;
        let number = id.to_string();
        let witness = lab.start("dom0", &[HOSTILE_THERE, "witness", &number, &number])?;
        witness.wait_line("ready")?;
        for kind in ["dead", "control", "idle", "messages"] {
            storm(lab, guest, id, kind).with_context(|| format!("storm: {kind}"))?;
            for (from, to) in ways(&honest) {
                move_bytes(lab, from, to, HONEST)?;
            }
        }
        let mut victim = victim;
        witness.report()?;
        victim.tell("enough")?;
        victim.report().map(drop)
    })
}

fn storm(lab: &Lab, guest: &Guest, id: u32, kind: &str) -> Result<()> {
    let honest = lab.counter("dom0", "u1", "events_delayed")?;
    let player = [HOSTILE_THERE, "storm", &id.to_string(), kind];
    let mut player = lab.start(guest.name, &player)?;
    player.wait_line("ready")?;
    let counts = |name| lab.counter("dom0", guest.name, name);
    let before = [counts("events")?, counts("spurious")?];
    let slowed_before = delayed(lab, id)?;
    player.tell("go")?;
    player.wait_line("over")?;
    let taken = counts("events")? - before[0];
    let spurious = counts("spurious")? - before[1];
    let slowed = delayed(lab, id)? - slowed_before;
    player.tell("enough")?;
    let report = player.report()?;
    let sent = report["sent"].as_u64().context("no count")?;
    eprintln!("storm {kind}: {sent} sent in {} ms, {taken} taken, {spurious} spurious, delayed {slowed} jiffies", report["ms"]);
    ensure!(report["answered"] == true, "a message had no answer");
    if kind == "messages" {
        // These are for something. Numbers that nobody has are not looked at.
        ensure!(taken > 0, "no event was taken");
        ensure!(spurious * 10 <= taken, "{spurious} of {taken} spurious");
    } else {
        ensure!(sent >= SENT_MIN, "{sent} events are no storm");
        ensure!(slowed > 0, "Xen's event code delayed nothing");
        ensure!(
            taken <= 2 * slowed + SAVED_MAX && taken * 4 <= sent,
            "{taken} of {sent} events were taken, with {slowed} ticks of delay"
        );
    }
    let now = lab.counter("dom0", "u1", "events_delayed")?;
    ensure!(now == honest, "u1 was delayed: {honest}, then {now}");
    Ok(())
}

/// Ticks by which dom0's kernel delayed events of a device.
fn delayed(lab: &Lab, id: u32) -> Result<u64> {
    let file = format!("/sys/bus/xen-backend/devices/idts-{id}-0/xenbus/jiffies_eoi_delayed");
    let text = lab.tb.sh("dom0", &format!("cat {file}"))?;
    text.stdout_text().trim().parse().context(file)
}

// SPDX-License-Identifier: GPL-2.0
//! Several queues in one tunnel: the guests and dom0 have two CPUs each, so their tunnels have two.

use anyhow::{ensure, Context, Result};

use crate::channels;
use crate::lab::{Guest, Lab};
use crate::run::expect;
use crate::transfer::ways;

/// CPUs of the guests and of dom0.
const QUEUES: u64 = 2;
const CHANNELS: u64 = 16;

/// Sixteen channels are eight in each queue.
pub fn spread(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port();
        let backlog = CHANNELS.to_string();
        let listen = ["listen", &port.to_string(), "--hold", "--backlog", &backlog];
        let mut listener = lab.serve(server, &listen)?;
        let address = lab.address(server, port)?;
        let mut holder = lab.exercise(client, &["connect", &address, "--hold", &backlog])?;
        let held = holder.wait_line("holding")?;
        ensure!(held == format!("holding {CHANNELS}"), "{client}: {held}");
        for queue in 0..QUEUES {
            let name = format!("queue_{queue}_channels");
            lab.wait_gauge(guest.name, &name, |count| count == CHANNELS / QUEUES)?;
        }
        for run in [&mut holder, &mut listener] {
            run.tell("enough")?;
        }
        expect(&holder.report()?, "channels", CHANNELS)?;
        expect(&listener.report()?, "queued", CHANNELS)?;
    }
    Ok(())
}

/// Data on sixteen channels at once wakes both sides by the events of both queues.
pub fn events(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = heard(lab, guest)?;
    channels::sixteen(lab, guest)?;
    let after = heard(lab, guest)?;
    for (old, new) in before.iter().zip(&after) {
        ensure!(
            new.1 > old.1 && new.2 > old.2,
            "{}: {} events and {} interrupts, before {} and {}",
            new.0,
            new.1,
            new.2,
            old.1,
            old.2
        );
    }
    Ok(())
}

/// A guest with one CPU has one queue with dom0, which has two.
pub fn one_cpu(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    lab.make_guest(guest)?;
    for (domain, peer) in ways(guest) {
        let queues = lab.counter(domain, peer, "queues")?;
        ensure!(queues == 1, "{domain}: {queues} queues");
    }
    lab.drop_guest(guest)?;
    lab.tb.wait_tables(&before)
}

/// Of each queue of either side: its name, its events, and what /proc/interrupts says.
fn heard(lab: &Lab, guest: &Guest) -> Result<Vec<(String, u64, u64)>> {
    let mut all = Vec::new();
    for (domain, peer) in ways(guest) {
        let queues = lab.counter(domain, peer, "queues")?;
        ensure!(queues == QUEUES, "{domain}: {queues} queues");
        let interrupts = lab.tb.sh(domain, "cat /proc/interrupts")?.stdout_text();
        for queue in 0..QUEUES {
            let name = format!("idts-q{queue}");
            let events = lab.counter(domain, peer, &format!("queue_{queue}_events"))?;
            let count = interrupts_of(&interrupts, &name)
                .with_context(|| format!("{domain}: no {name} in {interrupts}"))?;
            all.push((format!("{domain}: {name}"), events, count));
        }
    }
    Ok(all)
}

/// How often the interrupts of that name came, on all CPUs.
fn interrupts_of(table: &str, name: &str) -> Option<u64> {
    let lines = table
        .lines()
        .filter(|line| line.split_whitespace().last() == Some(name));
    let count = |line: &str| -> u64 {
        let words = line.split_whitespace().skip(1);
        words.map_while(|word| word.parse::<u64>().ok()).sum()
    };
    lines.map(count).reduce(|all, count| all + count)
}

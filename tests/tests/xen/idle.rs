// SPDX-License-Identifier: GPL-2.0
//! Who has nothing to say costs nothing: no event, no work, no timer, on either side.

use anyhow::{ensure, Result};

use crate::domains::{set, start};
use crate::lab::{Guest, Lab};

/// Counters that move when anything is done.
const COUNTERS: [&str; 8] = [
    "events_sent",
    "events",
    "sleeps",
    "looks",
    "tx_bytes",
    "rx_bytes",
    "flow_picks",
    "flow_backlogs",
];
const SIGTERM: i32 = 15;

/// An open channel, a listener and a subscriber, all silent, also while a cap exists.
pub fn costs_nothing(lab: &Lab, guest: &Guest) -> Result<()> {
    set(lab, guest.name, "subscribe=all")?;
    set(lab, guest.name, "rate=1M")?;
    let port = lab.port();
    let listen = ["listen", &port.to_string(), "--hold"];
    let mut listener = lab.serve("dom0", &listen)?;
    let connect = ["connect", &lab.address("dom0", port)?, "--hold", "1"];
    let mut holder = lab.exercise(guest.name, &connect)?;
    holder.wait_line("holding")?;
    let argv = ["idts", "subscribe", "silence"];
    let subscriber = start(lab, guest.name, &argv, "subscribed to")?;
    let result = ["dom0", guest.name]
        .iter()
        .try_for_each(|domain| is_silent(lab, guest, domain));
    for run in [&mut listener, &mut holder] {
        run.tell("enough")?;
    }
    holder.report()?;
    listener.report()?;
    subscriber.signal(SIGTERM)?;
    subscriber.end()?;
    set(lab, guest.name, "rate=")?;
    set(lab, guest.name, "subscribe=")?;
    result
}

/// What the kernel traces of our works and timers in a while, and what the driver counts.
fn is_silent(lab: &Lab, guest: &Guest, domain: &str) -> Result<()> {
    let peer = if domain == "dom0" { guest.name } else { "dom0" };
    let counters = || -> Result<Vec<u64>> {
        let shown = COUNTERS
            .iter()
            .filter(|name| domain == "dom0" || !name.starts_with("flow_"));
        shown.map(|name| lab.counter(domain, peer, name)).collect()
    };
    // Until what was done at the beginning is over: the last tick of a timer, a wake-up.
    lab.tb.sh(domain, "sleep 1")?;
    let before = counters()?;
    let script = "cd /sys/kernel/tracing 2>/dev/null && [ -e trace ] || \
        { mount -t tracefs tracefs /sys/kernel/tracing && cd /sys/kernel/tracing; }; \
        echo >trace; on() { for e in workqueue/workqueue_execute_start timer/hrtimer_expire_entry; \
        do echo $1 >events/$e/enable; done; }; on 1; sleep 2; on 0; \
        wc -l <trace; grep -c 'idts_\\(back\\|front\\)' trace; echo >trace";
    let traced = lab.tb.exec(domain, &["sh", "-c", script])?.stdout_text();
    let numbers: Vec<u64> = traced
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    let [lines, ours] = numbers[..] else {
        anyhow::bail!("{domain}: the tracer says {traced}");
    };
    ensure!(lines > 20, "{domain}: nothing is traced: {traced}");
    ensure!(
        ours == 0,
        "{domain}: {ours} works or timers of ours in two silent seconds"
    );
    let after = counters()?;
    ensure!(
        before == after,
        "{domain}: {COUNTERS:?} go from {before:?} to {after:?}"
    );
    Ok(())
}

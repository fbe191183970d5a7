// SPDX-License-Identifier: GPL-2.0
//! The scheduler as the bottleneck: four guests, each with more to send than a total cap lets
//! through, once to dom0, once to each other, and once with a publisher among them. What each gets is counted by the backend, per
//! second of a clock that counts instructions, so that the machine's mood is not in the figures.

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::lab::Lab;
use crate::run::Run;

/// Of the testbed: instructions count as time, so that a second is one however busy the host is.
pub const TESTBED: [&str; 5] = ["--icount", "--guests", "4", "--type", "pv"];
const GUESTS: [&str; 4] = ["u1", "u2", "u3", "u4"];
/// The total cap, and that of one guest when there is one, in bytes a second: low enough that also on
/// a kernel full of checks a program comes back with more while its domain's first quantum is served.
const TOTAL: u64 = 8 << 20;
const OWN: u64 = 1 << 20;
/// How far a share may be off.
const SHARE: f64 = 0.05;
/// The same of one of four that publishes: its records are more than a turn's end allows for.
const FAN_SHARE: f64 = 0.04;
const SUBSCRIBERS: usize = 8;
/// How far a cap may be off.
const CAP: f64 = 0.03;
/// How long a policy works before it is measured, and for how long it is, in seconds.
const SETTLE: f64 = 0.3;
const WINDOW: f64 = 2.5;

/// What the backend counted of each guest in a while.
struct Shares {
    seconds: f64,
    served: Vec<f64>,
    backlogs: Vec<u64>,
    backlogged: Vec<f64>,
}

/// Shares follow the weights whatever way the data goes, also when the weights change in flow.
pub fn shares(lab: &Lab) -> Result<()> {
    let alone = alone(lab)?;
    ensure!(
        alone > 2.0 * TOTAL as f64,
        "one guest alone reaches only {alone} bytes a second"
    );
    let rate = format!("rate={TOTAL}");
    configure(lab, &["scheduler", "drr", &rate])?;
    for guest in GUESTS {
        configure(lab, &["set", guest, "connect=all"])?;
    }
    for relayed in [false, true] {
        let flows = start(lab, relayed)?;
        measure(lab).with_context(|| if relayed { "relayed" } else { "to dom0" })?;
        flows.into_iter().try_for_each(stop)?;
    }
    fan_out(lab).context("a publisher")?;
    configure(lab, &["scheduler", "rate=0"])
}

/// A publisher pays for each copy: what goes to its many subscribers is no more in all than what
/// each of the others sends to one.
fn fan_out(lab: &Lab) -> Result<()> {
    const GROUP: &str = "fan";
    for guest in GUESTS {
        configure(lab, &["set", guest, "weight="])?;
    }
    for key in ["publish", "subscribe"] {
        configure(lab, &["set", "u1", &format!("{key}={GROUP}")])?;
    }
    let mut runs = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let argv = ["idts", "subscribe", GROUP, "--on-lag", "block", "--json"];
        let run = lab.start("u1", &argv)?;
        run.wait_line("subscribed to")?;
        runs.push(run);
    }
    let argv = [
        "idts",
        "publish",
        GROUP,
        "--may-block",
        "--count",
        "1000000000",
        "--size",
        "16384",
    ];
    let publisher = lab.start("u1", &argv)?;
    publisher.wait_line("publishing to")?;
    let mut flows = Vec::new();
    for (from, to) in [("u2", "u3"), ("u3", "u4"), ("u4", "u2")] {
        flows.push(flow(lab, from, to)?);
    }
    let seen = look_twice(lab, WINDOW)?;
    flows.into_iter().try_for_each(stop)?;
    publisher.stop()?;
    for run in runs {
        run.end()?;
    }
    // What came out of the publisher's tunnel went back into it, so many times.
    let (copied, others) = (seen.grown("relayed_out")?, seen.grown("relayed_in")?);
    let moved = [copied[0], others[1], others[2], others[3]];
    let whole: u64 = moved.iter().sum();
    let shares = moved.map(|bytes| bytes as f64 / whole as f64);
    eprintln!("a publisher to {SUBSCRIBERS} among three: {shares:.3?} of {whole} bytes");
    ensure!(
        shares.iter().all(|share| (share - 0.25).abs() <= FAN_SHARE),
        "with a publisher to {SUBSCRIBERS} shares are {shares:?}"
    );
    Ok(())
}

/// Every policy in turn, while data flows.
fn measure(lab: &Lab) -> Result<()> {
    weigh(lab, [1, 2, 4, 1])?.follow("drr", [1, 2, 4, 1])?;
    weigh(lab, [4, 2, 1, 1])?.follow("drr", [4, 2, 1, 1])?;
    configure(lab, &["scheduler", "fifo"])?;
    let fifo = watch(lab)?;
    fifo.backlogged()?;
    ensure!(
        fifo.follow("fifo", [4, 2, 1, 1]).is_err(),
        "fifo follows weights"
    );
    configure(lab, &["scheduler", "rr"])?;
    watch(lab)?.follow("rr", [1, 1, 1, 1])?;
    configure(lab, &["set", "u2", "prio=5"])?;
    configure(lab, &["scheduler", "prio"])?;
    watch(lab)?.follow("prio", [0, 1, 0, 0])?;
    configure(lab, &["set", "u2", "prio="])?;
    configure(lab, &["scheduler", "drr"])?;
    own_cap(lab)
}

/// A guest with a cap of its own below its share keeps to it, the others get the rest.
fn own_cap(lab: &Lab) -> Result<()> {
    weigh(lab, [1, 1, 1, 1])?.follow("drr", [1, 1, 1, 1])?;
    configure(lab, &["set", "u1", &format!("rate={OWN}")])?;
    let seen = watch(lab)?;
    configure(lab, &["set", "u1", "rate="])?;
    let rate = seen.served[0] / seen.seconds;
    eprintln!("cap of u1: {rate:.0} bytes a second of {OWN}");
    ensure!(
        (rate / OWN as f64 - 1.0).abs() <= CAP,
        "u1 gets {rate} bytes a second under a cap of {OWN}"
    );
    seen.total()
}

/// What a guest reaches when nobody else sends and nothing is capped, in bytes a second.
fn alone(lab: &Lab) -> Result<f64> {
    let flow = flow(lab, "u1", "dom0")?;
    let seen = watch_for(lab, SETTLE)?;
    stop(flow)?;
    // Without a cap the scheduler does not see what dom0's programs read.
    Ok(seen.served[0] / seen.seconds)
}

/// One stream without end: sender and receiver.
fn flow(lab: &Lab, from: &str, to: &str) -> Result<[Run; 2]> {
    let port = lab.port();
    let receiver = lab.serve(to, &["recv", &port.to_string()])?;
    let sender = lab.exercise(from, &["send", &lab.address(to, port)?])?;
    sender.wait_line("connected")?;
    Ok([sender, receiver])
}

/// Ends a stream: its receiver ends with it.
fn stop([sender, receiver]: [Run; 2]) -> Result<()> {
    sender.stop()?;
    receiver.end().map(drop)
}

/// A stream from each guest, to dom0 or to the next guest.
fn start(lab: &Lab, relayed: bool) -> Result<Vec<[Run; 2]>> {
    let mut flows = Vec::new();
    for (guest, next) in GUESTS.iter().zip(GUESTS.iter().cycle().skip(1)) {
        flows.push(flow(lab, guest, if relayed { next } else { "dom0" })?);
    }
    Ok(flows)
}

fn configure(lab: &Lab, args: &[&str]) -> Result<()> {
    let argv: Vec<_> = ["tunnel-mgr"].iter().chain(args).copied().collect();
    lab.tb.exec("dom0", &argv)?.check(&argv.join(" "))?;
    Ok(())
}

/// Gives the guests these weights, and sees what becomes of it.
fn weigh(lab: &Lab, weights: [u32; 4]) -> Result<Shares> {
    for (guest, weight) in GUESTS.iter().zip(weights) {
        configure(lab, &["set", guest, &format!("weight={weight}")])?;
    }
    watch(lab)
}

fn watch(lab: &Lab) -> Result<Shares> {
    watch_for(lab, WINDOW * if lab.times > 1 { 4.0 } else { 1.0 })
}

/// What the backend counts in so many seconds of the domain's own time.
fn watch_for(lab: &Lab, seconds: f64) -> Result<Shares> {
    let seen = look_twice(lab, seconds)?;
    let float = |values: Vec<u64>| values.into_iter().map(|value| value as f64).collect();
    let capped = seen.after["scheduler"]["rate"] != 0;
    Ok(Shares {
        seconds: seen.seconds,
        served: float(seen.grown(if capped {
            "flow_served_bytes"
        } else {
            "rx_bytes"
        })?),
        backlogs: seen.grown("flow_backlogs")?,
        backlogged: float(seen.grown("flow_backlogged_ns")?),
    })
}

/// All counters, before and after a while.
struct Looks {
    seconds: f64,
    before: Value,
    after: Value,
}

impl Looks {
    /// By how much a counter grew, guest by guest.
    fn grown(&self, name: &str) -> Result<Vec<u64>> {
        let counter = |stats: &Value, index: usize| {
            let value = stats["domains"][index]["counters"][name].as_u64();
            value.with_context(|| format!("no {name} of guest {index} in {stats}"))
        };
        (0..GUESTS.len())
            .map(|index| Ok(counter(&self.after, index)? - counter(&self.before, index)?))
            .collect()
    }
}

fn look_twice(lab: &Lab, seconds: f64) -> Result<Looks> {
    let look = "cat /proc/uptime; tunnel-mgr stats --json";
    let script = format!("sleep {SETTLE}; {look}; sleep {seconds}; {look}");
    let said = lab.tb.sh("dom0", &script)?.stdout_text();
    let mut lines = said.lines();
    let mut look = || -> Result<(f64, Value)> {
        let uptime = lines.next().and_then(|line| line.split(' ').next());
        let stats = lines.next().context("no counters")?;
        let uptime = uptime.context("no time")?.parse()?;
        Ok((uptime, serde_json::from_str(stats)?))
    };
    let (before, after) = (look()?, look()?);
    Ok(Looks {
        seconds: after.0 - before.0,
        before: before.1,
        after: after.1,
    })
}

impl Shares {
    /// Every guest had something to send all the time: the shares are the scheduler's doing.
    fn backlogged(&self) -> Result<()> {
        let whole = self
            .backlogged
            .iter()
            .all(|ns| ns / 1e9 > 0.97 * self.seconds);
        ensure!(
            whole && self.backlogs.iter().all(|count| *count == 0),
            "in {} s they were backlogged for {:?} ns, anew {:?} times",
            self.seconds,
            self.backlogged,
            self.backlogs
        );
        Ok(())
    }

    /// All together get what the total cap says.
    fn total(&self) -> Result<()> {
        let rate = self.served.iter().sum::<f64>() / self.seconds;
        ensure!(
            (rate / TOTAL as f64 - 1.0).abs() <= CAP,
            "all get {rate} bytes a second under a cap of {TOTAL}"
        );
        Ok(())
    }

    /// The guests' parts are as these.
    fn follow(&self, policy: &str, parts: [u32; 4]) -> Result<()> {
        let (whole, sum) = (self.served.iter().sum::<f64>(), parts.iter().sum::<u32>());
        let shares: Vec<_> = self.served.iter().map(|bytes| bytes / whole).collect();
        eprintln!("{policy}, {parts:?} wanted: {shares:.3?} of {whole} bytes");
        self.backlogged()?;
        self.total()?;
        for (share, part) in shares.iter().zip(parts) {
            let wanted = f64::from(part) / f64::from(sum);
            ensure!(
                (share - wanted).abs() <= SHARE * wanted.max(0.1),
                "shares are {shares:?} under {policy}, not as {parts:?}"
            );
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Data that flows, both ways, without end; and what does not stop it, or stops one stream only.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use testbed::product::module_of;

use crate::domains::other;
use crate::lab::{Guest, Lab};
use crate::run::{expect, expect_in, Run};
use crate::transfer::ways;

/// A stream that does not end by itself.
pub struct Stream {
    pub from: &'static str,
    pub to: &'static str,
    pub sender: Run,
    pub receiver: Run,
}

impl Stream {
    /// Starts it, and returns when data flows.
    pub fn start(lab: &Lab, from: &'static str, to: &'static str) -> Result<Stream> {
        let (port, seed) = (lab.port(), lab.seed.to_string());
        let receiver = lab.serve(to, &["recv", &port.to_string(), "--seed", &seed])?;
        let sender = lab.exercise(from, &["send", &lab.address(to, port)?, "--seed", &seed])?;
        let stream = Stream {
            from,
            to,
            sender,
            receiver,
        };
        stream.wait_progress().context("does not flow at all")?;
        Ok(stream)
    }

    /// Both ways with a guest.
    pub fn both_ways(lab: &Lab, guest: &Guest) -> Result<Vec<Stream>> {
        let ways = ways(guest).into_iter();
        ways.map(|(from, to)| Stream::start(lab, from, to))
            .collect()
    }

    /// Waits until the receiver got more.
    pub fn wait_progress(&self) -> Result<()> {
        self.receiver
            .wait_progress()
            .with_context(|| format!("{} to {}", self.from, self.to))
    }

    /// Ends it, and all that was sent before must have been right.
    pub fn finish(self) -> Result<()> {
        self.sender.stop()?;
        let report = self.receiver.report()?;
        expect(&report, "error", Value::Null)
    }

    /// Both ends that are not in the domain `lost` were told that the tunnel is gone.
    pub fn was_reset(self, lost: Option<&str>) -> Result<()> {
        for (domain, run) in [(self.from, self.sender), (self.to, self.receiver)] {
            if lost == Some(domain) {
                run.lost();
                continue;
            }
            let report = run.report()?;
            expect(&report, "error", "ECONNRESET")
                .and_then(|()| expect(&report, "again", "ENOTCONN"))
                .and_then(|()| expect_in(&report, "poll", "ERR"))
                .and_then(|()| expect_in(&report, "poll", "HUP"))
                .with_context(|| format!("{domain}, {} to {}", self.from, self.to))?;
        }
        Ok(())
    }
}

/// The receiver gets what was sent, then the end.
pub fn kill_sender(lab: &Lab, guest: &Guest) -> Result<()> {
    let streams = Stream::both_ways(lab, guest)?;
    for stream in streams {
        stream.finish()?;
    }
    Ok(())
}

/// The sender gets EPIPE, the stream the other way goes on.
pub fn kill_receiver(lab: &Lab, guest: &Guest) -> Result<()> {
    let mut streams = Stream::both_ways(lab, guest)?;
    while let Some(stream) = streams.pop() {
        stream.receiver.stop()?;
        let report = stream.sender.report()?;
        expect(&report, "error", "EPIPE")?;
        expect(&report, "again", "EPIPE")?;
        for other in &streams {
            other.wait_progress()?;
        }
    }
    Ok(())
}

/// rmmod gets EAGAIN, and nothing is disturbed.
pub fn module_in_use(lab: &Lab, guest: &Guest) -> Result<()> {
    let streams = Stream::both_ways(lab, guest)?;
    for domain in ["dom0", guest.name] {
        let output = lab.tb.exec(domain, &["rmmod", module_of(domain)])?;
        let said = output.stderr_text();
        ensure!(
            !output.success(),
            "rmmod of a module in use succeeds in {domain}"
        );
        ensure!(
            said.contains("Resource temporarily unavailable"),
            "{domain}: rmmod says {said}"
        );
    }
    for stream in &streams {
        stream.wait_progress()?;
    }
    for stream in streams {
        stream.finish()?;
    }
    Ok(())
}

/// A paused guest makes an established channel wait, and a connect time out; to the other guest
/// data goes on.
pub fn pause(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    let streams = Stream::both_ways(lab, guest)?;
    let others = [
        Stream::start(lab, "dom0", there)?,
        Stream::start(lab, there, "dom0")?,
    ];
    let address = lab.address(guest.name, lab.port())?;
    lab.tb.xl(&["pause", guest.name])?;
    let paused = paused(lab, &address, &streams).and_then(|()| {
        let mut others = others.iter();
        others.try_for_each(|stream| stream.wait_progress().context("the other guest's"))
    });
    lab.tb.xl(&["unpause", guest.name])?;
    paused?;
    for stream in &streams {
        stream.wait_progress().context("after unpause")?;
    }
    for stream in streams.into_iter().chain(others) {
        stream.finish()?;
    }
    Ok(())
}

fn paused(lab: &Lab, address: &str, streams: &[Stream]) -> Result<()> {
    for more in [&[][..], &["--nonblock"]] {
        let args = ["connect", address, "--timeout-ms", "500"];
        let args: Vec<_> = args.iter().chain(more).copied().collect();
        expect(&lab.ask("dom0", &args)?, "error", "ETIMEDOUT")?;
    }
    // What dom0 had in hand is through; then everything waits, and nobody gets an error.
    for stream in streams {
        let in_dom0 = if stream.from == "dom0" {
            &stream.sender
        } else {
            &stream.receiver
        };
        while !in_dom0.stands_still(Duration::from_millis(500)) {}
        ensure!(
            in_dom0.is_running(),
            "{} to {} ended",
            stream.from,
            stream.to
        );
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! Hosts with many domains, and with many that were.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Result};

use super::{back, front};
use crate::bed::{done, until, Bed, Watch};
use crate::proxy::Proxy;
use idts_host::guest::Flood;

/// Domains that get a setting each and go, as those of a CI's runners: what is
/// put away for them is bounded, and nothing else ever fails for it.
pub fn come_and_go() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    for number in 0..150_u16 {
        let id = 10 + number;
        bed.dom0.nodes(id, None)?;
        bed.dom0
            .write(&format!("/local/domain/{id}/name"), format!("job{number}"))?;
        done(&["set", &id.to_string(), "connect=none"])?;
        bed.dom0.destroy(id);
    }
    for command in [
        &["attach", "u3", "--wait", "0"][..],
        &["list", "--sweep"],
        &["set", "u3", "weight=2"],
        &["detach", "u3"],
    ] {
        done(command)?;
    }
    let away = bed.dom0.count("/local/domain/0/idts/away")?;
    ensure!((112..=1024).contains(&away), "{away} are away");
    Ok(())
}

/// A thousand domains at a time, by ids of five digits.
pub fn a_thousand() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in 10_000..11_000 {
        bed.dom0.nodes(id, None)?;
        bed.dom0
            .write(&format!("/local/domain/{id}/name"), format!("g{id}"))?;
    }
    done(&["attach", "g10999", "--wait", "0"])?;
    let mut watch = Watch::start(&["--attach", "all"])?;
    until("all have a tunnel", || {
        ensure!(watch.is_alive()?, "watch ended: {:?}", watch.said);
        Ok((bed.dom0.count("/local/domain/0/backend/idts")? == 1000).then_some(()))
    })?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&done(&["list", "--json"])?)?;
    ensure!(rows.len() == 1000 && rows[7]["name"] == "g10007");
    // One more comes, and one goes.
    bed.dom0.domain(3, "u3")?;
    bed.dom0.destroy(10_500);
    until("one has come and one has gone", || {
        let came = bed.dom0.read(&front(3)).is_some();
        Ok((came && bed.dom0.read(&back(10_500)).is_none()).then_some(()))
    })?;
    done(&["detach", "g10999"])?;
    Ok(())
}

/// What `watch` has cost: nanoseconds of a CPU, requests, and how often it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    nanoseconds: u64,
    requests: u64,
    runs: u64,
}

impl Cost {
    fn now(watch: &Watch, proxy: &Proxy) -> Result<Self> {
        let path = format!("/proc/{}/schedstat", watch.id());
        let text = std::fs::read_to_string(path)?;
        let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
        ensure!(numbers.len() == 3, "{text}");
        Ok(Self {
            nanoseconds: numbers[0],
            requests: proxy.requests(),
            runs: numbers[2],
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds - before.nanoseconds,
            requests: self.requests - before.requests,
            runs: self.runs - before.runs,
        }
    }
}

/// A thousand that are idle cost nothing at all, one that keeps writing little, however many
/// others there are. The figures are in tests/README.md.
pub fn one_noisy_among_a_thousand() -> Result<()> {
    const WRITES: u64 = 20_000;
    let mut bed = Bed::new()?;
    for id in 10_000..11_000 {
        bed.dom0.nodes(id, None)?;
        bed.dom0
            .write(&format!("/local/domain/{id}/name"), format!("g{id}"))?;
    }
    bed.dom0.domain(3, "u3")?;
    let proxy = Proxy::start()?;
    let watch = Watch::start(&["--attach", "all"])?;
    until("all have a tunnel", || {
        Ok((bed.dom0.count("/local/domain/0/backend/idts")? == 1001).then_some(()))
    })?;
    eprintln!("1,001 tunnels: {:?}", Cost::now(&watch, &proxy)?);
    let quiet = || -> Result<Cost> {
        let mut before = Cost::now(&watch, &proxy)?;
        until("it is not run for a second", || {
            sleep(Duration::from_secs(1));
            let now = Cost::now(&watch, &proxy)?;
            Ok((std::mem::replace(&mut before, now) == now).then_some(now))
        })
    };
    let idle = quiet()?;
    let flood = Flood::start(3, &[("data/idts", b"x"), ("device/idts/0/state", b"3")])?;
    until("it has written", || {
        Ok((flood.answered() > WRITES).then_some(()))
    })?;
    let answered = flood.answered();
    drop(flood);
    let cost = quiet()?.since(idle);
    eprintln!("{answered} writes of one: {cost:?}");
    // A look at everybody is thousands.
    ensure!(cost.requests < 1000, "one costs {cost:?}");
    Ok(())
}

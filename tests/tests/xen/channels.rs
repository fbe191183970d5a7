// SPDX-License-Identifier: GPL-2.0
//! Many channels in one tunnel, and the data region that grows and shrinks with them.

use anyhow::{ensure, Result};

use crate::lab::{Guest, Lab, FIRST_PAGES};
use crate::run::expect;
use crate::transfer::ways;

const SIXTEEN: u64 = 16;

/// Sixteen at once, data both ways on all of them, opened from either side.
pub fn sixteen(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let bytes = (1 << 20) * lab.times;
        let (port, seed) = (lab.port(), lab.seed.to_string());
        let size = bytes.to_string();
        let (port_text, count) = (port.to_string(), SIXTEEN.to_string());
        let tail = ["--channels", &count, "--bytes", &size, "--seed", &seed];
        let serve: Vec<_> = ["many-serve", &port_text].into_iter().chain(tail).collect();
        let serving = lab.serve(server, &serve)?;
        let address = lab.address(server, port)?;
        let ask: Vec<_> = ["many", &address].into_iter().chain(tail).collect();
        for report in [lab.ask(client, &ask)?, serving.report()?] {
            expect(&report, "channels", SIXTEEN)?;
            expect(&report, "moved", SIXTEEN * bytes)?;
        }
    }
    Ok(())
}

/// Two rings of 4 MiB: no idle region has room for them.
const RING: u64 = 4 << 20;
const BIG_PAGES: u64 = 2 * RING / 4096;

/// Large rings need pages, and give them back.
pub fn region(lab: &Lab, guest: &Guest) -> Result<()> {
    wait_idle(lab, guest)?;
    for (client, server) in ways(guest) {
        let port = lab.port();
        let mut listener = lab.serve(server, &["listen", &port.to_string(), "--hold"])?;
        let address = lab.address(server, port)?;
        let ring = RING.to_string();
        let args = ["connect", &address, "--ring", &ring, "--hold", "1"];
        let mut holder = lab.exercise(client, &args)?;
        let held = holder.wait_line("holding")?;
        ensure!(held == "holding 1", "{client}: {held}");
        for (domain, peer) in ways(guest) {
            let pages = lab.counter(domain, peer, "region_pages")?;
            ensure!(
                pages >= BIG_PAGES,
                "{domain}: two rings of 4 MiB in {pages} pages"
            );
        }
        for run in [&mut holder, &mut listener] {
            run.tell("enough")?;
        }
        expect(&holder.report()?, "channels", 1)?;
        expect(&listener.report()?, "queued", 1)?;
        wait_idle(lab, guest)?;
    }
    Ok(())
}

/// Rings without end are refused with ENOSPC, which is counted, and harms nobody.
pub fn limits(lab: &Lab, guest: &Guest) -> Result<()> {
    let (client, server) = (guest.name, "dom0");
    let port = lab.port();
    let mut listener = lab.serve(
        server,
        &["listen", &port.to_string(), "--hold", "--backlog", "128"],
    )?;
    let address = lab.address(server, port)?;
    let ring = RING.to_string();
    let before = lab.counter(client, server, "no_space")?;
    let mut holder = lab.exercise(
        client,
        &["connect", &address, "--ring", &ring, "--hold", "64"],
    )?;
    holder.wait_line("holding")?;
    let after = lab.counter(client, server, "no_space")?;
    for run in [&mut holder, &mut listener] {
        run.tell("enough")?;
    }
    expect(&holder.report()?, "error", "ENOSPC")?;
    listener.report()?;
    ensure!(after > before, "no_space was {before} and is {after}");
    wait_idle(lab, guest)
}

/// Waits until what nobody uses was given back.
pub fn wait_idle(lab: &Lab, guest: &Guest) -> Result<()> {
    lab.wait_gauge(guest.name, "region_pages", |pages| pages == FIRST_PAGES)
}

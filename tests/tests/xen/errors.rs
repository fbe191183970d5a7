// SPDX-License-Identifier: GPL-2.0
//! Each call that must fail, and its errno.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::{Guest, Lab};
use crate::run::{expect, expect_in, Run};
use crate::transfer::ways;

/// An id that no domain of the testbed gets.
const NOBODY: &str = "4000:7";

pub fn connect(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let silent = lab.address(server, lab.port())?;
        for more in [&[][..], &["--nonblock"]] {
            let args: Vec<_> = ["connect", &silent].iter().chain(more).copied().collect();
            let report = lab.ask(client, &args)?;
            expect(&report, "error", "ECONNREFUSED").with_context(|| format!("{args:?}"))?;
            if !more.is_empty() {
                // The error is told once.
                expect(&report, "again", Value::Null)?;
                expect_in(&report, "poll", "ERR")?;
            }
        }
        let port = lab.port();
        let mut listener = lab.serve(server, &["listen", &port.to_string(), "--hold"])?;
        let address = lab.address(server, port)?;
        let report = lab.ask(client, &["connect", &address, "--nonblock"])?;
        expect(&report, "error", Value::Null)?;
        expect_in(&report, "poll", "OUT")?;
        let odd = lab.ask(client, &["connect", &address, "--ring", "5000"])?;
        expect(&odd, "error", "EINVAL")?;
        listener.tell("enough")?;
        listener.report()?;
    }
    let unknown = |domain: &str| lab.ask(domain, &["connect", NOBODY]);
    expect(&unknown("dom0")?, "error", "EHOSTUNREACH")?;
    // A guest cannot tell a domain that it may not reach from one that is not there.
    expect(&unknown(guest.name)?, "error", "EACCES")?;
    let other = lab.address(if guest.name == "u1" { "u2" } else { "u1" }, 7)?;
    expect(
        &lab.ask(guest.name, &["connect", &other])?,
        "error",
        "EACCES",
    )
}

pub fn listen(lab: &Lab, guest: &Guest) -> Result<()> {
    for domain in ["dom0", guest.name] {
        let port = lab.port().to_string();
        let mut first = lab.serve(domain, &["listen", &port, "--hold"])?;
        expect(&lab.ask(domain, &["listen", &port])?, "error", "EADDRINUSE")?;
        first.tell("enough")?;
        first.report()?;
        // It is free again once it was closed.
        expect(&lab.ask(domain, &["listen", &port])?, "error", Value::Null)?;
        expect(&lab.ask(domain, &["listen", "1023"])?, "error", Value::Null)?;
        let refused = lab.ask(domain, &["listen", "1023", "--unprivileged"])?;
        expect(&refused, "error", "EACCES")?;
        let allowed = lab.ask(domain, &["listen", "1024", "--unprivileged"])?;
        expect(&allowed, "error", Value::Null)?;
    }
    Ok(())
}

/// More connections than may wait: refused, and counted.
pub fn backlog(lab: &Lab, guest: &Guest) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port();
        let listen = ["listen", &port.to_string(), "--hold", "--backlog", "3"];
        let mut listener = lab.serve(server, &listen)?;
        let address = lab.address(server, port)?;
        let mut holder = lab.exercise(client, &["connect", &address, "--hold", "10"])?;
        holder.wait_line("holding")?;
        listener.tell("enough")?;
        let report = listener.report()?;
        expect(&report, "queued", 3)?;
        expect(&report, "refused", 1)?;
        holder.tell("enough")?;
        let report = holder.report()?;
        expect(&report, "channels", 3)?;
        expect(&report, "error", "ECONNREFUSED")?;
    }
    Ok(())
}

/// Without a tunnel nobody is reached; listeners outlive it.
pub fn no_tunnel(lab: &Lab, guest: &Guest) -> Result<()> {
    let port = lab.port();
    let mut listener = lab.serve(guest.name, &["listen", &port.to_string(), "--hold"])?;
    let address = lab.address(guest.name, port)?;
    lab.tb.detach_tunnel(guest.name)?;
    let own = lab.ask(guest.name, &["connect", "0:7"])?;
    let theirs = lab.ask("dom0", &["connect", &address])?;
    lab.tb.attach_tunnel(guest.name)?;
    expect(&own, "error", "ENETDOWN")?;
    expect(&theirs, "error", "EHOSTUNREACH")?;
    let report = lab.ask("dom0", &["connect", &address])?;
    expect(&report, "error", Value::Null).context("a listener from before")?;
    listener.tell("enough")?;
    listener.report().map(drop)
}

/// A connect that is under way when its tunnel goes is told so, and does not wait for its time.
pub fn connect_loses_tunnel(lab: &Lab, guest: &Guest) -> Result<()> {
    let other = if guest.name == "u1" { "u2" } else { "u1" };
    let far = ["connect", "--nonblock", "--timeout-ms", "3000000"];
    let begin = |domain: &str, to: &str| -> Result<Run> {
        let args: Vec<_> = far.iter().chain(&[to]).copied().collect();
        let run = lab.exercise(domain, &args)?;
        run.wait_line("connecting")?;
        Ok(run)
    };
    let check = |run: Run| -> Result<()> {
        let report = run.report()?;
        expect(&report, "error", "ECONNRESET")?;
        expect_in(&report, "poll", "ERR")
    };
    let allow = |value: &str| -> Result<()> {
        let setting = format!("connect={value}");
        let set = ["tunnel-mgr", "set", guest.name, &setting];
        lab.tb.exec("dom0", &set)?.check("set").map(drop)
    };
    // A paused domain answers nobody.
    let paused = lab.address(other, lab.port())?;
    lab.tb.xl(&["pause", other])?;
    allow("all")?;
    let relayed = begin(guest.name, &paused)?;
    let own = begin("dom0", &paused)?;
    lab.tb.detach_tunnel(guest.name)?;
    check(relayed).context("the guest's, relayed")?;
    // Nor does it close its side.
    let force = ["tunnel-mgr", "detach", other, "--force"];
    lab.tb.exec("dom0", &force)?.check("detach")?;
    check(own).context("dom0's")?;
    lab.tb.xl(&["unpause", other])?;
    allow("")?;
    for name in [other, guest.name] {
        lab.tb.attach_tunnel(name)?;
    }
    Ok(())
}

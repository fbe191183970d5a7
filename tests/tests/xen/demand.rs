// SPDX-License-Identifier: GPL-2.0
//! Tunnels that come when somebody wants them, and go when nobody does: `tunnel-mgr watch`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use testbed::running::HANG;

use crate::lab::{Guest, Lab};
use crate::run::{expect, Run};
use crate::transfer::{move_bytes, ways};

/// How often xenstore is looked at.
const LOOK: Duration = Duration::from_millis(200);

fn watch(lab: &Lab, options: &[&str]) -> Result<Run> {
    let argv: Vec<_> = ["tunnel-mgr", "watch"]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let run = lab.start("dom0", &argv)?;
    run.wait_line("tunnel-mgr: watching")?;
    Ok(run)
}

/// Takes every channel, until it is killed: one that waits to be taken is in use.
fn serve(lab: &Lab, domain: &str) -> Result<(u32, Run)> {
    let port = lab.port();
    let run = lab.start(domain, &["idts", "echo", &port.to_string()])?;
    run.wait_line("listening on")?;
    Ok((port, run))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > HANG {
            bail!("it never comes that {what}");
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn has_tunnel(lab: &Lab, name: &str) -> Result<bool> {
    Ok(lab
        .tb
        .tunnels()?
        .iter()
        .any(|tunnel| tunnel["name"] == name))
}

fn wait_gone(lab: &Lab, guest: &Guest) -> Result<()> {
    wait_until("the idle tunnel goes", || Ok(!has_tunnel(lab, guest.name)?))
}

/// What the guest says of its wish.
fn wish(lab: &Lab, guest: &Guest) -> Result<String> {
    let path = format!("/local/domain/{}/data/idts", lab.id(guest.name)?);
    let read = lab.tb.exec("dom0", &["xenstore-read", &path])?;
    Ok(read.stdout_text().trim().into())
}

/// A tunnel that nobody uses goes. It comes back for a connect, which waits for it, and for a
/// listener, for whom it stays; but not where dom0 does not hear the guest.
pub fn idle(lab: &Lab, guest: &Guest) -> Result<()> {
    let watcher = watch(lab, &["--attach", guest.name, "--idle", "1"])?;
    wait_gone(lab, guest)?;

    let (port, server) = serve(lab, "dom0")?;
    let own = format!("0:{port}");
    for more in [&[][..], &["--nonblock"]] {
        wait_gone(lab, guest)?;
        let args: Vec<_> = ["connect", &own].iter().chain(more).copied().collect();
        let report = lab.ask(guest.name, &args)?;
        expect(&report, "error", Value::Null).with_context(|| format!("{args:?}"))?;
    }
    server.stop()?;
    wait_gone(lab, guest)?;

    let (port, server) = serve(lab, guest.name)?;
    lab.tb.wait_connected(guest.name)?;
    wait_until("the guest keeps its tunnel", || {
        Ok(wish(lab, guest)? == "keep")
    })?;
    let address = lab.address(guest.name, port)?;
    let report = lab.ask("dom0", &["connect", &address])?;
    expect(&report, "error", Value::Null).context("a listener without a tunnel")?;
    server.stop()?;
    wait_gone(lab, guest)?;
    let last = wish(lab, guest)?;
    ensure!(last.is_empty(), "it still wishes {last}");
    watcher.stop()?;

    let deaf = watch(lab, &["--attach", "nobody", "--idle", "1"])?;
    let on_demand = format!("/local/domain/{}/control/idts", lab.id(guest.name)?);
    wait_until("the guest learns that it is not heard", || {
        Ok(!lab
            .tb
            .exec("dom0", &["xenstore-read", &on_demand])?
            .success())
    })?;
    let report = lab.ask(guest.name, &["connect", "0:7"])?;
    expect(&report, "error", "ENETDOWN").context("unheard")?;
    deaf.stop()?;
    lab.tb.attach_tunnel(guest.name)
}

/// However often and whenever `watch` is killed, a guest that comes gets its tunnel, and one that
/// goes leaves nothing.
pub fn killed(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    // Made and ended once, so that its configuration is in dom0.
    lab.tb.create(&lab.new_guest(guest))?;
    lab.tb.destroy(guest.name)?;
    let config = format!("/etc/xen/{}.cfg", guest.name);
    for round in 0..3 * lab.times {
        let first = lab.start("dom0", &["tunnel-mgr", "watch", "--attach", guest.name])?;
        // At another point each time, from before its first look on.
        thread::sleep(Duration::from_millis(
            lab.seed.wrapping_mul(37 * (round + 1)) % 400,
        ));
        lab.tb.xl(&["create", "-q", "-p", &config])?;
        first.stop()?;
        let second = watch(lab, &["--attach", guest.name])?;
        wait_until("a new guest gets its tunnel", || {
            has_tunnel(lab, guest.name)
        })?;
        second.stop()?;
        let third = lab.start("dom0", &["tunnel-mgr", "watch", "--attach", guest.name])?;
        lab.tb.destroy(guest.name)?;
        third.stop()?;
        let fourth = watch(lab, &[])?;
        wait_until("what it left goes", || {
            let list = lab.tb.tunnels()?;
            Ok(list
                .iter()
                .all(|t| t["leftover"].is_null() && t["name"] != guest.name))
        })?;
        fourth.stop()?;
    }
    lab.tb.wait_tables(&before)?;
    lab.make_guest(guest)?;
    for (from, to) in ways(guest) {
        move_bytes(lab, from, to, 4097)?;
    }
    lab.drop_guest(guest)?;
    lab.tb.wait_tables(&before)
}

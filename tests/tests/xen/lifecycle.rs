// SPDX-License-Identifier: GPL-2.0
//! Modules that come and go, in every order, around tunnels that do.

use anyhow::{ensure, Context, Result};

use crate::lab::{Guest, Lab, GUESTS};
use crate::transfer::{move_bytes, ways};

fn transfers(lab: &Lab, guest: &Guest, when: &str) -> Result<()> {
    for (from, to) in ways(guest) {
        move_bytes(lab, from, to, 10_000).with_context(|| format!("{when}: {from} to {to}"))?;
    }
    Ok(())
}

/// Attached with neither module there; back first; front first; attached last.
pub fn module_orders(lab: &Lab, guest: &Guest) -> Result<()> {
    let attach = || {
        lab.tb
            .exec("dom0", &["tunnel-mgr", "attach", guest.name, "--wait", "0"])?
            .check("attach")
    };
    let others = GUESTS.iter().filter(|name| **name != guest.name);
    let connected = |when: &str| -> Result<()> {
        lab.tb
            .wait_connected(guest.name)
            .with_context(|| when.to_string())?;
        transfers(lab, guest, when)
    };

    lab.tb.detach_tunnel(guest.name)?;
    lab.rmmod(guest.name)?;
    lab.rmmod("dom0")?;
    attach()?;
    lab.insmod("dom0")?;
    lab.insmod(guest.name)?;
    connected("attach, back, front")?;

    lab.rmmod(guest.name)?;
    lab.rmmod("dom0")?;
    lab.insmod(guest.name)?;
    lab.insmod("dom0")?;
    connected("front, back")?;

    lab.tb.detach_tunnel(guest.name)?;
    lab.rmmod("dom0")?;
    lab.rmmod(guest.name)?;
    lab.insmod(guest.name)?;
    attach()?;
    lab.insmod("dom0")?;
    connected("front, attach, back")?;

    for other in others {
        lab.tb.wait_connected(other)?;
    }
    Ok(())
}

/// The frontend's module alone goes and comes back.
pub fn front_reloaded(lab: &Lab, guest: &Guest) -> Result<()> {
    for _ in 0..3 * lab.times {
        lab.rmmod(guest.name)?;
        lab.insmod(guest.name)?;
        lab.tb.wait_connected(guest.name)?;
        transfers(lab, guest, "after the front's reload")?;
    }
    Ok(())
}

/// The backend's module alone goes and comes back: every tunnel does.
pub fn back_reloaded(lab: &Lab, guest: &Guest) -> Result<()> {
    for _ in 0..3 * lab.times {
        lab.rmmod("dom0")?;
        lab.insmod("dom0")?;
        for name in GUESTS {
            lab.tb.wait_connected(name)?;
        }
        transfers(lab, guest, "after the back's reload")?;
    }
    Ok(())
}

/// The tunnel is there before the guest's kernel is.
pub fn attach_before_boot(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    // Made and ended once, so that its configuration is in dom0.
    lab.tb.create(&lab.new_guest(guest))?;
    lab.tb.destroy(guest.name)?;
    let config = format!("/etc/xen/{}.cfg", guest.name);
    lab.tb.xl(&["create", "-q", "-p", &config])?;
    let attach = ["tunnel-mgr", "attach", guest.name, "--wait", "0"];
    lab.tb.exec("dom0", &attach)?.check("attach")?;
    lab.tb.xl(&["unpause", guest.name])?;
    lab.tb.wait_answers(guest.name)?;
    let list = lab.tb.tunnels()?;
    let tunnel = list.iter().find(|tunnel| tunnel["name"] == guest.name);
    let tunnel = tunnel.context("there is no tunnel")?;
    ensure!(
        tunnel["front"] == "Initialising",
        "without a frontend: {tunnel}"
    );
    lab.equip(guest.name)?;
    lab.insmod(guest.name)?;
    lab.tb.wait_connected(guest.name)?;
    transfers(lab, guest, "after boot")?;
    lab.drop_guest(guest)?;
    lab.tb.wait_tables(&before)
}

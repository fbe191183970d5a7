// SPDX-License-Identifier: GPL-2.0
//! The tunnel goes away while data flows: everybody learns it promptly, and it comes back.

use anyhow::{ensure, Context, Result};

use crate::flow::Stream;
use crate::lab::{Guest, Lab};
use crate::transfer::move_bytes;

fn all_reset(streams: Vec<Stream>, lost: Option<&str>) -> Result<()> {
    streams
        .into_iter()
        .try_for_each(|stream| stream.was_reset(lost))
}

pub fn detach(lab: &Lab, guest: &Guest) -> Result<()> {
    for _ in 0..lab.times {
        let streams = Stream::both_ways(lab, guest)?;
        lab.tb.detach_tunnel(guest.name)?;
        all_reset(streams, None)?;
        let list = lab.tb.tunnels()?;
        ensure!(
            list.iter().all(|tunnel| tunnel["name"] != guest.name),
            "still there: {list:?}"
        );
        lab.tb.attach_tunnel(guest.name)?;
    }
    Ok(())
}

pub fn unbind_front(lab: &Lab, guest: &Guest) -> Result<()> {
    (0..lab.times).try_for_each(|_| unbind(lab, guest, guest.name))
}

pub fn unbind_back(lab: &Lab, guest: &Guest) -> Result<()> {
    (0..lab.times).try_for_each(|_| unbind(lab, guest, "dom0"))
}

/// Unbinds one end's driver, then unloads and loads its module; then unbinds and binds it.
fn unbind(lab: &Lab, guest: &Guest, domain: &str) -> Result<()> {
    let streams = Stream::both_ways(lab, guest)?;
    lab.sysfs("unbind", domain, guest.name)?;
    all_reset(streams, None)?;
    lab.rmmod(domain).context("nobody uses it any more")?;
    lab.insmod(domain)?;
    for name in crate::lab::GUESTS {
        lab.tb.wait_connected(name)?;
    }
    let streams = Stream::both_ways(lab, guest)?;
    lab.sysfs("unbind", domain, guest.name)?;
    all_reset(streams, None)?;
    lab.sysfs("bind", domain, guest.name)?;
    lab.tb.wait_connected(guest.name)
}

/// The guest's plug is pulled.
pub fn destroy(lab: &Lab, guest: &Guest) -> Result<()> {
    for _ in 0..lab.times {
        let before = lab.tb.tables()?;
        lab.make_guest(guest)?;
        move_bytes(lab, "dom0", guest.name, 4097)?;
        let streams = Stream::both_ways(lab, guest)?;
        lab.tb.destroy(guest.name)?;
        all_reset(streams, Some(guest.name))?;
        lab.sweep(guest)?;
        lab.tb.wait_tables(&before)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! Disks and network interfaces beside IDTS: they need grants, event channels, xenstore and the one
//! xenwatch thread too. A guest at its limits and one that is stuck must leave them all of that.

use anyhow::{ensure, Context, Result};

use crate::lab::{Guest, Lab};
use crate::run::{expect, Run};

/// The guest that takes all it can get, and the one that is stuck.
const GREEDY: &str = "u1";
const STUCK: &str = "u2";
/// dom0 on the bridge.
const DOM0: &str = "10.99.0.1";
const ADDRESS: u32 = 77;

/// Opens channels to dom0 until no more are had, or so many; and who listens for them.
fn hold(lab: &Lab, guest: &str, ring: &str, count: &str) -> Result<[Run; 2]> {
    let port = lab.port();
    let listen = ["listen", &port.to_string(), "--hold", "--backlog", "128"];
    let listener = lab.serve("dom0", &listen)?;
    let address = lab.address("dom0", port)?;
    let args = ["connect", &address, "--ring", ring, "--hold", count];
    let holder = lab.exercise(guest, &args)?;
    holder.wait_line("holding")?;
    Ok([holder, listener])
}

/// With one guest at its limits and another that is paused, holds channels and flaps its state: a
/// domain with a disk and a network interface is created, gets another interface, is destroyed.
pub fn disk_and_vif(lab: &Lab, guest: &Guest) -> Result<()> {
    let before = lab.tb.tables()?;
    lab.tb.make_bridge()?;
    let greedy = hold(lab, GREEDY, "4194304", "64")?;
    let stuck = hold(lab, STUCK, "4096", "100")?;
    let state = format!("/local/domain/{}/device/idts/0/state", lab.id(STUCK)?);
    lab.tb.xl(&["pause", STUCK])?;
    let flap = format!("while :; do for s in 3 4 5 6 1; do xenstore-write {state} $s; done; done");
    let flapping = lab.start("dom0", &["sh", "-c", &flap])?;
    let result = create_and_destroy(lab, guest);
    ensure!(flapping.is_running(), "nothing flapped");
    flapping.kill()?;
    lab.tb.xl(&["unpause", STUCK])?;
    result?;
    for (runs, channels) in [(greedy, None), (stuck, Some(100))] {
        let [mut holder, mut listener] = runs;
        holder.tell("enough")?;
        listener.tell("enough")?;
        let report = holder.report()?;
        match channels {
            Some(count) => expect(&report, "channels", count)?,
            None => expect(&report, "error", "ENOSPC")?,
        }
        listener.report()?;
    }
    // Its state is not what its driver wrote.
    lab.tb.detach_tunnel(STUCK)?;
    lab.tb.attach_tunnel(STUCK)?;
    lab.tb
        .sh("dom0", "ip link set xenbr0 down; brctl delbr xenbr0")?;
    lab.tb.wait_tables(&before)
}

fn create_and_destroy(lab: &Lab, guest: &Guest) -> Result<()> {
    let make = "dd if=/dev/urandom of=/tmp/disk bs=1M count=4 2>/dev/null; modprobe loop; \
                modprobe xen-blkback; losetup -f /tmp/disk; losetup -a | sed -n 's/:.*//p'";
    let disk = lab.tb.sh("dom0", make)?.stdout_text().trim().to_string();
    let mut config = lab.new_guest(guest);
    config.address = Some(ADDRESS);
    config.disk = Some(disk.clone());
    lab.tb.create(&config).context("creating it")?;
    lab.tb.wait_answers(guest.name)?;
    same_disk(lab, guest)?;
    network(lab, guest, "eth0", ADDRESS)?;
    lab.tb
        .xl(&["network-attach", guest.name, "bridge=xenbr0"])?;
    network(lab, guest, "eth1", ADDRESS + 1)?;
    lab.tb.destroy(guest.name)?;
    let list = lab.tb.xl(&["list"])?.stdout_text();
    ensure!(
        !list.contains(guest.name) && !list.contains("(null)"),
        "it is still there: {list}"
    );
    let end = format!("losetup -d {disk}; rm -f /tmp/disk");
    lab.tb.sh("dom0", &end).map(drop)
}

/// The guest reads what dom0 wrote, and the other way round.
fn same_disk(lab: &Lab, guest: &Guest) -> Result<()> {
    let read = "modprobe xen-blkfront; until [ -b /dev/xvda ]; do sleep 1; done; md5sum </dev/xvda";
    let there = lab.tb.sh(guest.name, read)?.stdout_text();
    let here = lab.tb.sh("dom0", "md5sum </tmp/disk")?.stdout_text();
    ensure!(there == here, "its disk is {there}, the file {here}");
    let write = "dd if=/dev/urandom of=/dev/xvda bs=64k count=3 2>/dev/null; sync; \
                 dd if=/dev/xvda bs=64k count=3 2>/dev/null | md5sum";
    let there = lab.tb.sh(guest.name, write)?.stdout_text();
    let read = "dd if=/tmp/disk bs=64k count=3 2>/dev/null | md5sum";
    let here = lab.tb.sh("dom0", &format!("sync; {read}"))?.stdout_text();
    ensure!(there == here, "it wrote {there}, the file has {here}");
    Ok(())
}

/// One of its interfaces reaches dom0.
fn network(lab: &Lab, guest: &Guest, interface: &str, address: u32) -> Result<()> {
    let script = format!(
        "modprobe xen-netfront; until [ -e /sys/class/net/{interface} ]; do sleep 1; done; \
         ip addr flush dev eth0; ip addr add 10.99.0.{address}/24 dev {interface} && \
         ip link set {interface} up && ping -c 3 -w 100 {DOM0}"
    );
    lab.tb.sh(guest.name, &script).map(drop)
}

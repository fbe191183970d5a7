// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr watch`, which serves for months.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::Signal;

use super::front;
use crate::bed::{done, program, until, Bed, Watch};
use crate::proxy::Proxy;
use idts_host::guest::{Flood, Guest};

fn has_tunnel(bed: &mut Bed, id: u16) -> bool {
    bed.dom0.read(&front(id)).is_some()
}

/// Waits until a domain has a tunnel, or has none.
fn until_attached(bed: &mut Bed, id: u16, wanted: bool) -> Result<()> {
    until(&format!("domain {id} attached: {wanted}"), || {
        Ok((has_tunnel(bed, id) == wanted).then_some(()))
    })
}

/// A guest that keeps writing costs a look now and then, at itself; one that nobody
/// would attach costs nothing.
pub fn one_guest_costs_little() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in 1..=100 {
        bed.dom0.nodes(id, None)?;
        bed.dom0
            .write(&format!("/local/domain/{id}/name"), format!("u{id}"))?;
    }
    for id in [101, 102] {
        bed.dom0.domain(id, format!("u{id}"))?;
    }
    let proxy = Proxy::start()?;
    let names: Vec<_> = (1..=101).map(|id| format!("u{id}")).collect();
    let mut watch = Watch::start(&["--attach", &names.join(",")])?;
    until_attached(&mut bed, 101, true)?;
    for id in [101, 102] {
        let before = proxy.requests();
        let flood = Flood::start(id, &[("data/idts", b"\xff"), ("data/idts/x", b"y")])?;
        until("it has written", || {
            Ok((flood.answered() > 20_000).then_some(()))
        })?;
        drop(flood);
        // A look at everybody is a thousand.
        let requests = proxy.requests() - before;
        ensure!(requests < 500, "domain {id} costs {requests} requests");
    }
    // And nobody else waits for it.
    let _flood = Flood::start(101, &[("data/idts", b"x")])?;
    bed.dom0.domain(3, "u3")?;
    bed.dom0.destroy(50);
    until_attached(&mut bed, 50, false)?;
    ensure!(watch.is_alive()?);
    ensure!(watch.listen().len() < 200, "{:?}", watch.said);
    Ok(())
}

/// By hand it stays so over a restart; by a new domain of the name, or the guest's
/// asking, it ends.
pub fn what_was_detached_stays_so() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    drop({
        let watch = Watch::start(&["--attach", "u3,u5"])?;
        until_attached(&mut bed, 3, true)?;
        done(&["detach", "u3"])?;
        watch
    });
    let mut watch = Watch::start(&["--attach", "u3,u5"])?;
    bed.dom0.domain(5, "u5")?;
    until_attached(&mut bed, 5, true)?;
    ensure!(!has_tunnel(&mut bed, 3), "{:?}", watch.listen());
    ensure!(Guest::open(3)?.write("data/idts", b"attach")?);
    until_attached(&mut bed, 3, true)?;
    done(&["detach", "u3"])?;
    bed.dom0.destroy(3);
    bed.dom0.domain(6, "u3")?;
    until_attached(&mut bed, 6, true)?;
    drop(watch);
    // What attach brings back is brought back.
    done(&["detach", "6"])?;
    done(&["attach", "6", "--wait", "0"])?;
    let mark = bed.dom0.read("/local/domain/0/idts/domain/6/detached");
    ensure!(mark.is_none(), "{mark:?}");
    Ok(())
}

/// A device that the kernel does not let go of is its own domain's trouble.
pub fn nobody_waits_for_a_neighbour() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
        done(&["attach", &id.to_string(), "--wait", "0"])?;
    }
    let device = "bus/xen-backend/devices/idts-4-0";
    bed.sys(device, "")?;
    ensure!(Guest::open(4)?.remove("device/idts/0")?);
    done(&["detach", "u3"])?;
    done(&["attach", "u3", "--wait", "0"])?;
    done(&["set", "u3", "weight=2"])?;
    done(&["list", "--sweep"])?;
    let mut watch = Watch::start(&["--attach", "all"])?;
    bed.dom0.domain(5, "u5")?;
    until_attached(&mut bed, 5, true)?;
    ensure!(!has_tunnel(&mut bed, 4), "{:?}", watch.listen());
    // Asked for, it comes once the device has gone.
    ensure!(Guest::open(4)?.write("data/idts", b"attach")?);
    fs::remove_file(format!("/sys/{device}"))?;
    until_attached(&mut bed, 4, true)?;
    drop(watch);
    Ok(())
}

/// It serves on where its outputs are pipes that are full, or that nobody reads, or
/// a disk that is full.
pub fn a_log_that_nobody_reads() -> Result<()> {
    for kind in ["full pipe", "closed pipe", "full disk"] {
        let mut bed = Bed::new()?;
        let (reader, writer) = pipe_with(PipeFlags::empty())?;
        let output: Stdio = match kind {
            "full disk" => fs::File::options().write(true).open("/dev/full")?.into(),
            _ => writer.try_clone()?.into(),
        };
        let other: Stdio = match kind {
            "full disk" => fs::File::options().write(true).open("/dev/full")?.into(),
            _ => writer.try_clone()?.into(),
        };
        let reader = match kind {
            "full pipe" => {
                rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
                while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
                rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty())?;
                Some(reader)
            }
            _ => None,
        };
        let mut watch = program(&["watch", "--attach", "all"])
            .stdout(output)
            .stderr(other)
            .spawn()?;
        let mut serve = || -> Result<()> {
            for id in 3..20 {
                bed.dom0.domain(id, format!("u{id}"))?;
                until_attached(&mut bed, id, true)?;
            }
            bed.dom0.destroy(3);
            until("what it left is removed", || {
                Ok(bed.dom0.read(&super::back(3)).is_none().then_some(()))
            })
        };
        let served = serve().with_context(|| format!("a {kind}"));
        let ended = watch.try_wait()?;
        watch.kill()?;
        watch.wait()?;
        drop(reader);
        ensure!(ended.is_none(), "a {kind}: it ended with {ended:?}");
        served?;
    }
    Ok(())
}

/// Guests are told that tunnels come when they are asked for, as long as they do.
pub fn leaves_no_promise() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    let path = "/local/domain/3/control/idts";
    let promised = |bed: &mut Bed| bed.dom0.read(path).as_deref() == Some("on-demand");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut watch = Watch::start(&["--attach", "all", "--idle", "60"])?;
        until("it is promised", || Ok(promised(&mut bed).then_some(())))?;
        watch.until_said("nobody can tell which tunnels are idle")?;
        watch.signal(signal)?;
        let status = watch.wait()?;
        ensure!(
            status.signal() == Some(signal.as_raw()),
            "{signal:?}: {status}"
        );
        ensure!(bed.dom0.read(path).is_none(), "{signal:?}");
    }
    // What nohup has ignored stays ignored.
    let mut command = Command::new("nohup");
    let by_itself = program(&["watch", "--attach", "all", "--idle", "60"]);
    command
        .arg(by_itself.get_program())
        .args(by_itself.get_args());
    command.stdin(Stdio::null());
    let mut watch = Watch::start_by(command)?;
    watch.signal(Signal::HUP)?;
    bed.dom0.domain(4, "u4")?;
    until_attached(&mut bed, 4, true)?;
    ensure!(watch.is_alive()?);
    Ok(())
}

/// What one promised that was killed, the next command takes away, whichever that is;
/// and nothing while another one lives.
pub fn killed_it_leaves_none() -> Result<()> {
    const IDLE: [&str; 4] = ["--attach", "all", "--idle", "60"];
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    let path = "/local/domain/3/control/idts";
    for command in [
        &["list"][..],
        &["set", "u3"],
        &["scheduler"],
        &["attach", "u3", "--if-absent", "--wait", "0"],
    ] {
        let watch = Watch::start(&IDLE)?;
        let other = Watch::start(&IDLE)?;
        until("it is promised", || Ok(bed.dom0.read(path)))?;
        // Killed, as by every end of a Watch.
        drop(other);
        let third = Watch::start(&["--attach", "u9"])?;
        done(command)?;
        ensure!(bed.dom0.read(path).is_some(), "{command:?} broke a promise");
        drop(watch);
        done(command)?;
        ensure!(bed.dom0.read(path).is_none(), "{command:?} left a promise");
        drop(third);
    }
    // As a service manager starts it again: with the same word, and without.
    for (args, keeps) in [(&IDLE[..], true), (&["--attach", "u9"], false)] {
        let killed = Watch::start(&IDLE)?;
        until("it is promised", || Ok(bed.dom0.read(path)))?;
        drop(killed);
        let _anew = Watch::start(args)?;
        match keeps {
            true => drop(until("it is promised anew", || Ok(bed.dom0.read(path)))?),
            false => ensure!(bed.dom0.read(path).is_none(), "it is left"),
        }
    }
    Ok(())
}

/// One that is migrated within the host is two for a while: the new one has what was
/// set, and the alias once the old one is gone; with a watch, and without.
pub fn settings_come_along() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain_of(3, "u3", Some("one"))?;
    done(&["set", "u3", "connect=none", "alias=web"])?;
    let key = |bed: &mut Bed, id: u16, key: &str| {
        bed.dom0
            .read(&format!("/local/domain/0/idts/domain/{id}/{key}"))
    };
    let mut watch = Watch::start(&["--attach", "all"])?;
    until_attached(&mut bed, 3, true)?;
    bed.dom0.domain_of(5, "u3--incoming", Some("one"))?;
    until_attached(&mut bed, 5, true)?;
    for id in [3, 5] {
        let connect = key(&mut bed, id, "connect");
        ensure!(connect.as_deref() == Some("none"), "{id}: {connect:?}");
    }
    bed.dom0.write("/local/domain/3/name", "u3--migratedaway")?;
    bed.dom0.write("/local/domain/5/name", "u3")?;
    bed.dom0.destroy(3);
    until("it has its alias", || {
        Ok((key(&mut bed, 5, "alias").as_deref() == Some("web")).then_some(()))
    })?;
    ensure!(watch.is_alive()?, "{:?}", watch.listen());
    drop(watch);
    bed.dom0.domain_of(7, "u3--incoming", Some("one"))?;
    done(&["attach", "7", "--wait", "0"])?;
    ensure!(key(&mut bed, 7, "connect").as_deref() == Some("none"));
    bed.dom0.destroy(5);
    done(&["list", "--sweep"])?;
    ensure!(key(&mut bed, 7, "alias").as_deref() == Some("web"));
    // One that nobody has touched yet gets all when the old one goes.
    bed.dom0.domain_of(9, "u3--incoming", Some("one"))?;
    bed.dom0.destroy(7);
    done(&["list", "--sweep"])?;
    ensure!(key(&mut bed, 9, "connect").as_deref() == Some("none"));
    ensure!(bed.dom0.count("/local/domain/0/idts/away")? == 0);
    Ok(())
}

/// A domain that comes back with another UUID has lost what was set for its name:
/// that is said.
pub fn says_what_was_lost() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain_of(3, "u3", Some("one"))?;
    let mut watch = Watch::start(&["--attach", "all"])?;
    until_attached(&mut bed, 3, true)?;
    done(&["set", "u3", "connect=none"])?;
    bed.dom0.destroy(3);
    bed.dom0.domain_of(4, "u3", Some("two"))?;
    watch.until_said("domain 4 (u3) comes without what was set")?;
    // One that comes back as itself has it.
    bed.dom0.destroy(4);
    bed.dom0.domain_of(5, "u3", Some("one"))?;
    until_attached(&mut bed, 5, true)?;
    ensure!(done(&["set", "u3"])?.contains("connect=none\n"));
    ensure!(!watch
        .listen()
        .iter()
        .any(|line| line.contains("domain 5 (u3) comes")));
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! A guest that is saved and goes on: with its channels, if the save was only a checkpoint; with
//! its listeners, and with a reset of every channel, if it was restored.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use testbed::running::HANG;

use crate::flow::Stream;
use crate::lab::{Guest, Lab};
use crate::run::{expect, Run};
use crate::transfer::{move_bytes, ways};

/// Where xl writes.
const IMAGE: &str = "/tmp/guest.save";
/// How often a guest's file is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What a program in the guest says and reports, in files: its ends of the testbed's own channel
/// do not outlive a restore.
fn start_there(lab: &Lab, guest: &Guest, what: &str, args: &str) -> Result<()> {
    let program = "/tmp/idts-exercise";
    let script =
        format!("setsid {program} {args} </dev/null >/tmp/{what}.report 2>/tmp/{what}.said &");
    lab.tb.sh(guest.name, &script).map(drop)
}

/// Waits until a file in the guest holds a line that begins so.
fn wait_there(lab: &Lab, guest: &Guest, file: &str, begin: &str) -> Result<String> {
    let start = Instant::now();
    loop {
        let script = format!("grep -m 1 '^{begin}' /tmp/{file} || true");
        let found = lab.tb.sh(guest.name, &script)?.stdout_text();
        if !found.is_empty() {
            return Ok(found);
        }
        if start.elapsed() > HANG {
            bail!("{}: no `{begin}` in {file}", guest.name);
        }
        thread::sleep(LOOK);
    }
}

/// A program in the guest was told that its channel is gone, and is told so again.
fn was_reset_there(lab: &Lab, guest: &Guest, what: &str) -> Result<()> {
    let text = wait_there(lab, guest, &format!("{what}.report"), "{")?;
    let report: Value = serde_json::from_str(&text).context("no report")?;
    expect(&report, "error", "ECONNRESET")
        .and_then(|()| expect(&report, "again", "ENOTCONN"))
        .with_context(|| format!("{what} in the guest"))
}

/// Data that flows both ways with dom0, and a listener; dom0's ends.
struct Life {
    sender: Run,
    receiver: Run,
    echo_port: u32,
}

impl Life {
    fn begin(lab: &Lab, guest: &Guest) -> Result<Life> {
        let seed = lab.seed.to_string();
        let (to_dom0, to_guest, echo_port) = (lab.port(), lab.port(), lab.port());
        let receiver = lab.serve("dom0", &["recv", &to_dom0.to_string(), "--seed", &seed])?;
        start_there(
            lab,
            guest,
            "send",
            &format!("send 0:{to_dom0} --seed {seed}"),
        )?;
        start_there(
            lab,
            guest,
            "recv",
            &format!("recv {to_guest} --seed {seed}"),
        )?;
        let address = lab.address(guest.name, to_guest)?;
        let sender = lab.exercise("dom0", &["send", &address, "--seed", &seed])?;
        let echo = format!("setsid idts echo {echo_port} </dev/null >/dev/null 2>/tmp/echo.said &");
        lab.tb.sh(guest.name, &echo)?;
        wait_there(lab, guest, "echo.said", "listening on")?;
        receiver.wait_progress()?;
        sender.wait_progress()?;
        Ok(Life {
            sender,
            receiver,
            echo_port,
        })
    }

    /// After a restore: dom0's ends and the guest's were reset.
    fn end(self, lab: &Lab, guest: &Guest) -> Result<()> {
        for (what, run) in [
            ("dom0's sender", self.sender),
            ("dom0's receiver", self.receiver),
        ] {
            expect(&run.report()?, "error", "ECONNRESET").context(what)?;
        }
        was_reset_there(lab, guest, "send")?;
        was_reset_there(lab, guest, "recv")
    }
}

/// The listener from before serves, and new channels work both ways.
fn lives_on(lab: &Lab, guest: &Guest, echo_port: u32) -> Result<()> {
    lab.tb.wait_connected(guest.name)?;
    let address = lab.address(guest.name, echo_port)?;
    let ping = ["idts", "ping", &address, "-c", "10", "--json"];
    let report = lab.start("dom0", &ping)?.report()?;
    expect(&report, "count", 10).context("a listener from before")?;
    for (from, to) in ways(guest) {
        move_bytes(lab, from, to, 100_000).with_context(|| format!("{from} to {to}"))?;
    }
    Ok(())
}

fn save(lab: &Lab, guest: &Guest) -> Result<()> {
    lab.tb.xl(&["save", guest.name, IMAGE]).map(drop)
}

fn restore(lab: &Lab, options: &[&str]) -> Result<()> {
    let args: Vec<_> = ["restore"]
        .iter()
        .chain(options)
        .chain(&[IMAGE])
        .copied()
        .collect();
    lab.tb.xl(&args).map(drop)
}

fn attach(lab: &Lab, guest: &Guest) -> Result<()> {
    let attach = ["tunnel-mgr", "attach", guest.name, "--wait", "0"];
    lab.tb.exec("dom0", &attach)?.check("attach").map(drop)
}

/// Makes u3, runs `steps`, ends u3; nothing may be left.
fn with_guest(lab: &Lab, guest: &Guest, steps: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = lab.tb.tables()?;
    lab.make_guest(guest)?;
    steps()?;
    lab.tb.sh("dom0", &format!("rm -f {IMAGE}"))?;
    lab.drop_guest(guest)?;
    lab.tb.wait_tables(&before)
}

fn watch(lab: &Lab, guest: &Guest) -> Result<Run> {
    let run = lab.start("dom0", &["tunnel-mgr", "watch", "--attach", guest.name])?;
    run.wait_line("tunnel-mgr: watching")?;
    Ok(run)
}

/// A checkpoint leaves channels as they are.
pub fn checkpoint(lab: &Lab, guest: &Guest) -> Result<()> {
    with_guest(lab, guest, || {
        let streams = Stream::both_ways(lab, guest)?;
        lab.tb.xl(&["save", "-c", guest.name, IMAGE])?;
        for stream in &streams {
            stream.wait_progress().context("after the checkpoint")?;
        }
        streams.into_iter().try_for_each(Stream::finish)
    })
}

/// `watch` gives a restored guest its tunnel back, and its settings with it; also one that was
/// killed in between.
pub fn restore_with_watch(lab: &Lab, guest: &Guest) -> Result<()> {
    with_guest(lab, guest, || {
        let set = ["tunnel-mgr", "set", guest.name, "weight=7", "alias=keeper"];
        lab.tb.exec("dom0", &set)?.check("set")?;
        let life = Life::begin(lab, guest)?;
        let echo_port = life.echo_port;
        let first = watch(lab, guest)?;
        save(lab, guest)?;
        first.stop()?;
        restore(lab, &[])?;
        let second = watch(lab, guest)?;
        lab.tb.wait_answers(guest.name)?;
        life.end(lab, guest)?;
        lives_on(lab, guest, echo_port)?;
        let set = lab.tb.exec("dom0", &["tunnel-mgr", "set", guest.name])?;
        let set = set.check("set")?.stdout_text();
        for setting in ["weight=7\n", "alias=keeper\n"] {
            ensure!(set.contains(setting), "after the restore it has {set}");
        }
        second.stop().map(drop)
    })
}

/// Programs are told of the restore before there is a tunnel, or any node of one.
pub fn restore_by_hand(lab: &Lab, guest: &Guest) -> Result<()> {
    with_guest(lab, guest, || {
        let life = Life::begin(lab, guest)?;
        let echo_port = life.echo_port;
        save(lab, guest)?;
        restore(lab, &[])?;
        lab.tb.wait_answers(guest.name)?;
        life.end(lab, guest)?;
        let report = lab.ask(guest.name, &["connect", "0:7"])?;
        expect(&report, "error", "ENETDOWN").context("without a tunnel")?;
        attach(lab, guest)?;
        lives_on(lab, guest, echo_port)
    })
}

/// The tunnel's nodes are there before the restored guest runs.
pub fn restore_paused(lab: &Lab, guest: &Guest) -> Result<()> {
    with_guest(lab, guest, || {
        let life = Life::begin(lab, guest)?;
        let echo_port = life.echo_port;
        save(lab, guest)?;
        restore(lab, &["-p"])?;
        attach(lab, guest)?;
        lab.tb.xl(&["unpause", guest.name])?;
        lab.tb.wait_answers(guest.name)?;
        life.end(lab, guest)?;
        lives_on(lab, guest, echo_port)
    })
}

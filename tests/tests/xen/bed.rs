// SPDX-License-Identifier: GPL-2.0
//! The testbed itself, as a person uses it: `scripts/testbed` and what it promises.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use rustix::process::Signal;
use testbed::running::HANG;

use crate::entry::{self, exec, finish, run, run_with, start};
use crate::lab::{Guest, Lab, GUESTS};
use crate::skips;

/// How often something is looked at that is to come.
const LOOK: Duration = Duration::from_millis(100);
/// Commands whose input is under way when they end, wherever it is then.
const UNREAD: usize = 20;
/// Commands at once in one domain.
const AT_ONCE: usize = 8;

/// Bytes of every value, others for each seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A folder of this machine for a test, empty.
pub fn folder(name: &str) -> Result<PathBuf> {
    let path = skips::top().join("target/test-files").join(name);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Waits until `done` says so.
fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        ensure!(start.elapsed() < HANG, "{what}: not after long");
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Input, both outputs apart, byte for byte, and the exit code as shells count it.
pub fn streams_in(lab: &Lab, domain: &str) -> Result<()> {
    let input = noise(lab.seed, 200_000);
    let script = "cat; head -c 100000 /dev/zero >&2; exit 7";
    let ended = run_with(exec(domain, &["sh", "-c", script]), &input)?.expect(7, "")?;
    ensure!(ended.stdout == input, "{domain}: other bytes came back");
    let zeros = ended.stderr.bytes().filter(|byte| *byte == 0).count();
    ensure!(
        (zeros, ended.stderr.len()) == (100_000, 100_000),
        "{domain}: {zeros} of {} bytes on standard error",
        ended.stderr.len()
    );
    for _ in 0..UNREAD {
        let unread = run_with(exec(domain, &["true"]), &input)?;
        unread
            .expect(0, "")
            .context("a command that reads nothing")?;
    }
    for (argv, code) in [
        (["sh", "-c", "kill -9 $$"].as_slice(), 128 + 9),
        (&["/no/such/program"], 127),
        (&["/etc"], 126),
    ] {
        run(exec(domain, argv))?
            .expect(code, "")
            .with_context(|| argv.join(" "))?;
    }
    Ok(())
}

pub fn streams(lab: &Lab, guest: &Guest) -> Result<()> {
    ["dom0", guest.name]
        .iter()
        .try_for_each(|domain| streams_in(lab, domain))
}

/// The testbed's own failures are 125, whatever they are.
pub fn own_failures(_: &Lab, guest: &Guest) -> Result<()> {
    run(exec("u99", &["true"]))?.expect(125, "u99")?;
    run(entry::testbed(&["exec", guest.name]))?.expect(125, "Usage")?;
    let mut elsewhere = exec(guest.name, &["true"]);
    elsewhere.env("IDTS_STATE", folder("nowhere")?);
    run(elsewhere)?.expect(125, "scripts/testbed up")?;
    Ok(())
}

/// Eight commands run at once in a domain, each with its own input and output.
pub fn eight_at_once(_: &Lab, guest: &Guest) -> Result<()> {
    for domain in ["dom0", guest.name] {
        let echo = "echo started; exec cat";
        let mut running = Vec::new();
        for _ in 0..AT_ONCE {
            running.push(start(exec(domain, &["sh", "-c", echo]))?);
        }
        let mut outputs = Vec::new();
        for child in &mut running {
            let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
            let mut line = String::new();
            output.read_line(&mut line)?;
            ensure!(line == "started\n", "{domain}: {line}");
            outputs.push(output);
        }
        // All run now. The last one started is the first to get its input.
        for (number, child) in running.iter_mut().enumerate().rev() {
            let mut stdin = child.stdin.take().context("no pipe")?;
            stdin.write_all(format!("for {number}").as_bytes())?;
        }
        for (number, (child, mut output)) in running.into_iter().zip(outputs).enumerate() {
            let mut text = String::new();
            output.read_to_string(&mut text)?;
            ensure!(
                text == format!("for {number}"),
                "{domain}: {number} got {text}"
            );
            finish(child)?.expect(0, "")?;
        }
    }
    Ok(())
}

/// None of many commands that are started at once, over the lab's guests, loses its connection.
pub fn many_at_once(_: &Lab, _: &Guest) -> Result<()> {
    crowds(&GUESTS, 16, 3)
}

/// The testbed of [`many_over_eight`].
pub const EIGHT: [&str; 4] = ["--guests", "8", "--type", "pv"];

/// The same over eight guests, of many more.
pub fn many_over_eight(lab: &Lab) -> Result<()> {
    let guests = lab.tb.guests();
    ensure!(guests.len() == 8, "the guests are {guests:?}");
    let guests: Vec<_> = guests.iter().map(String::as_str).collect();
    crowds(&guests, 64, 20)
}

/// Starts `many` commands at once, the guests in turn, `rounds` times: each ends well.
fn crowds(guests: &[&str], many: usize, rounds: u32) -> Result<()> {
    for round in 0..rounds {
        let begin = |domain: &&str| start(exec(domain, &["true"]));
        let crowd = guests.iter().cycle().take(many);
        let running = crowd.map(begin).collect::<Result<Vec<_>>>()?;
        for child in running {
            let ended = finish(child)?.expect(0, "");
            ended.map(drop).with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}

/// Starts a command that tells its process id; it ends only when somebody ends it.
pub fn start_sleeper(domain: &str, before: &str) -> Result<(Child, String)> {
    // Nothing is forked: a child between fork and exec would lose a signal to the group.
    let script = format!("{before} echo $$; exec sleep 1000000");
    let mut child = start(exec(domain, &["sh", "-c", &script]))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
    Ok((child, line.trim().to_string()))
}

/// Waits until there is no such process in the domain.
fn wait_gone(lab: &Lab, domain: &str, pid: &str) -> Result<()> {
    wait_until(&format!("the end of process {pid} in {domain}"), || {
        let there = lab
            .tb
            .exec(domain, &["test", "-d", &format!("/proc/{pid}")])?;
        Ok(!there.success())
    })
}

/// Ctrl-C here ends the command there, also one that does not mind it, and so does our own end.
pub fn interrupt(lab: &Lab, guest: &Guest) -> Result<()> {
    for domain in ["dom0", guest.name] {
        for (before, signal, code) in [
            ("", Signal::INT, 128 + 2),
            ("trap '' INT;", Signal::INT, 128 + 9),
            ("", Signal::KILL, 128 + 9),
        ] {
            let (mut child, pid) = start_sleeper(domain, before)?;
            entry::signal(&child, signal)?;
            // The second one kills it; two that come at once are one.
            while !before.is_empty() && child.try_wait()?.is_none() {
                thread::sleep(LOOK);
                entry::signal(&child, signal)?;
            }
            finish(child)?
                .expect(code, "")
                .with_context(|| format!("{domain}: `{before}` and {signal:?}"))?;
            wait_gone(lab, domain, &pid)?;
        }
    }
    Ok(())
}

/// A file crosses both ways with its bytes and its mode, or not at all.
pub fn push_pull(lab: &Lab, guest: &Guest) -> Result<()> {
    let here = folder("push")?;
    let (file, content) = (here.join("a file"), noise(lab.seed, 1_000_003));
    fs::write(&file, &content)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o754))?;
    let name = |path: &Path| path.display().to_string();
    for domain in ["dom0", guest.name] {
        lab.tb.sh(domain, "rm -rf /tmp/pushed; mkdir /tmp/pushed")?;
        let there = format!("{domain}:/tmp/pushed");
        run(entry::testbed(&["push", &name(&file), &there]))?.expect(0, "")?;
        let back = here.join(domain);
        let from = format!("{there}/a file");
        run(entry::testbed(&["pull", &from, &name(&back)]))?.expect(0, "")?;
        ensure!(
            fs::read(&back)? == content,
            "{domain}: other bytes came back"
        );
        let mode = fs::metadata(&back)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o754, "{domain}: mode {mode:o}");

        let nowhere = format!("{domain}:/no/such/folder/");
        run(entry::testbed(&["push", &name(&file), &nowhere]))?.expect(1, domain)?;
        let nothing = here.join("nothing");
        let from = format!("{domain}:/no/such/file");
        run(entry::testbed(&["pull", &from, &name(&nothing)]))?.expect(1, domain)?;
        ensure!(!nothing.exists(), "{domain}: a file of nothing");
        lab.tb.sh(domain, "rm -r /tmp/pushed")?;
    }
    let mut left: Vec<_> = fs::read_dir(&here)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    left.sort();
    ensure!(
        left == ["a file", "dom0", guest.name],
        "left here: {left:?}"
    );
    Ok(())
}

/// Agents sleep while nobody calls: no thread of theirs is scheduled, none runs.
pub fn idle(lab: &Lab, guest: &Guest) -> Result<()> {
    // Every thread of the agent: how often it was scheduled, and its time in ticks.
    let script = "count() { cat /proc/$(pidof tb-agent)/task/*/status | grep ctxt_switches; \
        cut -d' ' -f14,15 /proc/$(pidof tb-agent)/task/*/stat; }; \
        sleep 1; count >/tmp/before; sleep 3; count >/tmp/after; \
        cmp /tmp/before /tmp/after && grep -c ctxt_switches /tmp/after";
    // One after the other: to ask dom0 for what a guest does wakes it.
    for domain in ["dom0", guest.name] {
        let ended = lab.tb.exec(domain, &["sh", "-c", script])?;
        ensure!(
            ended.success(),
            "{domain}: an agent that nobody calls is awake: {}{}",
            ended.stdout_text(),
            ended.stderr_text()
        );
        let lines: u32 = ended.stdout_text().trim().parse()?;
        ensure!(lines >= 2, "{domain}: {lines} counters of the agent");
    }
    Ok(())
}

/// A second `up` names `down` and disturbs nothing; `down` where nothing runs is no failure.
pub fn up_and_down(lab: &Lab, guest: &Guest) -> Result<()> {
    let (child, pid) = start_sleeper(guest.name, "")?;
    run(entry::testbed(&["up", "--no-build", "--guests", "0"]))?
        .expect(1, "scripts/testbed down")?;
    lab.tb.sh(guest.name, &format!("test -d /proc/{pid}"))?;
    entry::signal(&child, Signal::INT)?;
    finish(child)?.expect(130, "")?;
    for _ in 0..2 {
        let mut down = entry::testbed(&["down"]);
        down.env("IDTS_STATE", folder("nowhere")?);
        run(down)?.expect(0, "nothing ran")?;
    }
    ensure!(lab.tb.is_running(), "another testbed was ended");
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! Who pays for what: users and memory cgroups, the tunnel of dom0 with itself, listeners, domains
//! that ask others; and memory that lies in pieces.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use testbed::running::HANG;

use crate::domains::with_setting;
use crate::lab::{Guest, Lab, GUESTS};
use crate::run::{expect, Run};
use crate::transfer::{move_bytes, ways};
use crate::versions;

/// Two users of no rights.
const USER: &str = "65534";
const OTHER: &str = "65533";
const CGROUP: &str = "/sys/fs/cgroup/idts-test";
const MIB: u64 = 1 << 20;
/// A subscription with this ring also has one of 4 KiB and a page of lines.
const RING: u64 = 4 * MIB;
const SUBSCRIPTION: u64 = RING + 2 * 4096;
/// What a user may have.
const USER_MEMORY: u64 = 64 * MIB;
const USER_ENDPOINTS: u64 = 2048;

/// A value of the module's file on its users.
fn book(lab: &Lab, domain: &str, name: &str) -> Result<u64> {
    let text = lab.tb.sh(domain, "cat /sys/kernel/debug/idts/users")?;
    let text = text.stdout_text();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
    Ok(value.unwrap_or("0").parse()?)
}

fn number(lab: &Lab, script: &str) -> Result<u64> {
    let text = lab.tb.sh("dom0", script)?.stdout_text();
    text.trim()
        .parse()
        .with_context(|| format!("{script}: {text}"))
}

fn available(lab: &Lab) -> Result<u64> {
    Ok(number(
        lab,
        "sed -n 's/^MemAvailable: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
    )? * 1024)
}

/// Starts a holder; how many it holds, and it.
fn hold(lab: &Lab, domain: &str, args: &[&str]) -> Result<(u64, Run)> {
    let args: Vec<_> = ["hold"].iter().chain(args).copied().collect();
    let run = lab.exercise(domain, &args)?;
    let held = run.wait_line("holding ")?;
    let held = held.trim_start_matches("holding ").parse()?;
    Ok((held, run))
}

/// Ends a holder; what it failed by.
fn let_go(mut run: Run) -> Result<Value> {
    run.tell("enough")?;
    Ok(run.report()?["error"].clone())
}

fn wait_until(what: &str, mut fine: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !fine()? {
        ensure!(start.elapsed() < HANG, "it never comes that {what}");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Lets every user at the device of dom0 meanwhile.
fn for_all(lab: &Lab, steps: impl FnOnce() -> Result<()>) -> Result<()> {
    lab.tb.sh("dom0", "chmod 666 /dev/idts")?;
    let result = steps();
    lab.tb.sh("dom0", "chmod 660 /dev/idts")?;
    result
}

/// A user of dom0 takes rings and endpoints until there are no more for it, by the module's book
/// and by its memory cgroup; what it has shows in its cgroup, others go on, and all comes back.
fn each_limit(lab: &Lab) -> Result<()> {
    let ring = RING.to_string();
    let many = ["300", "--group", "gulf", "--ring", &ring, "--user", USER];
    let before = available(lab)?;

    // By the book.
    let met = book(lab, "dom0", "no_user_memory")?;
    let (held, run) = hold(lab, "dom0", &many)?;
    let fell = before.saturating_sub(available(lab)?);
    let has = book(lab, "dom0", &format!("user_{USER}_memory"))?;
    let (others, other) = hold(
        lab,
        "dom0",
        &["1", "--group", "gulf", "--ring", &ring, "--user", OTHER],
    )?;
    let_go(other)?;
    let error = let_go(run)?;
    ensure!(
        held == USER_MEMORY / SUBSCRIPTION && error == "ENOSPC" && others == 1,
        "{held} subscriptions, {error}, then {others} of another user"
    );
    ensure!(
        has == held * SUBSCRIPTION && fell < USER_MEMORY + 32 * MIB,
        "{has} bytes in the book, {fell} less in dom0"
    );
    ensure!(
        book(lab, "dom0", "no_user_memory")? > met,
        "it is not counted"
    );
    let gone = || Ok(book(lab, "dom0", &format!("user_{USER}_memory"))? == 0);
    wait_until("the book is empty", gone)?;

    // By the cgroup: that of the process that opens the files.
    let make = format!(
        "mount | grep -q ' /sys/fs/cgroup ' || mount -t cgroup2 none /sys/fs/cgroup; \
         echo +memory >/sys/fs/cgroup/cgroup.subtree_control; mkdir {CGROUP}; \
         echo 33554432 >{CGROUP}/memory.max"
    );
    lab.tb.sh("dom0", &make)?;
    let poor = book(lab, "dom0", "no_memory")?;
    let in_cgroup: Vec<_> = many.iter().chain(&["--cgroup", CGROUP]).copied().collect();
    let (held, run) = hold(lab, "dom0", &in_cgroup)?;
    let charged = number(lab, &format!("cat {CGROUP}/memory.current"))?;
    let killed = number(
        lab,
        &format!("sed -n 's/^oom_kill //p' {CGROUP}/memory.events"),
    )?;
    let error = let_go(run)?;
    ensure!(
        (4..8).contains(&held) && error == "ENOSPC" && killed == 0,
        "{held} subscriptions in a cgroup of 32 MiB, then {error}, {killed} processes killed"
    );
    ensure!(
        (held * RING..=32 * MIB).contains(&charged),
        "{held} subscriptions, and {charged} bytes are charged"
    );
    ensure!(book(lab, "dom0", "no_memory")? > poor, "it is not counted");
    let uncharged = || Ok(number(lab, &format!("cat {CGROUP}/memory.current"))? < RING);
    wait_until("the cgroup is empty", uncharged)?;
    lab.tb.sh("dom0", &format!("rmdir {CGROUP}"))?;

    // Endpoints.
    let (held, run) = hold(lab, "dom0", &["3000", "--user", USER])?;
    let (others, other) = hold(lab, "dom0", &["10", "--user", OTHER])?;
    let_go(other)?;
    let error = let_go(run)?;
    ensure!(
        held == USER_ENDPOINTS && error == "ENOSPC" && others == 10,
        "{held} open files, {error}, then {others} of another user"
    );
    wait_until("memory is back", || Ok(available(lab)? + 16 * MIB > before))
}

pub fn users(lab: &Lab, _: &Guest) -> Result<()> {
    for_all(lab, || each_limit(lab))
}

/// Even root gets an eighth of dom0's memory for rings inside dom0, and no more.
pub fn home(lab: &Lab, _: &Guest) -> Result<()> {
    let limit = book(lab, "dom0", "home_memory")?;
    let total = number(
        lab,
        "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo",
    )?;
    // The kernel has given some pages away since.
    ensure!(
        (limit * 8).abs_diff(total * 1024) < 16 * MIB,
        "an eighth of {total} KiB is {limit}"
    );
    let met = book(lab, "dom0", "no_home_memory")?;
    let ring = RING.to_string();
    let (held, run) = hold(lab, "dom0", &["300", "--group", "gulf", "--ring", &ring])?;
    let error = let_go(run)?;
    ensure!(
        held == limit / SUBSCRIPTION && error == "ENOSPC",
        "{held} subscriptions in {limit}, then {error}"
    );
    ensure!(
        book(lab, "dom0", "no_home_memory")? > met,
        "it is not counted"
    );
    wait_until("all is back", || Ok(book(lab, "dom0", "home_used")? == 0))
}

/// A listener pays for what comes in, takes rings of the size that it names and no larger ones, by
/// whatever way they come; a program of the first driver's days listens as it did.
pub fn listeners(lab: &Lab, guest: &Guest) -> Result<()> {
    for_all(lab, || {
        for (client, server) in [("dom0", "dom0")].into_iter().chain(ways(guest)) {
            let port = lab.port();
            let port_text = port.to_string();
            let listen = ["listen", &port_text, "--hold", "--max-ring", "65536"];
            let mut user = vec!["--user", USER];
            if server != "dom0" {
                user.clear();
            }
            let listen: Vec<_> = listen.into_iter().chain(user).collect();
            let mut listener = lab.serve(server, &listen)?;
            let address = lab.address(server, port)?;
            let with = |count: &str, ring: &str| {
                hold(lab, client, &[count, "--to", &address, "--ring", ring])
            };
            let context = || format!("{client} to {server}");
            let (held, run) = with("3", "65536")?;
            if server == "dom0" {
                let seats = book(lab, "dom0", &format!("user_{USER}_endpoints"))?;
                ensure!(seats == 4, "{}: {seats} endpoints", context());
                let bytes = book(lab, "dom0", &format!("user_{USER}_memory"))?;
                // Inside dom0 whoever connects made the rings.
                let wanted = if client == "dom0" { 0 } else { 3 * 2 * 65536 };
                ensure!(bytes == wanted, "{}: {bytes} bytes", context());
            }
            let error = let_go(run)?;
            ensure!(
                held == 3 && error.is_null(),
                "{}: {held}, {error}",
                context()
            );
            let (held, run) = with("1", "131072")?;
            let error = let_go(run)?;
            ensure!(
                held == 0 && error == "ENOSPC",
                "{}: {held}, {error}",
                context()
            );
            let large = book(lab, server, "rings_too_large")?;
            ensure!(large > 0, "{}: it is not counted", context());
            listener.tell("enough")?;
            expect(&listener.report()?, "queued", 3)?;
        }
        let (client, server) = (guest.name, "dom0");
        let port = lab.port();
        let mut listener = lab.serve(server, &["listen", &port.to_string(), "--first"])?;
        let address = lab.address(server, port)?;
        let report = lab.ask(client, &["connect", &address, "--ring", "131072"])?;
        expect(&report, "error", Value::Null).context("the first structure")?;
        listener.tell("enough")?;
        listener.report().map(drop)
    })
}

/// What dom0 asks a guest for takes three quarters of its region at most, or as much as `limit-peer`
/// says; for the guest's own programs there is room left.
pub fn peers(lab: &Lab, guest: &Guest) -> Result<()> {
    let port = lab.port();
    let listen = ["listen", &port.to_string(), "--hold", "--backlog", "32"];
    let there = lab.serve(guest.name, &listen)?;
    let asked = lab.address(guest.name, port)?;
    let port = lab.port();
    let listen = ["listen", &port.to_string(), "--hold", "--backlog", "32"];
    let here = lab.serve("dom0", &listen)?;
    let own = lab.address("dom0", port)?;
    let with =
        |domain: &str, to: &str, ring: &str| hold(lab, domain, &["32", "--to", to, "--ring", ring]);

    let met = lab.counter("dom0", guest.name, "no_share")?;
    let (held, run) = with("dom0", &asked, "1048576")?;
    ensure!(
        held == 6,
        "{held} pairs of 1 MiB in three quarters of 17 MiB"
    );
    ensure!(
        lab.counter("dom0", guest.name, "no_share")? > met,
        "it is not counted"
    );
    let (left, own_run) = with(guest.name, &own, "1048576")?;
    ensure!(left >= 1, "nothing is left for the guest's own programs");
    let_go(own_run)?;
    let_go(run)?;
    for mut run in [there, here] {
        run.tell("enough")?;
        run.report()?;
    }
    // Nobody took them: they are over when their listeners are.
    wait_until("all is closed", || {
        Ok(lab.counter("dom0", guest.name, "channels")? == 0)
    })?;
    let mut there = lab.serve(guest.name, &listen)?;
    let asked = lab.address(guest.name, port)?;
    with_setting(lab, guest.name, ("limit-peer", "100"), || {
        let (held, run) = with("dom0", &asked, "1048576")?;
        ensure!(held == 8, "{held} pairs of 1 MiB in all of 17 MiB");
        let_go(run).map(drop)
    })?;
    there.tell("enough")?;
    there.report().map(drop)
}

/// A guest that does not answer leaves a user with 32 questions, and another user with as many.
pub fn questions(lab: &Lab, guest: &Guest) -> Result<()> {
    for_all(lab, || {
        let port = lab.port();
        let listen = ["listen", &port.to_string(), "--hold", "--backlog", "128"];
        let mut listener = lab.serve(guest.name, &listen)?;
        let address = lab.address(guest.name, port)?;
        let ask = |user: &str| {
            let args = [
                "40",
                "--to",
                &address,
                "--nonblock",
                "--ring",
                "4096",
                "--user",
                user,
            ];
            hold(lab, "dom0", &args)
        };
        lab.tb.xl(&["pause", guest.name])?;
        let asked = ask(USER).and_then(|one| Ok((one, ask(OTHER)?)));
        lab.tb.xl(&["unpause", guest.name])?;
        let ((one, first), (other, second)) = asked?;
        let (error, other_error) = (let_go(first)?, let_go(second)?);
        ensure!(
            one == 32 && other == 32 && error == "ENOSPC" && other_error == "ENOSPC",
            "{one} questions, then {error}; {other} of another user, then {other_error}"
        );
        ensure!(
            lab.counter("dom0", guest.name, "too_many_asked")? >= 2,
            "it is not counted"
        );
        listener.tell("enough")?;
        listener.report().map(drop)
    })
}

/// No version, no feature other than it has; no pages side by side.
const SCATTERED: &str = "1,1,1,1";

/// Where memory lies in pieces rings are made all the same, of the largest size too, granted by
/// guests of both types and inside dom0.
pub fn scattered(lab: &Lab, _: &Guest) -> Result<()> {
    for domain in Lab::domains() {
        versions::push_trial(lab, domain)?;
        versions::reload(lab, domain, Some(SCATTERED))?;
    }
    for guest in GUESTS {
        lab.tb.wait_connected(guest)?;
        let port = lab.port();
        let port_text = port.to_string();
        let tail = ["--channels", "1", "--bytes", "9000000"];
        let serve: Vec<_> = ["many-serve", &port_text].into_iter().chain(tail).collect();
        let serving = lab.serve(guest, &serve)?;
        let address = lab.address(guest, port)?;
        let ring = RING.to_string();
        let ask = ["many", &address, "--ring", &ring];
        let ask: Vec<_> = ask.into_iter().chain(tail).collect();
        expect(&lab.ask("dom0", &ask)?, "moved", 9_000_000)?;
        expect(&serving.report()?, "moved", 9_000_000)?;
    }
    move_bytes(lab, "dom0", "dom0", 3_000_000)?;
    for domain in Lab::domains() {
        versions::reload(lab, domain, None)?;
    }
    GUESTS
        .iter()
        .try_for_each(|guest| lab.tb.wait_connected(guest))
}

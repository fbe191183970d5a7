// SPDX-License-Identifier: GPL-2.0
//! What dom0 lets a guest do, whatever the guest tries: where it connects to, which groups it
//! joins, how much it takes, how fast. Settings change while data flows.

use anyhow::{ensure, Context, Result};

use crate::domains::{other, set, start, with_setting};
use crate::flow::Stream;
use crate::lab::{Guest, Lab};
use crate::run::{expect, expect_in, Run};

const SIGTERM: i32 = 15;
const EACCES: &str = "(os error 13)";

/// What a command in a guest says must hold this, or, with none, it must succeed.
fn says(lab: &Lab, domain: &str, argv: &[&str], error: Option<&str>) -> Result<()> {
    let output = lab.tb.exec(domain, argv)?;
    let text = output.stderr_text();
    match error {
        None => ensure!(output.code == 0, "{}: {text}", argv.join(" ")),
        Some(error) => ensure!(
            output.code == 1 && text.contains(error),
            "{}: not {error} but {}: {text}",
            argv.join(" "),
            output.code
        ),
    }
    Ok(())
}

/// Servers that a guest may reach or not: in dom0, and two ports of the other guest.
struct Servers {
    targets: [String; 3],
    runs: [Run; 3],
}

impl Servers {
    fn start(lab: &Lab, there: &str) -> Result<Servers> {
        let ports = [lab.port(), lab.port(), lab.port()];
        let echo = |domain: &str, port: u32| {
            let port = port.to_string();
            start(lab, domain, &["idts", "echo", &port], "listening on")
        };
        let [a, b, c] = ports;
        Ok(Servers {
            targets: [
                lab.address("dom0", a)?,
                lab.address(there, b)?,
                lab.address(there, c)?,
            ],
            runs: [echo("dom0", a)?, echo(there, b)?, echo(there, c)?],
        })
    }

    /// Which of them the guest reaches.
    fn reached(&self, lab: &Lab, guest: &str, wanted: [bool; 3]) -> Result<()> {
        for (target, wanted) in self.targets.iter().zip(wanted) {
            let ping = ["idts", "ping", target, "-c", "1"];
            says(lab, guest, &ping, (!wanted).then_some(EACCES))?;
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        for run in self.runs {
            run.signal(SIGTERM)?;
            run.end()?;
        }
        Ok(())
    }
}

/// Writes what nobody can have meant, where tunnel-mgr has written before.
fn garble(lab: &Lab, guest: &str, key: &str, value: &str) -> Result<()> {
    let key = format!("/local/domain/0/idts/domain/{}/{key}", lab.id(guest)?);
    let write = ["xenstore-write", &key, value];
    lab.tb.exec("dom0", &write)?.check("xenstore-write")?;
    Ok(())
}

/// A stream that the guest had no right to any more: its writer is told as of any reset, and
/// whoever reads has ECONNRESET.
fn was_taken_away(stream: Stream) -> Result<()> {
    for (run, error, again) in [
        (stream.sender, "EPIPE", "EPIPE"),
        (stream.receiver, "ECONNRESET", "ENOTCONN"),
    ] {
        let report = run.report()?;
        expect(&report, "error", error)
            .and_then(|()| expect(&report, "again", again))
            .and_then(|()| expect_in(&report, "poll", "ERR"))
            .and_then(|()| expect_in(&report, "poll", "HUP"))
            .with_context(|| format!("{} to {}", stream.from, stream.to))?;
    }
    Ok(())
}

/// A right that is taken away ends what stands on it, here and through the relay, and nothing else;
/// a value that nobody can have meant ends nothing.
fn taken_away(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    set(lab, guest.name, "connect=all")?;
    let relayed = Stream::start(lab, guest.name, there)?;
    let own = Stream::start(lab, guest.name, "dom0")?;
    // Nobody's right but the caller's own.
    let called = Stream::start(lab, "dom0", guest.name)?;
    garble(lab, guest.name, "connect", "all,,dom0")?;
    for stream in [&relayed, &own, &called] {
        stream.wait_progress().context("under a malformed value")?;
    }
    set(lab, guest.name, "connect=dom0")?;
    was_taken_away(relayed).context("connect=dom0")?;
    own.wait_progress()?;
    // Nobody has accepted it yet.
    let port = lab.port();
    let listen = ["listen", &port.to_string(), "--hold"];
    let mut listener = lab.serve("dom0", &listen)?;
    let address = lab.address("dom0", port)?;
    let mut waiting = lab.exercise(guest.name, &["connect", &address, "--hold", "1"])?;
    waiting.wait_line("holding")?;
    set(lab, guest.name, "connect=none")?;
    was_taken_away(own).context("connect=none")?;
    called.wait_progress()?;
    waiting.tell("enough")?;
    waiting.report()?;
    listener.tell("enough")?;
    listener.report()?;
    called.finish()
}

/// Each value of `connect`, obeyed at once, also by what is open.
pub fn connect(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    let taken = taken_away(lab, guest);
    set(lab, guest.name, "connect=")?;
    taken?;
    let servers = Servers::start(lab, there)?;
    let some = format!("dom0,{}", servers.targets[1]);
    let one = servers.targets[2].clone();
    let result = [
        ("none", [false; 3]),
        ("dom0", [true, false, false]),
        (&some, [true, true, false]),
        (&one, [false, false, true]),
        ("all", [true; 3]),
        ("", [true, false, false]),
    ]
    .iter()
    .try_for_each(|(value, wanted)| {
        set(lab, guest.name, &format!("connect={value}"))?;
        servers
            .reached(lab, guest.name, *wanted)
            .with_context(|| format!("connect={value}"))
    });
    set(lab, guest.name, "connect=")?;
    result?;
    by_default(lab, guest, &servers)?;
    servers.end()
}

/// What is set for all holds where nothing is set for the guest.
fn by_default(lab: &Lab, guest: &Guest, servers: &Servers) -> Result<()> {
    with_setting(lab, "--default", ("connect", "none"), || {
        servers.reached(lab, guest.name, [false; 3])?;
        with_setting(lab, guest.name, ("connect", "all"), || {
            servers.reached(lab, guest.name, [true; 3])
        })?;
        servers.reached(lab, guest.name, [false; 3])
    })
    .context("set --default")?;
    servers.reached(lab, guest.name, [true, false, false])
}

/// What nobody can have meant allows nothing.
pub fn malformed(lab: &Lab, guest: &Guest) -> Result<()> {
    let servers = Servers::start(lab, other(guest))?;
    // So that the directory is tunnel-mgr's, with its permissions.
    with_setting(lab, guest.name, ("connect", "all"), || {
        garble(lab, guest.name, "connect", "all,,dom0")?;
        servers.reached(lab, guest.name, [false; 3])
    })?;
    servers.reached(lab, guest.name, [true, false, false])?;
    servers.end()
}

/// Lists of groups, with prefixes.
pub fn lists(lab: &Lab, guest: &Guest) -> Result<()> {
    let try_all = |verb: &str, groups: [(&str, bool); 4]| -> Result<()> {
        for (group, allowed) in groups {
            let argv = ["idts", verb, group, "--count", "1"];
            if verb == "publish" || !allowed {
                says(lab, guest.name, &argv, (!allowed).then_some(EACCES))?;
                continue;
            }
            let run = start(lab, guest.name, &argv, "subscribed to")?;
            let publish = ["idts", "publish", group, "--count", "1"];
            says(lab, "dom0", &publish, None)?;
            ensure!(run.end()?.code == 0, "{group}: the record did not come");
        }
        Ok(())
    };
    for verb in ["publish", "subscribe"] {
        let none = ["news", "log-1", "log", "other"].map(|group| (group, false));
        try_all(verb, none)?;
        with_setting(lab, guest.name, (verb, "news,log-*"), || {
            let groups = [
                ("news", true),
                ("log-1", true),
                ("log", false),
                ("other", false),
            ];
            try_all(verb, groups)
        })?;
        try_all(verb, none)?;
    }
    let left = left_groups(lab, guest);
    for verb in ["publish", "subscribe"] {
        set(lab, guest.name, &format!("{verb}="))?;
    }
    left
}

/// A group that a guest may not be in any more it leaves.
fn left_groups(lab: &Lab, guest: &Guest) -> Result<()> {
    let endless = |group| {
        let pace = ["--count", "1000000000", "--interval", "0.01"];
        [["idts", "publish", group].as_slice(), &pace].concat()
    };
    let publish = |domain, group| start(lab, domain, &endless(group), "publishing to");
    let subscribe = |domain, group| {
        let argv = ["idts", "subscribe", group, "--json"];
        start(lab, domain, &argv, "subscribed to")
    };
    set(lab, guest.name, "publish=news,log-*")?;
    set(lab, guest.name, "subscribe=ours")?;
    let theirs = [publish(guest.name, "news")?, publish(guest.name, "log-1")?];
    let heard = [subscribe("dom0", "news")?, subscribe("dom0", "log-1")?];
    let ours = publish("dom0", "ours")?;
    let hears = subscribe(guest.name, "ours")?;
    for key in ["publish", "subscribe"] {
        garble(lab, guest.name, key, "none,")?;
    }
    set(lab, guest.name, "publish=log-*")?;
    let ([news, log], [heard_news, heard_log]) = (theirs, heard);
    let ended = news.end()?;
    ensure!(
        ended.code == 1 && ended.stderr.contains("(os error 32)"),
        "the publisher ends with {}: {}",
        ended.code,
        ended.stderr
    );
    let report = heard_news.report()?;
    expect(&report, "ended", "publisher")?;
    ensure!(
        log.is_running() && heard_log.is_running() && hears.is_running(),
        "a member that keeps its right left too"
    );
    set(lab, guest.name, "subscribe=none")?;
    let report: serde_json::Value = serde_json::from_slice(&hears.end()?.stdout)?;
    expect(&report, "ended", "reset")?;
    ensure!(ours.is_running(), "the publisher left with its subscriber");
    log.stop()?;
    expect(&heard_log.report()?, "ended", "publisher")?;
    ours.stop().map(drop)
}

/// Channels and memory, to the last one; a limit that is raised lets more in.
pub fn limits(lab: &Lab, guest: &Guest) -> Result<()> {
    let hold = |ring: &str| -> Result<u64> {
        // A channel that nobody accepted lives as long as its listener.
        let port = lab.port();
        let listen = ["listen", &port.to_string(), "--hold", "--backlog", "32"];
        let mut listener = lab.serve("dom0", &listen)?;
        let address = lab.address("dom0", port)?;
        let argv = ["connect", &address, "--ring", ring, "--hold", "16"];
        let mut holder = lab.exercise(guest.name, &argv)?;
        holder.wait_line("holding")?;
        holder.tell("enough")?;
        let report = holder.report()?;
        listener.tell("enough")?;
        listener.report()?;
        let count = report["channels"].as_u64().unwrap_or(0);
        ensure!(
            count == 16 || report["error"] == "ENOSPC",
            "{count} channels, then {report}"
        );
        Ok(count)
    };
    let with = |setting: (&str, &str), ring: &str| {
        let mut count = 0;
        with_setting(lab, guest.name, setting, || {
            count = hold(ring)?;
            Ok(())
        })?;
        anyhow::Ok(count)
    };
    let few = with(("limit-channels", "3"), "4096")?;
    let more = with(("limit-channels", "5"), "4096")?;
    ensure!(
        (few, more) == (3, 5),
        "{few} and {more} channels, of 3 and 5"
    );
    // Less than what 16 pairs of 64 KiB need, and more than one does.
    let small = with(("limit-memory", "1M"), "65536")?;
    ensure!((1..8).contains(&small), "{small} pairs of 64 KiB in 1 MiB");
    let free = hold("65536")?;
    ensure!(free == 16, "without a limit only {free}");
    Ok(())
}

/// The keys are dom0's: a guest can neither read nor write them. An alias is one domain's.
pub fn keys(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    with_setting(lab, guest.name, ("alias", "web"), || {
        let key = format!("/local/domain/0/idts/domain/{}/alias", lab.id(guest.name)?);
        for (what, request) in [
            ("reads", message(2, &[&key, ""])),
            ("writes", message(11, &[&key, "mine"])),
            ("removes", message(13, &[&key, ""])),
            ("lists", message(1, &["/local/domain/0/idts", ""])),
        ] {
            let answer = ask_xenstore(lab, guest.name, &request)?;
            ensure!(answer.contains("EACCES"), "a guest {what} {key}: {answer}");
        }
        let own = ask_xenstore(lab, guest.name, &message(2, &["name", ""]))?;
        ensure!(own.contains(guest.name), "it reads its own name as {own}");
        let again = ["tunnel-mgr", "set", there, "alias=web"];
        let again = lab.tb.exec("dom0", &again)?;
        ensure!(
            again.code == 1 && again.stderr_text().contains("alias `web` already"),
            "a second `web`: {}",
            again.stderr_text()
        );
        let read = lab.tb.exec("dom0", &["xenstore-read", &key])?;
        ensure!(
            read.stdout_text().trim() == "web",
            "it is now {}",
            read.stdout_text()
        );
        Ok(())
    })
}

/// A message to xenstored, as printf writes it: type, request, transaction, length, words.
fn message(kind: u8, words: &[&str]) -> String {
    // Each word but a value ends with a zero: the last word is the value, or nothing.
    let mut body = words.join("\0").into_bytes();
    let mut bytes = vec![
        kind,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        body.len() as u8,
        0,
        0,
        0,
    ];
    bytes.append(&mut body);
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

fn ask_xenstore(lab: &Lab, domain: &str, request: &str) -> Result<String> {
    let script = format!(
        "exec 3<>/dev/xen/xenbus; printf '{request}' >&3; \
         dd bs=4096 count=1 <&3 2>/dev/null | tail -c +17 | tr '\\0' ' '"
    );
    Ok(lab.tb.sh(domain, &script)?.stdout_text())
}

/// A record is not divided, but it is paid for: two ways, a record in each.
fn records_under_cap(lab: &Lab, guest: &Guest) -> Result<()> {
    const RATE: f64 = 1048576.0;
    const RECORD: u64 = 1 << 20;
    let port = lab.port();
    let echo = ["idts", "echo", &port.to_string(), "--record"];
    let echo = start(lab, "dom0", &echo, "listening on")?;
    let (target, size) = (lab.address("dom0", port)?, RECORD.to_string());
    let ping = [
        "idts", "ping", &target, "-c", "1000000", "-s", &size, "--record",
    ];
    let result = with_setting(lab, guest.name, ("rate", "1M"), || {
        let ping = lab.start(guest.name, &ping)?;
        while lab.counter("dom0", guest.name, "rx_bytes")? == 0 {
            ensure!(ping.is_running(), "no record came: {}", ping.end()?.stderr);
        }
        let (seconds, bytes) = measure(lab, guest, &["rx_bytes", "tx_bytes"])?;
        ping.stop()?;
        // What was owed before may be paid within, and one more begun.
        let most = RATE * (seconds + 0.05) * 1.02 + 65536.0 + RECORD as f64;
        ensure!(
            bytes as f64 <= most,
            "records: {bytes} bytes in {seconds} s under {RATE} a second"
        );
        Ok(())
    });
    echo.stop()?;
    result
}

/// A read without blocking never waits for a cap, and poll tells of the next turn.
fn nonblocking_under_cap(lab: &Lab, guest: &Guest) -> Result<()> {
    for more in [&[][..], &["--edge"]] {
        let port = lab.port();
        let argv = ["capped", &port.to_string(), "--bytes", "196608"];
        let argv: Vec<_> = argv.iter().chain(more).copied().collect();
        with_setting(lab, guest.name, ("rate", "64K"), || {
            let reader = lab.serve("dom0", &argv)?;
            let sender = lab.exercise(guest.name, &["send", &lab.address("dom0", port)?])?;
            let report = reader.report().context("without blocking under a cap")?;
            sender.stop()?;
            ensure!(
                report["denied"] != 0 && report["lied"] == 0,
                "without blocking under a cap: {report}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// How much the backend's counters grow in a while, and how long that is.
fn measure(lab: &Lab, guest: &Guest, counters: &[&str]) -> Result<(f64, u64)> {
    let stats = format!("tunnel-mgr stats {} --json", guest.name);
    // The clock is read around the counters: however slow they are to come, no more time
    // has passed between them.
    let clock = "cat /proc/uptime";
    let script = format!("{clock}; {stats}; sleep 2; {stats}; {clock}");
    let said = lab.tb.sh("dom0", &script)?;
    let said = said.stdout_text();
    let lines: Vec<_> = said.lines().collect();
    let [start, before, after, end] = lines[..] else {
        anyhow::bail!("stats say {said}");
    };
    let time = |text: &str| text.split(' ').next().unwrap_or("").parse::<f64>();
    let bytes = |text: &str| -> Result<u64> {
        let stats: serde_json::Value = serde_json::from_str(text)?;
        let counter = |name: &&str| {
            let value = stats["domains"][0]["counters"][*name].as_u64();
            value.with_context(|| format!("no {name} in {text}"))
        };
        counters.iter().map(counter).sum()
    };
    Ok((time(end)? - time(start)?, bytes(after)? - bytes(before)?))
}

/// The domain's cap and the total one come and go while data flows, and are in the counters that
/// `tunnel-mgr stats` shows.
pub fn rates(lab: &Lab, guest: &Guest) -> Result<()> {
    const RATE: u64 = 4 << 20;
    let port = lab.port();
    let receiver = lab.serve("dom0", &["recv", &port.to_string()])?;
    let sender = lab.exercise(guest.name, &["send", &lab.address("dom0", port)?])?;
    sender.wait_progress()?;
    let capped = |what: &str| -> Result<()> {
        let (seconds, bytes) = measure(lab, guest, &["rx_bytes"])?;
        // A twentieth of a second's tokens may have been there; what a slow machine does not
        // move is no fault.
        let most = RATE as f64 * (seconds + 0.05) * 1.02 + 65536.0;
        ensure!(
            bytes > 0 && bytes as f64 <= most,
            "{what}: {bytes} bytes in {seconds} s under {RATE} a second"
        );
        Ok(())
    };
    with_setting(lab, guest.name, ("rate", "4M"), || capped("its own cap"))?;
    let scheduler = |rate: &str| {
        let argv = ["tunnel-mgr", "scheduler", rate];
        lab.tb.exec("dom0", &argv)?.check("tunnel-mgr scheduler")?;
        anyhow::Ok(())
    };
    scheduler("rate=4M")?;
    let result = capped("the total cap");
    scheduler("rate=0")?;
    result?;
    sender.wait_progress()?;
    sender.stop()?;
    receiver.end()?;
    records_under_cap(lab, guest)?;
    nonblocking_under_cap(lab, guest)
}

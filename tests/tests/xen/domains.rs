// SPDX-License-Identifier: GPL-2.0
//! From a guest to another, relayed by dom0; from one domain to many; records; and what dom0
//! allows of it.

use anyhow::{ensure, Result};

use crate::lab::{Guest, Lab};
use crate::run::Run;

const SIGTERM: i32 = 15;

/// The other of the two guests that every test finds.
pub fn other(guest: &Guest) -> &'static str {
    if guest.name == "u1" {
        "u2"
    } else {
        "u1"
    }
}

pub fn set(lab: &Lab, guest: &str, setting: &str) -> Result<()> {
    let argv = ["tunnel-mgr", "set", guest, setting];
    lab.tb.exec("dom0", &argv)?.check("tunnel-mgr set")?;
    Ok(())
}

/// Runs `steps` with a setting, which is taken away again whatever happens.
pub fn with_setting(
    lab: &Lab,
    guest: &str,
    (key, value): (&str, &str),
    steps: impl FnOnce() -> Result<()>,
) -> Result<()> {
    set(lab, guest, &format!("{key}={value}"))?;
    let result = steps();
    set(lab, guest, &format!("{key}="))?;
    result
}

pub fn start(lab: &Lab, domain: &str, argv: &[&str], says: &str) -> Result<Run> {
    let run = lab.start(domain, argv)?;
    run.wait_line(says)?;
    Ok(run)
}

/// Without a word of dom0 a guest reaches no other, and cannot tell which there are.
pub fn forbidden(lab: &Lab, guest: &Guest) -> Result<()> {
    let port = lab.port();
    let port_text = port.to_string();
    let there = other(guest);
    let echo = start(lab, there, &["idts", "echo", &port_text], "listening on")?;
    for target in [lab.address(there, port)?, format!("3999:{port}")] {
        let ping = lab
            .tb
            .exec(guest.name, &["idts", "ping", &target, "-c", "1"])?;
        ensure!(ping.code == 1, "ping {target}: exit code {}", ping.code);
        ensure!(
            ping.stderr_text().contains("(os error 13)"),
            "ping {target} says {}",
            ping.stderr_text()
        );
    }
    echo.signal(SIGTERM)?;
    echo.end()?;
    Ok(())
}

/// A file and round trips from guest to guest; dom0's driver counts them as relayed.
pub fn relay(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    with_setting(lab, guest.name, ("connect", "all"), || {
        let port = lab.port();
        let port_text = port.to_string();
        let target = lab.address(there, port)?;
        let make = "dd if=/dev/urandom of=/tmp/out bs=1000 count=3001 2>/dev/null; rm -f /tmp/in";
        lab.tb.sh(guest.name, make)?;
        let before = lab.counter("dom0", guest.name, "relayed_in")?;
        // For that domain alone.
        let from = lab.id(guest.name)?.to_string();
        let recv = ["idts", "recv", &port_text, "/tmp/in", "--from", &from];
        let recv: Vec<_> = recv.into_iter().chain(["--json"]).collect();
        let receiver = start(lab, there, &recv, "listening on")?;
        let argv = [
            "idts", "send", "/tmp/out", &target, "--wait", "60", "--json",
        ];
        let sent = lab.start(guest.name, &argv)?.report()?;
        let received = receiver.report()?;
        ensure!(
            sent["bytes"] == 3_001_000 && sent["crc32"] == received["crc32"],
            "sent {sent}, received {received}"
        );
        let relayed = lab.counter("dom0", guest.name, "relayed_in")? - before;
        ensure!(relayed >= 3_001_000, "dom0 relayed only {relayed}");

        let echo = start(lab, there, &["idts", "echo", &port_text], "listening on")?;
        let ping = ["idts", "ping", &target, "-c", "50", "-s", "5000", "--json"];
        let report = lab.start(guest.name, &ping)?.report()?;
        ensure!(report["count"] == 50, "{report}");
        echo.signal(SIGTERM)?;
        echo.end()?;

        // It ends both directions and keeps its end: the other end hears of both at once.
        let mut keeper = lab.serve(there, &["hangup-serve", &port_text, "--keep"])?;
        let seen = lab.ask(guest.name, &["hangup", &target])?;
        ensure!(seen["content"] == true, "{seen}");
        keeper.tell("enough")?;
        keeper.report()?;

        let gone = lab
            .tb
            .exec(guest.name, &["idts", "ping", &target, "-c", "1"])?;
        ensure!(
            gone.code == 1 && gone.stderr_text().contains("(os error 111)"),
            "nobody listens in {there}: {}",
            gone.stderr_text()
        );
        Ok(())
    })
}

/// Records to dom0 and, relayed, to the other guest; a stream is another kind of channel.
pub fn records(lab: &Lab, guest: &Guest) -> Result<()> {
    with_setting(lab, guest.name, ("connect", "all"), || {
        for server in ["dom0", other(guest)] {
            let port = lab.port();
            let port_text = port.to_string();
            let target = lab.address(server, port)?;
            let echo = ["idts", "echo", &port_text, "--record"];
            let echo = start(lab, server, &echo, "listening on")?;
            for size in ["1", "4095", "65537"] {
                let ping = [
                    "idts", "ping", &target, "-c", "20", "-s", size, "--record", "--json",
                ];
                let report = lab.start(guest.name, &ping)?.report()?;
                ensure!(report["count"] == 20, "{size} bytes to {server}: {report}");
            }
            let stream = lab
                .tb
                .exec(guest.name, &["idts", "ping", &target, "-c", "1"])?;
            ensure!(
                stream.code == 1 && stream.stderr_text().contains("(os error 111)"),
                "a stream to a listener of records: {}",
                stream.stderr_text()
            );
            echo.signal(SIGTERM)?;
            echo.end()?;
        }
        Ok(())
    })
}

/// A group: who may hold the publisher up misses nothing; a paused domain misses records, which
/// are counted, and holds nobody up.
pub fn group(lab: &Lab, guest: &Guest) -> Result<()> {
    const RECORDS: u64 = 3000;
    let there = other(guest);
    let denied = ["idts", "publish", "news", "--count", "1"];
    let denied = lab.tb.exec(guest.name, &denied)?;
    ensure!(
        denied.code == 1 && denied.stderr_text().contains("(os error 13)"),
        "publishing without leave: {}",
        denied.stderr_text()
    );
    with_setting(lab, guest.name, ("publish", "news"), || {
        with_setting(lab, there, ("subscribe", "all"), || {
            let follow = ["idts", "subscribe", "news", "--json", "--on-lag"];
            let argv: Vec<&str> = follow.iter().chain(&["block"]).copied().collect();
            let here = start(lab, "dom0", &argv, "subscribed to")?;
            let argv: Vec<&str> = follow.iter().chain(&["drop"]).copied().collect();
            let paused = start(lab, there, &argv, "subscribed to")?;
            lab.tb.xl(&["pause", there])?;
            let count = RECORDS.to_string();
            let publish = [
                "idts",
                "publish",
                "news",
                "--may-block",
                "--count",
                &count,
                "--size",
                "1000",
                "--json",
            ];
            let published = lab.start(guest.name, &publish).and_then(Run::report);
            lab.tb.xl(&["unpause", there])?;
            ensure!(published?["records"] == RECORDS, "not all were published");
            let here = here.report()?;
            ensure!(
                here["records"] == RECORDS && here["lag"] == 0 && here["ended"] == "publisher",
                "dom0 got {here}"
            );
            let paused = paused.report()?;
            let got = paused["records"].as_u64().unwrap_or(0);
            let lag = paused["lag"].as_u64().unwrap_or(0);
            ensure!(
                lag > 0 && got + lag == RECORDS && paused["ended"] == "publisher",
                "the paused guest got {paused}"
            );
            Ok(())
        })
    })
}

/// The errno of a ping that must fail.
fn ping_fails(lab: &Lab, domain: &str, target: &str, errno: u32) -> Result<()> {
    ping_says(lab, domain, target, &format!("(os error {errno})"))
}

fn ping_says(lab: &Lab, domain: &str, target: &str, words: &str) -> Result<()> {
    let ping = lab.tb.exec(domain, &["idts", "ping", target, "-c", "1"])?;
    let says = ping.stderr_text();
    ensure!(
        ping.code == 1 && says.contains(words),
        "ping {target} in {domain}: {}, {says}",
        ping.code
    );
    Ok(())
}

/// By the name that dom0 gave a domain, from a guest and in dom0; `dom0` itself; and names that
/// nobody has, or that may not be reached, which a guest cannot tell apart.
pub fn alias(lab: &Lab, guest: &Guest) -> Result<()> {
    let there = other(guest);
    let port = lab.port();
    let port_text = port.to_string();
    let server = start(lab, there, &["idts", "echo", &port_text], "listening on")?;
    let home = start(lab, "dom0", &["idts", "echo", &port_text], "listening on")?;
    let (web, nobody) = (format!("web:{port}"), format!("nobody:{port}"));
    let ping = |domain: &str, target: &str| -> Result<()> {
        let argv = ["idts", "ping", target, "-c", "3", "--json"];
        let report = lab.start(domain, &argv)?.report()?;
        ensure!(report["count"] == 3, "{domain} to {target}: {report}");
        Ok(())
    };
    with_setting(lab, there, ("alias", "web"), || {
        ping_fails(lab, guest.name, &web, 13)?;
        ping(guest.name, &format!("dom0:{port}"))?;
        for target in [&web, &format!("{there}:{port}"), &format!("dom0:{port}")] {
            ping("dom0", target)?;
        }
        with_setting(lab, guest.name, ("connect", "web:*"), || {
            ping(guest.name, &web)?;
            ping(guest.name, &lab.address(there, port)?)?;
            ping_fails(lab, guest.name, &format!("dom0:{port}"), 13)
        })?;
        with_setting(lab, guest.name, ("connect", "all"), || {
            ping(guest.name, &web)?;
            ping_fails(lab, guest.name, &nobody, 13)
        })
    })?;
    with_setting(lab, guest.name, ("connect", "all"), || {
        ping_fails(lab, guest.name, &web, 13)
    })?;
    ping_says(lab, "dom0", &web, "no domain is called `web`")?;
    for run in [server, home] {
        run.signal(SIGTERM)?;
        run.end()?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! TCP in bulk once more, by iperf3: the peer's figure does not depend on a loop of ours.

use std::io::{BufRead, BufReader};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use super::{tcp, words, Run, Series};
use crate::bed::{built, Bed, HANG};
use crate::figure::{usual, Better, Case, Name};
use crate::system::{address, System};

/// What scripts/build made: the program, and the libraries that no domain has.
const PACKED: &str = "bench/iperf3.tar";
const UNPACK: &str = "cd /tmp && tar xf iperf3.tar && rm iperf3.tar";
const COMMAND: [&str; 4] = [
    "/tmp/iperf3/ld-linux-x86-64.so.2",
    "--library-path",
    "/tmp/iperf3",
    "/tmp/iperf3/iperf3",
];

/// Bytes of a write.
const BYTES: u64 = 65536;
/// How long it writes: it looks only once a second whether a number of bytes is through, so this one
/// figure is of a duration.
const SECONDS: &str = "1";

/// Whose figure it is, which way, from whom to whom, and whether the client reads.
type Path = (Case, &'static str, [&'static str; 2], bool);
const PATHS: [Path; 3] = [
    (Case::Bulk, "dom0-to-guest", ["dom0", "u1"], false),
    (Case::Bulk, "guest-to-dom0", ["dom0", "u1"], true),
    (Case::RelayBulk, "guest-to-guest", ["u1", "u2"], false),
];

/// Between dom0 and a guest, and `between_guests` if that is wanted.
pub fn all(bed: &Bed, run: &mut Run, between_guests: bool) -> Result<()> {
    let is_wanted = |(case, ..): &&Path| *case == Case::Bulk || between_guests;
    let paths = PATHS.iter().filter(is_wanted);
    let Ok(packed) = built(PACKED) else {
        run.note("tcp: there is no iperf3; all is by the bench's own loop".into());
        return Ok(());
    };
    bed.give(&packed, "/tmp/iperf3.tar")?;
    for domain in bed.domains() {
        bed.tb.sh(&domain, UNPACK)?;
    }
    let nagle = System::Tcp { nodelay: false };
    for path in paths {
        tcp::fairly(bed, run, &nagle, |run| one(bed, run, path))?;
    }
    Ok(())
}

fn one(bed: &Bed, run: &mut Run, path: &Path) -> Result<()> {
    let rounds = (0..run.rounds())
        .map(|_| round(bed, path))
        .collect::<Result<Vec<_>>>()?;
    let (rates, received): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let (rate, received) = (usual(rates), usual(received) as u64);
    let (case, way, ..) = path;
    let variant = words(&["iperf3", way]);
    let series = Series {
        system: Name::Tcp,
        variant: &variant,
        guest: bed.kind,
    };
    let value = (rate, "Gb/s", Better::Higher);
    run.add(*case, series, (BYTES, received / BYTES), value);
    Ok(())
}

/// A connection: Gb/s and bytes that the receiver saw.
fn round(bed: &Bed, (_, _, [client, server], reads): &Path) -> Result<(f64, f64)> {
    let port = bed.fresh().to_string();
    let serve = ["-s", "-1", "-p", &port, "--forceflush"];
    let mut service = bed.tb.spawn(server, &[&COMMAND[..], &serve].concat())?;
    let said = BufReader::new(service.stdout.take().context("no output")?);
    let mut lines = said.lines().map_while(Result::ok);
    let ready = lines.any(|line| line.contains("listening"));
    ensure!(ready, "iperf3 does not listen in {server}");
    let (to, bytes) = (address(server), BYTES.to_string());
    let mut call = vec!["-c", &to, "-p", &port, "-t", SECONDS, "-l", &bytes, "-J"];
    if *reads {
        call.push("-R");
    }
    let output = bed.tb.spawn(client, &[&COMMAND[..], &call].concat())?;
    let text = output
        .wait_with_output(HANG)?
        .check(&format!("{client}: iperf3"))?
        .stdout_text();
    received(&text).with_context(|| format!("iperf3 said {text}"))
}

fn received(text: &str) -> Option<(f64, f64)> {
    let said: Value = serde_json::from_str(text).ok()?;
    let sum = &said["end"]["sum_received"];
    let bits = sum["bits_per_second"].as_f64()?;
    Some((bits / 1e9, sum["bytes"].as_f64()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_receivers_rate_counts() {
        let text = r#"{"end":{"sum_sent":{"bits_per_second":5e9},
            "sum_received":{"bits_per_second":4.2e9,"bytes":1000}}}"#;
        assert_eq!(super::received(text), Some((4.2, 1000.0)));
        assert_eq!(super::received("{}"), None);
    }
}

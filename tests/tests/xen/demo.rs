// SPDX-License-Identifier: GPL-2.0
//! `scripts/demo` keeps what README's first line promises.

use anyhow::{ensure, Context, Result};

use crate::entry::{run, script, testbed};
use crate::skips;

/// The file's least size.
const LEAST: u64 = 8 << 20;

/// Words of a line that begins so, from the line's end on: as many as are wanted.
fn find<'a>(text: &'a str, begin: &str) -> Result<Vec<&'a str>> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(begin));
    let line = line.with_context(|| format!("no line `{begin}` in {text}"))?;
    Ok(line.split_whitespace().collect())
}

/// A file of the size that it says crossed both ways, by counters and sums that it shows.
pub fn demo() -> Result<()> {
    let ended = run(script("demo", &[]))?.expect(0, "up: dom0, u1")?;
    let text = ended.text();
    let size: u64 = find(&text, "demo: ")?[0].parse()?;
    ensure!(size >= LEAST, "the file has {size} bytes");

    find(&text, "Domain-0 ")?;
    find(&text, "u1 ")?;
    ensure!(find(&text, "network devices of the guest:")? == ["lo"]);
    for way in ["u1 to dom0:", "dom0 to u1:"] {
        let rate: f64 = find(&text, way)?[0].parse()?;
        ensure!(rate > 0.0, "{way} {rate}");
    }
    for counter in [
        "idts_front, guest, sent",
        "idts_back, dom0, received",
        "idts_back, dom0, sent",
        "idts_front, guest, recvd",
    ] {
        let words = find(&text, counter)?;
        let (before, after): (u64, u64) = (words[0].parse()?, words[2].parse()?);
        ensure!(after - before >= size, "{counter}: {words:?}");
    }
    let sums = [
        "guest, the file",
        "dom0, what came",
        "guest, what came back",
    ]
    .map(|whose| find(&text, whose).map(|words| words.concat()));
    let [file, there, back] = sums;
    let file = file?;
    ensure!(file.len() == 64 && file.bytes().all(|byte| byte.is_ascii_hexdigit()));
    ensure!(there? == file && back? == file, "the sums differ");

    let mut status = testbed(&["status"]);
    status.env("IDTS_STATE", skips::top().join("target/demo"));
    let status = run(status)?.expect(0, "")?.text();
    ensure!(
        status == "no testbed is running\n",
        "left running: {status}"
    );
    Ok(())
}

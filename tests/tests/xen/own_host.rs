// SPDX-License-Identifier: GPL-2.0
//! README's steps for a Xen host of one's own, run as they stand there, with nothing in the domains
//! but what `target/dist` holds. A block that follows `<!-- run in DOM -->` is run in that domain.

use std::fs;

use anyhow::{bail, ensure, Context, Result};

use crate::lab::Lab;
use crate::run::Run;
use crate::skips;

const GUEST: &str = "u1";
const FILES: [&str; 6] = [
    "idts_front.ko",
    "idts_back.ko",
    "idts",
    "tunnel-mgr",
    "idts.h",
    "60-idts.rules",
];
/// What the images have of ours goes away first; udev is not in them, mdev does its work.
const STRIP: &str = "mkdir -p /root/dist /root/lib /root/bin /etc/udev/rules.d && \
    mv /usr/lib/idts /root/lib/ && mv /usr/bin/idts /usr/bin/tunnel-mgr /root/bin/ && \
    printf '#!/bin/sh\\n' >/usr/bin/udevadm && chmod 755 /usr/bin/udevadm";
const RESTORE: &str = "rm -rf /usr/bin/udevadm /usr/local /etc/udev /root/dist \
    /lib/modules/$(uname -r)/updates && depmod && \
    mv /root/lib/idts /usr/lib/ && mv /root/bin/idts /root/bin/tunnel-mgr /usr/bin/";

/// A block of commands and where to run it.
struct Block {
    domain: String,
    script: String,
}

fn blocks() -> Result<Vec<Block>> {
    let path = skips::top().join("README.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut found = Vec::new();
    for part in text.split("<!-- run in ").skip(1) {
        let (domain, rest) = part.split_once(" -->").context("README: an open comment")?;
        let script = rest
            .split_once("```sh\n")
            .and_then(|(_, rest)| rest.split_once("```"))
            .context("README: no block after the comment")?;
        found.push(Block {
            domain: domain.into(),
            script: script.0.into(),
        });
    }
    Ok(found)
}

pub fn steps(lab: &Lab) -> Result<()> {
    let blocks = blocks()?;
    ensure!(
        blocks.len() >= 4,
        "README has {} blocks to run",
        blocks.len()
    );
    for domain in ["dom0", GUEST] {
        lab.tb.sh(domain, STRIP)?;
        for file in FILES {
            let from = skips::top().join("target/dist").join(file);
            lab.tb.push(&from, domain, "/root/dist/")?;
        }
    }
    let done = run_all(lab, &blocks);
    let restored = restore(lab);
    done.and(restored)
}

/// Runs the blocks in order. One that listens stays while the next ones run.
fn run_all(lab: &Lab, blocks: &[Block]) -> Result<()> {
    let mut listening: Vec<Run> = Vec::new();
    for block in blocks {
        let domain = match block.domain.as_str() {
            "dom0" => "dom0",
            "guest" => GUEST,
            other => bail!("README: run in {other}?"),
        };
        // README calls the guest `guest`, as xl shows it; here it has another name.
        let script = block.script.replace("GUEST", GUEST);
        let run = lab.start(
            domain,
            &[
                "sh",
                "-ec",
                &format!("cd /root/dist; PATH=/usr/local/bin:$PATH\n{script}"),
            ],
        )?;
        if script.contains("idts recv") {
            run.wait_line("listening on")?;
            listening.push(run);
            continue;
        }
        let ended = run.end()?;
        ensure!(
            ended.code == 0,
            "README, in {domain}: {script}: {}",
            ended.stderr
        );
    }
    for run in listening {
        let ended = run.end()?;
        ensure!(ended.code == 0, "README's receiver: {}", ended.stderr);
    }
    judge(lab)
}

/// A file went across, and the device is for root and the group.
fn judge(lab: &Lab) -> Result<()> {
    let sum = |domain: &str| -> Result<String> {
        let output = lab.tb.sh(
            domain,
            "sha256sum </root/dist/idts; sha256sum </root/idts.copy",
        )?;
        Ok(output.stdout_text())
    };
    let text = sum("dom0")?;
    let sums: Vec<_> = text.lines().collect();
    ensure!(
        sums.len() == 2 && sums[0] == sums[1],
        "README's file arrived as another: {sums:?}"
    );
    let node = lab.tb.sh("dom0", "stat -c %a:%G /dev/idts")?.stdout_text();
    ensure!(node.trim() == "660:idts", "/dev/idts is {node}");
    Ok(())
}

fn restore(lab: &Lab) -> Result<()> {
    lab.tb.sh(
        "dom0",
        &format!("PATH=/usr/local/bin:$PATH tunnel-mgr detach {GUEST}"),
    )?;
    for domain in ["dom0", GUEST] {
        lab.tb.unload_module(domain)?;
        lab.tb.sh(domain, RESTORE)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! What a kernel full of checks (`scripts/test --kernel debug`) knows besides what it logs, which
//! every test looks at: memory that nobody refers to any more, and whether lockdep still watches.
//! What a kernel says of itself before any module of ours is in is its own, and is only told; but
//! lockdep ends itself at its first report, whoever caused it, and a run without it shows nothing.

use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use testbed::logs::Fault;
use testbed::Testbed;

use crate::lab::Lab;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak takes no object for lost that is younger than five seconds, and none that it saw for
/// the first time.
const AGE: Duration = Duration::from_secs(6);

/// Whether the testbed's kernel is that one.
pub fn is_on() -> bool {
    std::env::var("IDTS_KERNEL").is_ok_and(|kernel| kernel == "debug")
}

/// What was there before us, in a testbed still without modules: tells the faults of the logs, has
/// kmemleak forget what it found. lockdep must watch: a lock of the kernel's own that it minds is
/// taken out of its sight by a patch (scripts/lib/kernel).
pub fn baseline(tb: &Testbed, faults: &[Fault]) -> Result<()> {
    for fault in faults {
        eprintln!("xen: without our modules: {}: {}", fault.source, fault.line);
    }
    check(tb).context("before our modules came")?;
    for domain in domains(tb) {
        scan(tb, &domain)?;
        tb.sh(&domain, &format!("echo clear >{KMEMLEAK}"))?;
    }
    Ok(())
}

/// Fails if lockdep has stopped in a domain, of a testbed whose kernel has it.
pub fn check(tb: &Testbed) -> Result<()> {
    if !is_on() {
        return Ok(());
    }
    domains(tb).try_for_each(|domain| {
        let watches = lockdep_watches(tb, &domain)?;
        ensure!(watches, "lockdep has stopped in {domain}: debug_locks is 0");
        Ok(())
    })
}

fn domains(tb: &Testbed) -> impl Iterator<Item = String> {
    std::iter::once("dom0".into()).chain(tb.guests())
}

/// With our modules gone again, nothing of what they allocated may be left.
pub fn kmemleak(lab: &Lab) -> Result<()> {
    for domain in Lab::domains() {
        let lost = scan(&lab.tb, domain)?;
        ensure!(lost.is_empty(), "{domain}: lost memory:\n{lost}");
    }
    Ok(())
}

/// Lets kmemleak look twice, and gives what it found.
fn scan(tb: &Testbed, domain: &str) -> Result<String> {
    for _ in 0..2 {
        thread::sleep(AGE);
        tb.sh(domain, &format!("echo scan >{KMEMLEAK}"))
            .context("kmemleak")?;
    }
    Ok(tb.sh(domain, &format!("cat {KMEMLEAK}"))?.stdout_text())
}

/// Whether lockdep has not ended itself.
fn lockdep_watches(tb: &Testbed, domain: &str) -> Result<bool> {
    let stats = tb.sh(domain, "cat /proc/lockdep_stats")?.stdout_text();
    let state = stats
        .lines()
        .find_map(|line| line.trim().strip_prefix("debug_locks:"));
    Ok(state
        .context("no debug_locks in /proc/lockdep_stats")?
        .trim()
        == "1")
}

// SPDX-License-Identifier: GPL-2.0
//! Fronts and backs that are not of one build: of another protocol version, with a feature more or
//! less. They connect on what they have in common, or refuse, and both logs say so.
//!
//! The other build is this one, told at its loading what it can: see kernel/sys/test_override.c.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use testbed::product::module_of;
use testbed::running::HANG;

use crate::lab::{parameters_of, Guest, Lab, GUESTS};
use crate::skips;
use crate::transfer::{move_bytes, ways};

/// Lowest and highest version, features: one more of both; no feature; a later version alone.
const NEWER: &str = "1,2,0x80000001";
const OLDER: &str = "1,1,0";
const LATER: &str = "2,2,1";

/// Brings the other build into a domain.
pub fn push_trial(lab: &Lab, domain: &str) -> Result<()> {
    let module = format!("{}.ko", module_of(domain));
    let path = skips::top().join("target/trial").join(&module);
    lab.tb.push(&path, domain, &format!("/tmp/{module}"))
}

/// Each side in turn is another build than the other.
pub fn apart(lab: &Lab, guest: &Guest) -> Result<()> {
    let both = ["dom0", guest.name];
    for domain in both {
        push_trial(lab, domain)?;
    }
    let queues = lab.counter("dom0", guest.name, "queues")?;
    for domain in both {
        reload(lab, domain, Some(NEWER))?;
        agreed(lab, guest, 1, queues).with_context(|| format!("newer {domain}"))?;
        reload(lab, domain, Some(OLDER))?;
        agreed(lab, guest, 0, 1).with_context(|| format!("older {domain}"))?;
        let words = ["speaks protocol", "speaks protocol"];
        refused(lab, guest, words, || reload(lab, domain, Some(LATER)))
            .with_context(|| format!("later {domain}"))?;
        reload(lab, domain, None)?;
        agreed(lab, guest, 1, queues).with_context(|| format!("{domain} as it was"))?;
    }
    // Anew, for its log has a line a minute on each domain.
    reload(lab, "dom0", None)?;
    overreach(lab, guest)?;
    reload(lab, guest.name, None)?;
    for name in GUESTS {
        lab.tb.wait_connected(name)?;
    }
    Ok(())
}

/// A front answers with a version that its back does not speak, for dom0's xenstore lies to it. The
/// back refuses, starts anew, and then they connect.
fn overreach(lab: &Lab, guest: &Guest) -> Result<()> {
    lab.rmmod(guest.name)?;
    let node = format!(
        "/local/domain/0/backend/idts/{}/0/max-version",
        lab.id(guest.name)?
    );
    wait_waiting(lab, guest)?;
    lab.tb
        .exec("dom0", &["xenstore-write", &node, "2"])?
        .check("xenstore-write")?;
    let words = ["answered version 2", "closed the tunnel before it stood"];
    refused(lab, guest, words, || load(lab, guest.name, Some(NEWER)))?;
    let queues = lab.counter("dom0", guest.name, "queues");
    agreed(lab, guest, 1, queues?)
}

/// Waits until the back waits for a front.
fn wait_waiting(lab: &Lab, guest: &Guest) -> Result<()> {
    wait(|| {
        let list = lab.tb.tunnels()?;
        let ours = list.iter().find(|tunnel| tunnel["name"] == guest.name);
        Ok(ours.is_some_and(|tunnel| tunnel["back"] == "InitWait"))
    })
}

/// Unloads a domain's module and loads another.
pub fn reload(lab: &Lab, domain: &str, trial: Option<&str>) -> Result<()> {
    lab.rmmod(domain)?;
    load(lab, domain, trial)
}

/// Loads the real module, or the one that is told what it can.
fn load(lab: &Lab, domain: &str, trial: Option<&str>) -> Result<()> {
    let Some(trial) = trial else {
        return lab.insmod(domain);
    };
    let others = parameters_of(domain);
    let insmod = format!(
        "insmod /tmp/{}.ko trial={trial} {others}",
        module_of(domain)
    );
    lab.tb.sh(domain, &insmod).map(drop)
}

/// They connect, have agreed on that, and data crosses.
fn agreed(lab: &Lab, guest: &Guest, features: u64, queues: u64) -> Result<()> {
    lab.tb.wait_connected(guest.name)?;
    for (domain, peer) in ways(guest) {
        for (name, wanted) in [("version", 1), ("features", features), ("queues", queues)] {
            let found = lab.counter(domain, peer, name)?;
            if found != wanted {
                bail!("{domain}: {name} is {found}, not {wanted}");
            }
        }
        move_bytes(lab, domain, peer, 10_000)?;
    }
    Ok(())
}

/// `step` has dom0's and the guest's log say these words.
fn refused(
    lab: &Lab,
    guest: &Guest,
    words: [&str; 2],
    step: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let said = || -> Result<[usize; 2]> {
        let count = |domain: &str, words: &str| -> Result<usize> {
            let log = lab.tb.sh(domain, "dmesg")?.stdout_text();
            Ok(log.lines().filter(|line| line.contains(words)).count())
        };
        Ok([count("dom0", words[0])?, count(guest.name, words[1])?])
    };
    let before = said()?;
    step()?;
    wait(|| {
        let now = said()?;
        Ok(now[0] > before[0] && now[1] > before[1])
    })
    .with_context(|| format!("the logs do not say {words:?}"))
}

fn wait(mut fine: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !fine()? {
        if start.elapsed() > HANG {
            bail!("it does not come to that");
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

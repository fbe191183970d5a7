// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr stats`: all that the backend's driver counts.

use anyhow::{bail, Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::Manager;
use crate::cli::Stats;
use crate::kernel::Report;
use crate::output::Named;
use crate::{say, store, sweep};

/// The driver's name for what is about all domains.
const SCHEDULER: &str = "scheduler";

/// What the driver shows of one tunnel.
#[derive(Debug, Serialize)]
struct Domain {
    domid: u16,
    #[serde(flatten)]
    name: Named,
    counters: Report,
}

/// All that it shows.
#[derive(Debug, Serialize)]
struct Shown {
    domains: Vec<Domain>,
    /// Null where one domain was asked for.
    scheduler: Option<Report>,
}

pub fn run(manager: &mut Manager<'_>, args: &Stats) -> Result<()> {
    let shown = match &args.domain {
        Some(text) => one(manager, text)?,
        None => all(manager)?,
    };
    if args.json {
        say::result(&(serde_json::to_string(&shown)? + "\n"))?;
    } else {
        say::result(&text(&shown))?;
    }
    Ok(())
}

fn one(manager: &mut Manager<'_>, text: &str) -> Result<Shown> {
    let domid = manager.tunnel(text)?.front;
    let label = manager.label(domid);
    let domain = domain(manager, domid).with_context(|| {
        format!(
            "the driver shows nothing of {label}: is its tunnel connected, and debugfs mounted?"
        )
    })?;
    Ok(Shown {
        domains: vec![domain],
        scheduler: None,
    })
}

fn all(manager: &mut Manager<'_>) -> Result<Shown> {
    let mut domains = Vec::new();
    for tunnel in sweep::tunnels(manager.store, manager.domain)? {
        domains.extend(domain(manager, tunnel.front));
    }
    let scheduler = manager.kernel.report(SCHEDULER);
    if scheduler.is_none() && domains.is_empty() {
        bail!("the driver shows nothing: is idts_back loaded, and debugfs mounted?");
    }
    Ok(Shown { domains, scheduler })
}

fn domain(manager: &mut Manager<'_>, domid: u16) -> Option<Domain> {
    Some(Domain {
        domid,
        name: store::name_of(manager.store, domid).into(),
        counters: manager.kernel.report(&domid.to_string())?,
    })
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    for domain in &shown.domains {
        text += &format!("domain {} ({})\n", domain.domid, domain.name);
        text += &lines(&domain.counters);
    }
    if let Some(scheduler) = &shown.scheduler {
        text += "scheduler\n";
        text += &lines(scheduler);
    }
    text
}

fn lines(report: &Report) -> String {
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), Into::into);
        format!("  {name:<24} {value:>16}\n")
    };
    report.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};
    use crate::model::Tunnel;

    #[test]
    fn reads_what_the_driver_shows() {
        let root = std::env::temp_dir().join(format!("idts-stats-{}", std::process::id()));
        let dir = root.join("sys/kernel/debug/idts");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("3"), "tx_bytes 5\nbroken no\n").unwrap();
        std::fs::write(dir.join("scheduler"), "policy drr\npicks 7\n").unwrap();
        let mut ground = Ground::new(&[3, 4]);
        for front in [3, 4] {
            Tunnel { front, back: 0 }.create(&mut ground.store).unwrap();
        }
        let mut manager = manager(&mut ground);
        manager.kernel.root = root.clone();
        let shown = all(&mut manager).unwrap();
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"domains":[{"domid":3,"name":"u3","counters":{"broken":"no","tx_bytes":5}}],"#
                .to_string()
                + r#""scheduler":{"picks":7,"policy":"drr"}}"#
        );
        assert!(text(&shown).contains("domain 3 (u3)\n  broken "));
        assert!(one(&mut manager, "u3").unwrap().scheduler.is_none());
        let error = one(&mut manager, "4").unwrap_err().to_string();
        assert!(error.contains("domain 4 (u4)"), "{error}");
        std::fs::remove_dir_all(&root).unwrap();
        assert!(all(&mut manager).is_err());
    }
}

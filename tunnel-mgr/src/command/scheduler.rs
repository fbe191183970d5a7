// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr scheduler`: the policy and the total cap of all domains.

use anyhow::{bail, Context, Result};
use idts::figure;
use idts_core::policy::{scheduler_policy, scheduler_rate, Key, SCHEDULER_POLICY, SCHEDULER_RATE};
use idts_core::sched::Policy;

use super::Manager;
use crate::cli::Scheduler;
use crate::say;
use crate::settings::value;
use crate::store::{read, transact};
use crate::text::escape;

pub fn run(manager: &mut Manager<'_>, args: &Scheduler) -> Result<()> {
    let changes: Vec<_> = args
        .changes
        .iter()
        .map(|text| change(text))
        .collect::<Result<_>>()?;
    let settings = manager.settings();
    let dir = settings.scheduler();
    if changes.is_empty() {
        return Ok(say::result(&show(manager, &dir)?)?);
    }
    transact(manager.store, |store| {
        for (key, value) in &changes {
            settings.put(store, &format!("{dir}/{key}"), value)?;
        }
        Ok(())
    })
}

/// The key and value that an argument means: a policy, or `rate=BYTES`.
fn change(text: &str) -> Result<(&'static str, String)> {
    if let Some(policy) = scheduler_policy(text.as_bytes()) {
        return Ok((SCHEDULER_POLICY, policy.name().into()));
    }
    let Some(rate) = text.strip_prefix("rate=") else {
        let policies = Policy::ALL.map(Policy::name).join(", ");
        bail!("`{text}` is neither a policy ({policies}) nor rate=SIZE");
    };
    let rate = figure::parse(rate).map(|rate| rate.to_string());
    let rate = rate.filter(|rate| scheduler_rate(rate.as_bytes()).is_some());
    let rate = rate.with_context(|| format!("`{text}`: not {}", value::grammar(Key::Rate)))?;
    Ok((SCHEDULER_RATE, rate))
}

fn show(manager: &mut Manager<'_>, dir: &str) -> Result<String> {
    let mut text = String::new();
    for (key, default) in [
        (SCHEDULER_POLICY, Policy::default().name()),
        (SCHEDULER_RATE, Key::Rate.default_text()),
    ] {
        let value = read(manager.store, &format!("{dir}/{key}"))?;
        text += &match value {
            Some(value) => {
                let text = escape(&value);
                let text = text.parse().map_or(text, figure::show);
                format!("{key}={text}\n")
            }
            None => format!("{key}={default}  (default)\n"),
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};

    const DIR: &str = "/local/domain/0/idts/scheduler";

    fn scheduler(ground: &mut Ground, changes: &[&str]) -> Result<()> {
        let changes = changes.iter().map(|c| c.to_string()).collect();
        run(&mut manager(ground), &Scheduler { changes })
    }

    #[test]
    fn writes_policy_and_rate() {
        let mut ground = Ground::new(&[]);
        scheduler(&mut ground, &["prio", "rate=2M"]).unwrap();
        assert_eq!(ground.store.value(&format!("{DIR}/policy")), Some("prio"));
        assert_eq!(ground.store.value(&format!("{DIR}/rate")), Some("2097152"));
        assert_eq!(ground.store.permissions(&format!("{DIR}/rate")), "n0");
        assert_eq!((ground.store.commits, ground.store.loose_writes), (1, 0));
        scheduler(&mut ground, &["rate=0"]).unwrap();
        let text = show(&mut manager(&mut ground), DIR).unwrap();
        assert_eq!(text, "policy=prio\nrate=0\n");
    }

    #[test]
    fn refuses_the_rest() {
        let mut ground = Ground::new(&[]);
        for text in ["cfs", "rate=", "rate=fast", "weight=1", "rate=99999G"] {
            assert!(scheduler(&mut ground, &["rr", text]).is_err(), "{text}");
        }
        assert_eq!(ground.store.value(DIR), None);
        scheduler(&mut ground, &[]).unwrap();
        let text = show(&mut manager(&mut ground), DIR).unwrap();
        assert_eq!(text, "policy=drr  (default)\nrate=0  (default)\n");
    }
}

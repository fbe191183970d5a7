// SPDX-License-Identifier: GPL-2.0
//! Whether a kernel has slowed the events of a tunnel down, as it does with a peer that sends them
//! for nothing. In dom0 Linux counts for how long; for guests, whose devices have no such file, the
//! driver counts how often. A driver without that count is asked nothing.

use std::collections::BTreeMap;

use anyhow::{ensure, Context, Result};

use crate::running::Testbed;

/// Prints, of each tunnel: the peer, which tunnel it is of all that were there with it, a counter's
/// name and its value. The driver's file of a tunnel comes and goes with it.
const LOOK: &str = "cd /sys/kernel/debug/idts 2>/dev/null || exit 0
for peer in *; do
    grep -q '^events_delayed ' $peer || continue
    tunnel=$(stat -c %i $peer)
    jiffies=/sys/bus/xen-backend/devices/idts-$peer-0/xenbus/jiffies_eoi_delayed
    [ ! -e $jiffies ] || echo $peer $tunnel jiffies_eoi_delayed $(cat $jiffies)
    sed -n \"s/^events_delayed /$peer $tunnel &/p\" $peer
done";

/// A counter of a tunnel: domain, peer, which tunnel, name.
type Key = (String, u32, u64, String);

/// What the counters of some domains were at a time.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Delays(BTreeMap<Key, u64>);

impl Delays {
    /// Looks into these domains, which have debugfs mounted.
    pub fn now<'a>(tb: &Testbed, domains: impl IntoIterator<Item = &'a str>) -> Result<Delays> {
        let mut all = Delays::default();
        for domain in domains {
            let said = tb.sh(domain, LOOK)?.stdout_text();
            for line in said.lines() {
                let (key, value) = parse(domain, line).with_context(|| format!("{line:?}"))?;
                all.0.insert(key, value);
            }
        }
        Ok(all)
    }

    /// Fails if a counter of a tunnel that was there `before` has moved on.
    pub fn check_since(&self, before: &Delays) -> Result<()> {
        for (key, now) in &self.0 {
            let then = before.0.get(key).unwrap_or(now);
            let (domain, peer, _, name) = key;
            ensure!(
                now == then,
                "{domain} slowed the events of domain {peer} down: {name} went from {then} to {now}"
            );
        }
        Ok(())
    }

    /// Fails if a counter is not where it was when its tunnel began.
    pub fn check_none(&self) -> Result<()> {
        let zeros = self.0.keys().map(|key| (key.clone(), 0)).collect();
        self.check_since(&Delays(zeros))
    }
}

fn parse(domain: &str, line: &str) -> Option<(Key, u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [peer, tunnel, name, value] = words.as_slice() else {
        return None;
    };
    let key = (
        domain.into(),
        peer.parse().ok()?,
        tunnel.parse().ok()?,
        name.to_string(),
    );
    Some((key, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(lines: &[&str]) -> Delays {
        let all = lines.iter().map(|line| parse("dom0", line).unwrap());
        Delays(all.collect())
    }

    #[test]
    fn only_the_same_tunnel_is_judged() {
        let before = delays(&["1 70 jiffies_eoi_delayed 4", "2 71 jiffies_eoi_delayed 0"]);
        assert!(before.check_since(&before).is_ok());
        let anew = delays(&["1 90 jiffies_eoi_delayed 0", "2 71 jiffies_eoi_delayed 0"]);
        assert!(anew.check_since(&before).is_ok());
        let slowed = delays(&["1 90 jiffies_eoi_delayed 0", "2 71 jiffies_eoi_delayed 3"]);
        let why = slowed.check_since(&before).unwrap_err().to_string();
        assert_eq!(
            why,
            "dom0 slowed the events of domain 2 down: jiffies_eoi_delayed went from 0 to 3"
        );
        assert!(slowed.check_none().is_err());
        assert!(anew.check_none().is_ok());
    }
}

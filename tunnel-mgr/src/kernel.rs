// SPDX-License-Identifier: GPL-2.0
//! What this domain's kernel shows of a tunnel outside of xenstore: whether the
//! backend's device is still registered, and the driver's counters.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use idts_core::nodes::DEVICE;
use serde_json::Value;

use crate::model::Tunnel;

/// Sysfs tells no changes, so it is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The counters of a tunnel, by name.
pub type Counters = BTreeMap<String, u64>;

/// All that the driver shows of something, by name: numbers, or words.
pub type Report = BTreeMap<String, Value>;

/// The kernel, seen from `root`.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub root: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Kernel {
    /// Whether the backend's device is registered: a new one of the same name is not
    /// seen before it is gone.
    pub fn holds(&self, tunnel: Tunnel) -> bool {
        let device = format!("sys/bus/xen-backend/devices/{DEVICE}-{}-0", tunnel.front);
        self.root.join(device).exists()
    }

    /// Waits until it is unregistered. False when the deadline passed first.
    pub fn wait_until_gone(&self, tunnel: Tunnel, deadline: Instant) -> bool {
        while self.holds(tunnel) {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_AGAIN);
        }
        true
    }

    /// The driver's counters, where it shows them.
    pub fn counters(&self, tunnel: Tunnel) -> Option<Counters> {
        let report = self.report(&tunnel.front.to_string())?;
        let number = |(name, value): (String, Value)| Some((name, value.as_u64()?));
        Some(report.into_iter().filter_map(number).collect())
    }

    /// What the driver shows under a name: a tunnel's domain, or `scheduler`.
    pub fn report(&self, name: &str) -> Option<Report> {
        let path = format!("sys/kernel/debug/{DEVICE}/{name}");
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(parse(&text))
    }
}

/// Lines of a name and a value.
fn parse(text: &str) -> Report {
    let line = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        let value = value.trim();
        let value = value
            .parse::<u64>()
            .map_or_else(|_| Value::from(value), Value::from);
        Some((name.trim_end_matches(':').to_string(), value))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_lines_of_name_and_value() {
        let report = parse("tx_bytes 12\nrx_bytes: 7\nbroken no\n\nchannels\t3\n");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"broken":"no","channels":3,"rx_bytes":7,"tx_bytes":12}"#
        );
    }

    #[test]
    fn absence_is_no_error() {
        let kernel = Kernel {
            root: "/nowhere".into(),
        };
        let tunnel = Tunnel { front: 1, back: 0 };
        assert_eq!(kernel.counters(tunnel), None);
        assert!(kernel.wait_until_gone(tunnel, Instant::now()));
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What this domain's kernel shows of a tunnel outside of xenstore: whether the
//! backend's device is still registered, and the driver's counters.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use idts_core::nodes::DEVICE;

use crate::model::Tunnel;

/// Sysfs tells no changes, so it is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The counters of a tunnel, by name.
pub type Counters = BTreeMap<String, u64>;

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
    /// Waits until the backend's device is unregistered: a new one of the same
    /// name is not seen before. False when the deadline passed first.
    pub fn wait_until_gone(&self, tunnel: Tunnel, deadline: Instant) -> bool {
        let device = format!("sys/bus/xen-backend/devices/{DEVICE}-{}-0", tunnel.front);
        let path = self.root.join(device);
        while path.exists() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_AGAIN);
        }
        true
    }

    /// The driver's counters, where it shows them.
    pub fn counters(&self, tunnel: Tunnel) -> Option<Counters> {
        let path = format!("sys/kernel/debug/{DEVICE}/{}", tunnel.front);
        fs::read_to_string(self.root.join(path))
            .ok()
            .map(|text| parse(&text))
    }
}

/// Lines of a name and a number; others are for other readers.
fn parse(text: &str) -> Counters {
    let line = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((
            name.trim_end_matches(':').to_string(),
            value.trim().parse().ok()?,
        ))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_lines_of_name_and_number() {
        let counters = parse("tx_bytes 12\nrx_bytes: 7\nstate Connected\n\nchannels\t3\n");
        let expected = [("channels", 3), ("rx_bytes", 7), ("tx_bytes", 12)];
        assert_eq!(
            counters,
            expected
                .map(|(name, value)| (name.to_string(), value))
                .into()
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

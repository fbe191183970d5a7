// SPDX-License-Identifier: GPL-2.0
//! Xen's own count of what each domain has granted and which event channels it has.
//!
//! Xen prints both tables on its console when told to; the serial log has all of that, while
//! Xen's ring of messages may have lost its beginning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};

use crate::running::{Testbed, HANG};

/// Xen's last words on grants.
const END: &str = "gnttab_usage_print_all ] done";
/// How often the serial log is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What one domain has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its pages that another domain has mapped or copies.
    pub grants: usize,
    /// Its event channels, of all kinds.
    pub channels: usize,
}

/// What all domains have, by domain id.
pub type Tables = BTreeMap<u32, Counts>;

impl Testbed {
    /// Counts, once they stay as they are: what the last command used may go a little later.
    pub fn tables(&self) -> Result<Tables> {
        let start = Instant::now();
        let mut last = self.tables_now()?;
        loop {
            let found = self.tables_now()?;
            if found == last {
                return Ok(found);
            }
            if start.elapsed() > HANG {
                bail!("tables do not settle: {}", difference(&last, &found));
            }
            last = found;
        }
    }

    /// Counts now. A count of its own takes a command in dom0, which leaves no trace.
    fn tables_now(&self) -> Result<Tables> {
        let mut serial = File::open(self.place().serial_log())?;
        let from = serial.seek(SeekFrom::End(0))?;
        self.xl(&["debug-keys", "eg"])?;
        let start = Instant::now();
        loop {
            let mut bytes = Vec::new();
            serial.seek(SeekFrom::Start(from))?;
            serial.read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(END) {
                return Ok(parse(&text));
            }
            if start.elapsed() > HANG {
                bail!("Xen does not print its tables");
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until the counts are `wanted`: what a kernel frees, it may free a little later.
    pub fn wait_tables(&self, wanted: &Tables) -> Result<()> {
        let start = Instant::now();
        loop {
            let found = self.tables_now()?;
            if found == *wanted {
                return Ok(());
            }
            if start.elapsed() > HANG {
                bail!("tables do not come back: {}", difference(wanted, &found));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn difference(wanted: &Tables, found: &Tables) -> String {
    let ids: std::collections::BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let unequal = ids.into_iter().filter(|id| wanted.get(id) != found.get(id));
    let told = unequal.map(|id| {
        let (wanted, found) = (wanted.get(id), found.get(id));
        format!("domain {id}: wanted {wanted:?}, found {found:?}")
    });
    told.collect::<Vec<_>>().join("; ")
}

/// Reads what keys `e` and `g` print. Lines of dom0's own console may stand between, and the end of
/// a line of Xen's may come after them.
fn parse(text: &str) -> Tables {
    let mut tables = Tables::new();
    let mut domain = None;
    for line in text.lines().filter_map(|line| line.split_once("(XEN) ")) {
        let line = line.1.trim();
        if let Some(rest) = line.strip_prefix("Event channel information for domain ") {
            domain = leading_number(rest);
        } else if let Some(rest) = line.strip_prefix("grant-table for remote d") {
            domain = leading_number(rest);
        } else if let Some(counts) = domain.map(|id| tables.entry(id).or_default()) {
            counts.grants += usize::from(line.starts_with("[0x"));
            counts.channels += usize::from(is_channel(line));
        }
    }
    tables
}

/// `       1 [0/0/  -   ]: s=3 n=0 x=0 d=1 p=5`, of which `1 [0/0/` is printed at once.
fn is_channel(line: &str) -> bool {
    line.split_once(" [")
        .is_some_and(|(port, _)| port.parse::<u32>().is_ok())
}

fn leading_number(text: &str) -> Option<u32> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
(XEN) Event channel information for domain 0:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        1 [0/0/  -   ]: s=5 n=0 x=0 v=0
[  12.3] a line of dom0's own
(XEN)        2 [0/1/  -   ]: s=6 n=0 x=0
(XEN)        3 [0/1/[  12.4] another one
  -   ]: s=6 n=0 x=0
(XEN) gnttab_usage_print_all [ key 'g' pressed
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d1 (v1)
(XEN)   1 frames (64 max), 1 maptrack frames (1024 max)
(XEN) [0x000]      0 0x07ef35 0x00000001          0 0x07ef35 0x19
(XEN) gnttab_usage_print_all ] done
";

    #[test]
    fn both_tables_are_counted() {
        let tables = parse(SAMPLE);
        assert_eq!(
            tables[&0],
            Counts {
                grants: 0,
                channels: 3
            }
        );
        assert_eq!(
            tables[&1],
            Counts {
                grants: 1,
                channels: 0
            }
        );
    }
}

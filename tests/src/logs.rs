// SPDX-License-Identifier: GPL-2.0
//! What the domains and Xen have to say, and what of it must not be.

use std::collections::HashSet;
use std::fs;

use anyhow::Result;

use crate::running::Testbed;

/// Words that a healthy system does not log.
const BAD: [&str; 9] = [
    "WARNING:",
    "BUG",
    "Oops",
    "stuck",
    "hung task",
    "lockup",
    "Call Trace",
    "panic",
    "general protection",
];
/// Lines that hold such a word and mean no harm, each with its reason.
const HARMLESS: [&str; 4] = [
    // dom0's command line and help texts name options.
    "Kernel command line:",
    "panic=",
    // Mitigations are listed by the name of the file that holds them.
    "arch/x86/kernel/cpu/bugs",
    // A message on how oopses would be handled.
    "pstore: Using crash dump",
];

/// A line that must not be, and who said it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Domain, or `xen`.
    pub source: String,
    /// The line.
    pub line: String,
}

impl Fault {
    /// What was said, without when, on which CPU and by what.
    fn text(&self) -> &str {
        let text = self
            .line
            .split_once("] ")
            .map_or(&*self.line, |line| line.1);
        text.split_once(", CPU#").map_or(text, |text| text.0)
    }
}

/// Tells faults that are new from those that were there.
#[derive(Default)]
pub struct FaultWatch {
    seen: HashSet<Fault>,
    known: HashSet<String>,
}

impl FaultWatch {
    /// Faults that were not there at the last call, and are not known.
    pub fn fresh(&mut self, testbed: &Testbed) -> Result<Vec<Fault>> {
        let all = testbed.log_faults()?;
        Ok(all
            .into_iter()
            .filter(|fault| self.seen.insert(fault.clone()) && !self.known.contains(fault.text()))
            .collect())
    }

    /// Holds all that was said for known: no news when a domain made later says it too.
    pub fn know_all(&mut self) {
        self.known = self.seen.iter().map(|f| f.text().to_string()).collect();
    }
}

impl Testbed {
    /// What a domain wrote to its console since it was made; for dom0 the serial line, with Xen's.
    pub fn console_log(&self, domain: &str) -> Result<String> {
        let bytes = if domain == "dom0" {
            fs::read(self.place().serial_log())?
        } else {
            let path = format!("/var/log/xen/console/guest-{domain}.log");
            self.exec("dom0", &["cat", &path])?
                .check(&format!("console of {domain}"))?
                .stdout
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lines in Xen's log, dom0's and on the guests' consoles (of those that are no more, too) that
    /// must not be. Nothing is asked of a guest: it may be paused, and its console has it all.
    pub fn log_faults(&self) -> Result<Vec<Fault>> {
        let mut faults = find("xen", &self.console_log("dom0")?);
        let script =
            "dmesg; echo '== consoles'; cat /var/log/xen/console/guest-*.log 2>/dev/null || true";
        let logs = self.sh("dom0", script)?.stdout_text();
        let (dom0, consoles) = logs.split_once("== consoles\n").unwrap_or((&logs, ""));
        faults.extend(find("dom0", dom0));
        faults.extend(find("consoles", consoles));
        Ok(faults)
    }
}

fn find(source: &str, log: &str) -> Vec<Fault> {
    let bad = |line: &&str| {
        BAD.iter().any(|word| line.contains(word))
            && !HARMLESS.iter().any(|known| line.contains(known))
    };
    let fault = |line: &str| Fault {
        source: source.into(),
        line: line.trim_end().into(),
    };
    log.lines().filter(bad).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found() {
        let log = "[1.0] all is well\n[1.1] BUG: unable to handle page fault\n[1.2] debugging on\n";
        let found = find("u1", log);
        assert_eq!(found.len(), 1);
        assert!(found[0].line.contains("page fault"));
    }

    #[test]
    fn the_same_is_the_same_later() {
        let said = |line: &str| find("u1", line).remove(0).text().to_string();
        let first = said("[    2.631950] WARNING: a.c:362 at f+0x46/0x50, CPU#0: swapper/0/0");
        assert_eq!(first, "WARNING: a.c:362 at f+0x46/0x50");
        assert_eq!(
            first,
            said("[ 9.1] WARNING: a.c:362 at f+0x46/0x50, CPU#1: boot/3")
        );
    }
}

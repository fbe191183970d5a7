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

/// Warnings of a stock kernel in an emulated machine that stood still, by file and function; each
/// with its reason. Who finds nothing else may try once more what he did.
const STOOD_STILL: [(&str, &str); 1] = [
    // A callback forwards its timer, which somebody has queued meanwhile and whose time is over. Seen
    // once, in dom0 and a guest at one instant, and never brought on purpose; what reading finds in
    // 7.2 is the scheduler's server of fair tasks. While its callback stands still before the run
    // queue's lock, another CPU charges the server, cannot cancel the timer (update_curr_dl_se) and
    // queues it for 950 ms later; dl_server_timer, if it goes on after that, finds a new deadline and
    // forwards. We have one timer, the broker's, which does not forward itself; who halts in place is
    // a running task as any other, and touches no timer.
    ("kernel/time/hrtimer.c", "hrtimer_forward"),
];
/// The last line of what a kernel says of a warning.
const END_OF_WARNING: &str = "---[ end trace";

/// A line that must not be, and who said it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Domain, or `xen`.
    pub source: String,
    /// The line.
    pub line: String,
    /// Part of a warning that tells of the machine, not of us: it stood still.
    pub stood_still: bool,
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
    let bad = |line: &str| {
        BAD.iter().any(|word| line.contains(word))
            && !HARMLESS.iter().any(|known| line.contains(known))
    };
    let mut faults = Vec::new();
    let mut stood_still = false;
    for line in log.lines() {
        if line.contains("WARNING:") {
            stood_still = STOOD_STILL.iter().any(|known| is_warning(line, *known));
        }
        if bad(line) {
            faults.push(Fault {
                source: source.into(),
                line: line.trim_end().into(),
                stood_still,
            });
        }
        stood_still &= !line.contains(END_OF_WARNING);
    }
    faults
}

/// Whether a line is the first of a warning of this function.
fn is_warning(line: &str, (file, function): (&str, &str)) -> bool {
    line.contains(&format!("WARNING: {file}:")) && line.contains(&format!(" at {function}+"))
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
    fn a_machine_that_stood_still_is_told_apart() {
        let log = "\
[9.1] WARNING: kernel/time/hrtimer.c:1071 at hrtimer_forward+0x8c/0xa0, CPU#1: swapper/1/0
[9.1] Call Trace:
[9.1] ---[ end trace 0000000000000000 ]---
[9.2] Call Trace:
[9.3] WARNING: kernel/time/hrtimer.c:1110 at enqueue_hrtimer+0x8c/0xa0, CPU#1: swapper/1/0
[9.4] WARNING: kernel/time/tick.c:1 at hrtimer_forward+0x8c/0xa0, CPU#1: swapper/1/0
[9.5] Call Trace:
";
        let found: Vec<_> = find("u1", log).iter().map(|f| f.stood_still).collect();
        assert_eq!(found, [true, true, false, false, false, false]);
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

// SPDX-License-Identifier: GPL-2.0
//! The modules where they have nothing to drive: without Xen, and before xenstored runs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{ensure, Result};

use crate::bed::folder;
use crate::entry::{run, testbed, Ended};

const MODULES: [&str; 2] = ["idts_front", "idts_back"];
/// What a kernel says of itself when it is in trouble.
const TROUBLE: &str = "dmesg | grep -E 'BUG|WARNING:|Oops|Call Trace|[Uu]nknown symbol'";

/// A testbed of its own for a test.
struct Bed(PathBuf);

impl Bed {
    /// Boots one, has `steps` use it, and ends it whatever came of that.
    fn with(options: &[&str], steps: fn(&Bed) -> Result<()>) -> Result<()> {
        let bed = Bed(folder("loading")?);
        let up = ["up", "--no-build", "--bare"];
        let args: Vec<_> = up.iter().chain(options).copied().collect();
        let result = bed
            .run(&args)
            .and_then(|ended| ended.expect(0, ""))
            .and_then(|_| steps(&bed));
        bed.run(&["down"])?.expect(0, "")?;
        result
    }

    fn run(&self, args: &[&str]) -> Result<Ended> {
        let mut command: Command = testbed(args);
        command.env("IDTS_STATE", &self.0);
        run(command)
    }

    fn sh(&self, domain: &str, script: &str) -> Result<Ended> {
        self.run(&["exec", domain, "--", "sh", "-c", script])
    }

    /// The kernel's log has nothing that it should not.
    fn is_sound(&self, domain: &str) -> Result<()> {
        let trouble = self.sh(domain, TROUBLE)?.text();
        ensure!(trouble.is_empty(), "{domain}: {trouble}");
        Ok(())
    }
}

/// On a machine without Xen neither module can be loaded, and nothing else comes of it.
pub fn without_xen() -> Result<()> {
    Bed::with(&["--plain"], |bed| {
        for module in MODULES {
            let insmod = format!("insmod /usr/lib/idts/{module}.ko");
            let ended = bed.sh("dom0", &insmod)?;
            bed.is_sound("dom0")?;
            ensure!(ended.code != 0, "{module} can be loaded");
            // busybox ends with the errno: ENODEV.
            ended.expect(19, "No such device")?;
        }
        Ok(())
    })
}

/// dom0's module does not wait for xenstored; once that runs tunnels come, and it hears what is
/// set for domains.
pub fn before_xenstored() -> Result<()> {
    Bed::with(&["--early"], |bed| {
        let early = bed.sh("dom0", "cat /run/early")?;
        ensure!(early.text() == "loaded\n", "it waits for xenstored");
        bed.sh("u1", "insmod /usr/lib/idts/idts_front.ko")?
            .expect(0, "")?;
        bed.sh("dom0", "tunnel-mgr attach u1")?.expect(0, "")?;
        let echo = "idts echo 7000 >/dev/null 2>&1 & sleep 1";
        bed.sh("dom0", echo)?.expect(0, "")?;
        let ping = "idts ping 0:7000 -c 1";
        bed.sh("u1", ping)?.expect(0, "")?;
        bed.sh("dom0", "tunnel-mgr set u1 connect=none")?
            .expect(0, "")?;
        // It is told, not asked: the change is on its way.
        let denied = format!("while {ping}; do sleep 1; done");
        bed.sh("u1", &denied)?.expect(0, "Permission denied")?;
        bed.is_sound("dom0")?;
        bed.is_sound("u1")
    })
}

// SPDX-License-Identifier: GPL-2.0
//! Verbs that print: `console`, `status`, `check`.

use std::io::{Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testbed::running::spec;
use testbed::session::{own, Streams};
use testbed::Testbed;

/// How often a followed serial log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Prints a console's log; goes on with it if told to, until Ctrl-C.
pub fn console(name: &str, follow: bool) -> Result<()> {
    let testbed = Testbed::attach()?;
    if !follow {
        std::io::stdout().write_all(testbed.console_log(name)?.as_bytes())?;
        return Ok(());
    }
    if name == "dom0" {
        return follow_serial(&testbed);
    }
    let path = format!("/var/log/xen/console/guest-{name}.log");
    let spec = spec(["tail", "-n", "+1", "-f", &path].map(String::from).to_vec())?;
    let streams = Streams {
        stdin: None,
        stdout: own(std::io::stdout())?,
        stderr: own(std::io::stderr())?,
    };
    testbed.spawn_with("dom0", &spec, streams)?.wait()?;
    Ok(())
}

fn follow_serial(testbed: &Testbed) -> Result<()> {
    let mut file = std::fs::File::open(testbed.place().serial_log())?;
    let mut seen = 0;
    while testbed.is_running() {
        file.seek(SeekFrom::Start(seen))?;
        let mut bytes = Vec::new();
        seen += file.read_to_end(&mut bytes)? as u64;
        std::io::stdout().write_all(&bytes)?;
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Tells what runs.
pub fn status(as_json: bool) -> Result<()> {
    let Some(testbed) = Testbed::find()? else {
        println!(
            "{}",
            if as_json {
                "{\"running\":false}"
            } else {
                "no testbed is running"
            }
        );
        return Ok(());
    };
    let domains = testbed.domains()?;
    if as_json {
        let state = testbed.state();
        let answer = json!({
            "running": true,
            "pid": state.pid,
            "config": state.config,
            "serial_log": testbed.place().serial_log(),
            "domains": domains,
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    let time = if testbed.config().icount {
        ", counting instructions"
    } else {
        ""
    };
    println!("running: emulator is process {}{time}", testbed.state().pid);
    println!("serial log: {}", testbed.place().serial_log().display());
    for domain in domains {
        println!("{:<12} id {:<4} {}", domain.name, domain.id, domain.state);
    }
    Ok(())
}

/// Prints Xen's tables and the faults in the logs; 1 when there are faults.
pub fn check() -> Result<u8> {
    let testbed = Testbed::attach()?;
    for (id, counts) in testbed.tables()? {
        println!(
            "domain {id}: {} grants, {} event channels",
            counts.grants, counts.channels
        );
    }
    let faults = testbed.log_faults()?;
    for fault in &faults {
        println!("{}: {}", fault.source, fault.line);
    }
    Ok(u8::from(!faults.is_empty()))
}

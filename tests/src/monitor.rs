// SPDX-License-Identifier: GPL-2.0
//! The emulator's monitor, which a testbed that counts instructions has: what it executes, one
//! instruction after the other (QEMU's QMP reference, `human-monitor-command`).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};

use crate::running::Testbed;

/// Only ever means 'hung'.
const HUNG: Duration = Duration::from_secs(600);

/// A connection to the monitor.
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Testbed {
    /// Connects to the emulator's monitor.
    pub fn monitor(&self) -> Result<Monitor> {
        ensure!(
            self.config().icount,
            "only a counting testbed has a monitor"
        );
        let path = self.place().monitor();
        let stream = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
        let mut monitor = Monitor {
            stream: BufReader::new(stream),
        };
        monitor.line().context("the monitor's greeting")?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }
}

impl Monitor {
    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the emulator ended");
        Ok(serde_json::from_str(&line)?)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.stream.get_mut().write_all(text.as_bytes())?;
        loop {
            let answer = self.line()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            // Events come in between.
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
        }
    }

    /// A command as a person types it; some of them say what is wrong.
    fn human(&mut self, command: &str) -> Result<()> {
        let said = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        let said = said.as_str().unwrap_or_default().trim();
        ensure!(said.is_empty(), "{command}: {said}");
        Ok(())
    }

    /// Has the emulator write what it executes to `file`, until that has so many bytes. Each
    /// instruction is a line, `Trace CPU: HOST [BASE/ADDRESS/...`.
    pub fn trace(&mut self, file: &Path, bytes: u64) -> Result<()> {
        let _ = fs::remove_file(file);
        self.human(&format!("logfile {}", file.display()))?;
        self.human("one-insn-per-tb on")?;
        self.human("log exec,nochain")?;
        let start = Instant::now();
        let size = || fs::metadata(file).map_or(0, |about| about.len());
        while size() < bytes && start.elapsed() < HUNG {
            thread::sleep(Duration::from_millis(20));
        }
        self.human("log none")?;
        self.human("one-insn-per-tb off")?;
        self.human("logfile /dev/null")?;
        ensure!(size() >= bytes, "the emulator executes nothing");
        Ok(())
    }
}

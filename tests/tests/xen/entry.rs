// SPDX-License-Identifier: GPL-2.0
//! The project's commands on this machine, run as a person runs them: by their scripts.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::skips;
use anyhow::{bail, ensure, Context, Result};
use rustix::process::{kill_process, Pid, Signal};

/// A command that is not over after this long hangs: some build and boot.
const HANG: Duration = Duration::from_secs(1800);

/// How a command ended and what it said.
pub struct Ended {
    /// Its exit code, or 128 and the signal that ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// The exit code must be this one, and standard error hold these words.
    pub fn expect(self, code: i32, words: &str) -> Result<Ended> {
        ensure!(
            self.code == code,
            "exit code {}, not {code}: {}",
            self.code,
            self.stderr
        );
        ensure!(
            self.stderr.contains(words),
            "not a word of `{words}` in: {}",
            self.stderr
        );
        Ok(self)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A script of the project with arguments.
pub fn script(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(skips::top().join("scripts").join(name));
    command.args(args);
    command
}

/// `scripts/testbed`.
pub fn testbed(args: &[&str]) -> Command {
    script("testbed", args)
}

/// `scripts/testbed exec`.
pub fn exec(domain: &str, argv: &[&str]) -> Command {
    let mut command = testbed(&["exec", domain, "--"]);
    command.args(argv);
    command
}

/// Starts a command with a pipe for each stream.
pub fn start(mut command: Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().with_context(|| format!("{command:?}"))
}

/// Runs a command without input to its end.
pub fn run(command: Command) -> Result<Ended> {
    run_with(command, b"")
}

/// Runs a command with this input to its end.
pub fn run_with(command: Command, input: &[u8]) -> Result<Ended> {
    let mut child = start(command)?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    thread::scope(|scope| {
        scope.spawn(move || {
            // A command need not read all, or any, of its input.
            let _ = stdin.write_all(input);
        });
        finish(child)
    })
}

/// Waits for the end of a command; one that is not over after long hangs, and is killed.
pub fn finish(child: Child) -> Result<Ended> {
    let pid = Pid::from_child(&child);
    let (done, waiting) = mpsc::channel();
    // Ends with the command; nobody may be left to be told.
    thread::spawn(move || done.send(child.wait_with_output()).is_ok());
    let Ok(output) = waiting.recv_timeout(HANG) else {
        kill_process(pid, Signal::KILL)?;
        bail!("process {pid:?} hangs");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output?;
    Ok(Ended {
        code: code(status),
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Sends a signal to a running command.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

fn code(status: ExitStatus) -> i32 {
    let signal = || status.signal().unwrap_or(0);
    status.code().unwrap_or_else(|| 128 + signal())
}

// SPDX-License-Identifier: GPL-2.0
//! A program that runs in a domain while the test goes on: its lines are waited for, its report is
//! read at its end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use testbed::running::HANG;
use testbed::Child;

/// What a program said on standard error so far; `over` when there will be no more.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    all: String,
    over: bool,
}

#[derive(Default)]
struct Shared {
    said: Mutex<Said>,
    changed: Condvar,
}

/// A running program.
pub struct Run {
    what: String,
    child: Child,
    shared: Arc<Shared>,
    stdout: Option<JoinHandle<Vec<u8>>>,
}

/// How it ended.
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Run {
    pub fn new(what: String, mut child: Child) -> Run {
        let shared = Arc::new(Shared::default());
        if let Some(pipe) = child.stderr.take() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(&shared, BufReader::new(pipe)));
        }
        let stdout = child.stdout.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // However it ends, this is all there is.
                let _ = pipe.read_to_end(&mut bytes);
                bytes
            })
        });
        Run {
            what,
            child,
            shared,
            stdout,
        }
    }

    /// Waits for a line that begins so, from the first that was not yet asked for.
    pub fn wait_line(&self, begin: &str) -> Result<String> {
        let deadline = Instant::now() + HANG;
        let mut said = lock(&self.shared.said);
        loop {
            while let Some(line) = said.lines.pop_front() {
                if line.starts_with(begin) {
                    return Ok(line);
                }
            }
            if said.over {
                bail!(
                    "{} ended without `{begin}`: {}",
                    self.what,
                    said.all.trim_end()
                );
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "{} hangs before `{begin}`: {}",
                    self.what,
                    said.all.trim_end()
                );
            }
            let waited = self.shared.changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it moved more than it had when this was called.
    pub fn wait_progress(&self) -> Result<()> {
        lock(&self.shared.said).lines.clear();
        self.wait_line("moved").map(drop)
    }

    /// True when it says nothing of progress for this long.
    pub fn stands_still(&self, for_long: Duration) -> bool {
        lock(&self.shared.said).lines.clear();
        thread::sleep(for_long);
        lock(&self.shared.said).lines.is_empty()
    }

    /// Sends one line to its standard input.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is closed")?;
        Ok(std::io::Write::write_all(
            stdin,
            format!("{line}\n").as_bytes(),
        )?)
    }

    /// Ends it by SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.child.kill()
    }

    /// Sends a signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.child.signal(number)
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it by SIGKILL, unless it has ended by itself, and waits for that.
    pub fn stop(self) -> Result<Ended> {
        // To one that has just ended no signal can be sent; where it could not be told for
        // another reason, waiting for its end says so.
        let _ = self.kill();
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Ended> {
        drop(self.child.stdin.take());
        let code = self.child.wait_for(HANG)?;
        let stdout = self
            .stdout
            .take()
            .map(|thread| thread.join().unwrap_or_default());
        let mut said = lock(&self.shared.said);
        while !said.over {
            let waited = self.shared.changed.wait(said);
            said = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Ended {
            code,
            stdout: stdout.unwrap_or_default(),
            stderr: said.all.clone(),
        })
    }

    /// Waits for its end, which must be a good one, and gives its report.
    pub fn report(self) -> Result<Value> {
        let what = self.what.clone();
        let ended = self.end()?;
        ensure!(
            ended.code == 0,
            "{what}: exit code {}: {}",
            ended.code,
            ended.stderr.trim_end()
        );
        serde_json::from_slice(&ended.stdout).with_context(|| format!("{what}: no report"))
    }

    /// As `report`, of a program whose domain is to be gone: nothing can be asked of it.
    pub fn lost(self) {
        drop(self);
    }
}

fn listen(shared: &Shared, pipe: impl BufRead) {
    for line in pipe.lines() {
        let Ok(line) = line else { break };
        let mut said = lock(&shared.said);
        said.all += &line;
        said.all.push('\n');
        said.lines.push_back(line);
        shared.changed.notify_all();
    }
    lock(&shared.said).over = true;
    shared.changed.notify_all();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A field of a report must be so.
pub fn expect(report: &Value, field: &str, wanted: impl Into<Value>) -> Result<()> {
    let wanted = wanted.into();
    ensure!(
        report[field] == wanted,
        "{field} is not {wanted} in {report}"
    );
    Ok(())
}

/// A list in a report must hold this.
pub fn expect_in(report: &Value, field: &str, wanted: &str) -> Result<()> {
    let found = report[field]
        .as_array()
        .is_some_and(|list| list.iter().any(|word| word == wanted));
    ensure!(found, "{field} does not hold {wanted} in {report}");
    Ok(())
}

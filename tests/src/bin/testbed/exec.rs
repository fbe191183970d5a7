// SPDX-License-Identifier: GPL-2.0
//! `exec` and `shell`: a command there with our own standard streams, signals and exit code.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::termios::{isatty, tcgetattr, tcgetwinsize, tcsetattr, OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use testbed::running::spec;
use testbed::session::{own, Child, Streams};
use testbed::Testbed;

/// How long a command may take to heed a signal of ours before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// Runs a command with our standard streams and returns its exit code.
pub fn exec(name: &str, command: Vec<String>) -> Result<u8> {
    let testbed = Testbed::attach()?;
    // Before the command starts: a signal from now on is its business.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let child = Arc::new(testbed.spawn_with(name, &spec(command)?, own_streams()?)?);
    let receiver = Arc::clone(&child);
    thread::spawn(move || pass_signals(signals, &receiver));
    Ok(child.wait()? as u8)
}

/// Passes signals on; a command that does not end by itself then is killed.
fn pass_signals(mut signals: Signals, child: &Arc<Child>) {
    for (count, signal) in signals.forever().enumerate() {
        // It may have ended just now.
        let _ = if count == 0 {
            child.signal(signal)
        } else {
            child.kill()
        };
        let child = Arc::clone(child);
        thread::spawn(move || {
            thread::sleep(GRACE);
            let _ = child.kill();
        });
    }
}

/// Runs a shell, or a command, on a terminal.
pub fn shell(name: &str, command: Vec<String>) -> Result<u8> {
    let testbed = Testbed::attach()?;
    let shell = || ["sh", "-l"].map(String::from).to_vec();
    let mut spec = spec(if command.is_empty() { shell() } else { command })?;
    spec.pty = Some(terminal_size());
    let kind = std::env::var("TERM").unwrap_or("linux".into());
    spec.env = vec![("TERM".into(), kind), ("HOME".into(), "/root".into())];
    let mut signals = Signals::new([SIGWINCH])?;
    let child = Arc::new(testbed.spawn_with(name, &spec, own_streams()?)?);
    let resized = Arc::clone(&child);
    thread::spawn(move || {
        for _ in signals.forever() {
            let (rows, columns) = terminal_size();
            let _ = resized.resize(rows, columns);
        }
    });
    let _raw = RawTerminal::set();
    Ok(child.wait()? as u8)
}

fn own_streams() -> Result<Streams> {
    Ok(Streams {
        stdin: Some(own(std::io::stdin())?),
        stdout: own(std::io::stdout())?,
        stderr: own(std::io::stderr())?,
    })
}

fn terminal_size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// Our terminal while the keys go to another one; as it was before when dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    /// `None` if standard input is no terminal.
    fn set() -> Option<RawTerminal> {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw).ok()?;
        Some(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

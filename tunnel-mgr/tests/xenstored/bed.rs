// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr` on the bed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread::spawn;

use anyhow::{bail, ensure, Context, Result};
pub use idts_host::bed::{finish, until, Bed, SOCKET};

/// `tunnel-mgr` with these arguments.
pub fn program(args: &[&str]) -> Command {
    let program = std::env::var_os("IDTS_PROGRAM");
    let mut command = Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_tunnel-mgr").into()));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Result<Output> {
    let child = program(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    finish(child, &args.join(" "))
}

/// Runs it, which succeeds; gives what it says.
pub fn done(args: &[&str]) -> Result<String> {
    let output = run(args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{}` ends with {}: {said}",
        args.join(" "),
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs it, which fails as it should, with 1; gives its complaint.
pub fn refused(args: &[&str]) -> Result<String> {
    let output = run(args)?;
    let code = output.status.code();
    ensure!(code == Some(1), "`{}` ends with {code:?}", args.join(" "));
    Ok(String::from_utf8(output.stderr)?)
}

/// A `tunnel-mgr watch`, which ends with this.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

impl Watch {
    /// Starts it with these arguments, and waits until it watches.
    pub fn start(args: &[&str]) -> Result<Self> {
        let by_itself = program(&[&["watch"], args].concat());
        // Whatever whoever runs the tests has ignored.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,TERM");
        command
            .arg(by_itself.get_program())
            .args(by_itself.get_args());
        command.stdin(Stdio::null());
        Self::start_by(command)
    }

    /// The same by a command that runs it.
    pub fn start_by(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for pipe in pipes.into_iter().flatten() {
            let sender = sender.clone();
            spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let mut watch = Self {
            child,
            lines,
            said: Vec::new(),
        };
        watch.until_said("watching")?;
        Ok(watch)
    }

    /// All that it has said until now.
    pub fn listen(&mut self) -> &[String] {
        self.said.extend(self.lines.try_iter());
        &self.said
    }

    /// Waits until it says a line with these words in it.
    pub fn until_said(&mut self, words: &str) -> Result<()> {
        let found = until(&format!("watch says `{words}`"), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("watch ended: {status}: {:?}", self.listen());
            }
            Ok(self
                .listen()
                .iter()
                .any(|line| line.contains(words))
                .then_some(()))
        });
        found.with_context(|| format!("it says {:?}", self.said))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        until("watch ends", || Ok(self.child.try_wait()?))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

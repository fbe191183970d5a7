// SPDX-License-Identifier: GPL-2.0
//! A running testbed: finding it, running commands in its domains, ending it.

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

use crate::config::Config;
use crate::emulator;
use crate::place::{Place, State};
use crate::session::{self, Child, Door, Output, Streams};
use crate::wire::{Hello, Spec};

/// A command that is not over after this long hangs. It is no measure of speed: on a busy machine
/// the emulator may get next to nothing of it.
pub const HANG: Duration = Duration::from_secs(1200);
/// How long a command waits for the agent of its domain, in the domain's own time.
const AGENT_WAIT: u64 = 1200;

/// A running testbed.
pub struct Testbed {
    place: Place,
    state: State,
}

impl Testbed {
    /// The testbed that runs for this checkout.
    pub fn attach() -> Result<Testbed> {
        let running = Testbed::find()?;
        running.context("no testbed is running; `scripts/testbed up` starts one")
    }

    /// As `attach`, `None` when none runs.
    pub fn find() -> Result<Option<Testbed>> {
        let place = Place::from_env();
        if !place.is_running()? {
            return Ok(None);
        }
        let state = place.load()?.filter(emulator::is_running);
        let state = state.context("a testbed is being started or ended at this moment")?;
        Ok(Some(Testbed { place, state }))
    }

    pub(crate) fn new(place: Place, state: State) -> Testbed {
        Testbed { place, state }
    }

    /// What it was started with.
    pub fn config(&self) -> &Config {
        &self.state.config
    }

    /// Process, port and the like.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where its logs are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether its emulator still runs.
    pub fn is_running(&self) -> bool {
        emulator::is_running(&self.state)
    }

    /// Names of the guests that `up` made.
    pub fn guests(&self) -> Vec<String> {
        (1..=self.config().guests)
            .map(|number| format!("u{number}"))
            .collect()
    }

    /// Runs a command without input and waits for its end.
    pub fn exec(&self, domain: &str, argv: &[&str]) -> Result<Output> {
        self.exec_with(domain, argv, b"")
    }

    /// Runs a shell script in a domain; an exit code other than 0 is an error.
    pub fn sh(&self, domain: &str, script: &str) -> Result<Output> {
        self.exec(domain, &["sh", "-c", script])?
            .check(&format!("{domain}: {script}"))
    }

    /// Runs a command with this input and waits for its end.
    pub fn exec_with(&self, domain: &str, argv: &[&str], input: &[u8]) -> Result<Output> {
        let mut child = self.spawn(domain, argv)?;
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut pipe) = stdin {
                    // A command need not read all, or any, of its input.
                    let _ = std::io::Write::write_all(&mut pipe, input);
                }
            });
            child.wait_with_output(HANG)
        })
    }

    /// Starts a command with a pipe for each of its streams.
    pub fn spawn(&self, domain: &str, argv: &[&str]) -> Result<Child> {
        let spec = spec(argv.iter().map(|arg| arg.to_string()).collect())?;
        session::start_piped(&self.door(), &self.hello(domain), &spec)
    }

    /// Starts a command with the streams given.
    pub fn spawn_with(&self, domain: &str, spec: &Spec, streams: Streams) -> Result<Child> {
        session::start(&self.door(), &self.hello(domain), spec, streams)
    }

    /// Runs `xl` in dom0; an exit code other than 0 is an error.
    pub fn xl(&self, args: &[&str]) -> Result<Output> {
        let argv: Vec<_> = ["xl"].iter().chain(args).copied().collect();
        self.exec("dom0", &argv)?.check(&argv.join(" "))
    }

    /// Ends the emulator, and with it all domains.
    pub fn down(self) -> Result<()> {
        emulator::stop(&self.state)?;
        self.place.clear();
        Ok(())
    }

    /// Ends the testbed of this checkout; false when none ran.
    pub fn end() -> Result<bool> {
        let place = Place::from_env();
        // Not by its lock: what is ending by itself may have none and still not be gone.
        let state = place.load()?.filter(emulator::is_running);
        match &state {
            Some(state) => emulator::stop(state)?,
            None if place.is_running()? => {
                bail!("a testbed is being started at this moment; end that command first")
            }
            None => {}
        }
        place.clear();
        Ok(state.is_some())
    }

    /// Ends an emulator that this process has started and is still booting, if there is one.
    pub fn interrupt(place: &Place) -> Result<()> {
        if let Some(state) = place.load()?.filter(emulator::is_child) {
            emulator::stop(&state)?;
            place.clear();
        }
        Ok(())
    }

    fn door(&self) -> Door {
        Door {
            port: self.state.port,
            queue: self.place.file("queue"),
        }
    }

    fn hello(&self, domain: &str) -> Hello {
        let token = self.state.token.clone();
        Hello {
            token,
            domain: domain.into(),
            wait_secs: AGENT_WAIT,
        }
    }
}

/// A command without terminal and without more environment.
pub fn spec(argv: Vec<String>) -> Result<Spec> {
    ensure!(!argv.is_empty(), "no command is given");
    Ok(Spec {
        argv,
        env: Vec::new(),
        pty: None,
    })
}

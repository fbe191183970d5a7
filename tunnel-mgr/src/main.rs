// SPDX-License-Identifier: GPL-2.0
//! The command `tunnel-mgr`: parses, runs one verb on the real xenstore, turns
//! its error into a message on stderr and an exit code. 0 done, 1 failed, 2
//! wrong usage (by clap).

mod cli;
mod command;
#[cfg(test)]
mod fake;
mod kernel;
mod lock;
mod model;
mod output;
mod pace;
mod promise;
mod say;
mod settings;
mod signals;
mod store;
mod sweep;
mod text;

use std::process::ExitCode;

use anyhow::{Context, Result};

use cli::{Cli, Command};
use command::Manager;
use kernel::Kernel;

fn main() -> ExitCode {
    match idts::output::parse::<Cli>("tunnel-mgr") {
        Ok(cli) => match run(&cli.command) {
            // One that serves waits for nobody, at its end neither.
            Err(error) if say::serves() => {
                say::remark(&format!("{error:#}"));
                ExitCode::FAILURE
            }
            result => idts::output::end("tunnel-mgr", result),
        },
        Err(code) => code,
    }
}

fn run(command: &Command) -> Result<()> {
    let mut store = idts_xenstore::Client::open().context(
        "cannot reach xenstore: is this dom0, with xenstored running, and are you root?",
    )?;
    let mut manager = Manager::new(&mut store, Kernel::default())?;
    if let Err(error) = promise::settle(&mut manager) {
        say::remark(&format!(
            "guests may wait for a watch that is gone: {error:#}"
        ));
    }
    match command {
        Command::Attach(args) => command::attach::run(&mut manager, args),
        Command::Detach(args) => command::detach::run(&mut manager, args),
        Command::List(args) => command::list::run(&mut manager, args),
        Command::Set(args) => command::set::run(&mut manager, args),
        Command::Scheduler(args) => command::scheduler::run(&mut manager, args),
        Command::Stats(args) => command::stats::run(&mut manager, args),
        Command::Watch(args) => command::watch::run(&mut manager, args),
    }
}

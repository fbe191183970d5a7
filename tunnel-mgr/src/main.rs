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
mod size;
mod store;
mod sweep;
mod text;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command};
use command::Manager;
use kernel::Kernel;

fn main() -> ExitCode {
    let failure = match Cli::try_parse() {
        Ok(cli) => run(&cli.command).err(),
        Err(usage) => match usage.print() {
            Ok(()) => return ExitCode::from(usage.exit_code() as u8),
            Err(error) => Some(say::Unsaid::from(error).into()),
        },
    };
    match failure {
        None => ExitCode::SUCCESS,
        Some(error) if is_quiet(&error) => ExitCode::SUCCESS,
        Some(error) => {
            say::remark(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// All is done, and whoever read the result has gone.
fn is_quiet(error: &anyhow::Error) -> bool {
    let unsaid = error.downcast_ref::<say::Unsaid>();
    unsaid.is_some_and(say::Unsaid::nobody_reads)
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

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `idts`: parses, runs one verb, turns its error into a message
//! on stderr and an exit code. 0 done, 1 failed, 2 wrong usage (by clap).

mod cli;
mod command;
mod input;
mod lobby;
mod locked;
mod names;
mod open;
mod paced;
mod place;
mod records;
mod report;
mod signals;
mod sink;
mod transfer;
mod wire;

use std::process::ExitCode;

use idts::output;

use cli::{Cli, Command};

fn main() -> ExitCode {
    signals::survive_files_that_are_too_large();
    match output::parse::<Cli>("idts") {
        Ok(cli) => output::end("idts", run(&cli.command)),
        Err(code) => code,
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Send(args) => command::send::run(args),
        Command::Recv(args) => command::recv::run(args),
        Command::Cat(args) => command::cat::run(args),
        Command::Echo(args) => command::echo::run(args),
        Command::Ping(args) => command::ping::run(args),
        Command::Publish(args) => command::publish::run(args),
        Command::Subscribe(args) => command::subscribe::run(args),
        Command::Info(args) => command::info::run(args),
    }
}

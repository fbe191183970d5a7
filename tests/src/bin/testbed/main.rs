// SPDX-License-Identifier: GPL-2.0
//! The testbed's driver: each verb is a few calls of the library.
//!
//! Exit codes: 0, 1 failed, 2 usage; of `exec`, `shell` and `xl` the command's own, or 125.

mod cli;
mod exec;
mod show;
mod up;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use testbed::guests::Guest;
use testbed::{on_stderr, Testbed};

use cli::{Cli, Verb};

/// The testbed's own failure where the exit code is otherwise the command's.
const OWN_FAILURE: u8 = 125;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let carries = matches!(
        cli.verb,
        Verb::Exec { .. } | Verb::Shell { .. } | Verb::Xl { .. }
    );
    match run(cli.verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::from(if carries { OWN_FAILURE } else { 1 })
        }
    }
}

/// clap's own words; a wrong `exec` must not look like a command that returned 2.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody can be told if standard error is closed.
    let _ = error.print();
    let verb = std::env::args().nth(1).unwrap_or_default();
    match verb.as_str() {
        _ if !error.use_stderr() => ExitCode::SUCCESS,
        "exec" | "shell" | "xl" => ExitCode::from(OWN_FAILURE),
        _ => ExitCode::from(2),
    }
}

fn run(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Up(options) => up::up(&options.into())?,
        Verb::Exec { name, command } => return exec::exec(&name, command),
        Verb::Shell { name, command } => return exec::shell(&name, command),
        Verb::Xl { args } => {
            let command = std::iter::once("xl".to_string()).chain(args).collect();
            return exec::exec("dom0", command);
        }
        Verb::Push { src, dst } => {
            let (domain, path) = split(&dst)?;
            Testbed::attach()?.push(&src, domain, path)?;
        }
        Verb::Pull { src, dst } => {
            let (domain, path) = split(&src)?;
            Testbed::attach()?.pull(domain, path, &dst)?;
        }
        Verb::Console { name, follow } => show::console(&name, follow)?,
        Verb::Create { name, kind, cpus } => {
            let testbed = Testbed::attach()?;
            testbed.create(&Guest {
                name: name.clone(),
                kind,
                cpus,
                on: None,
                address: None,
                disk: None,
            })?;
            testbed.wait_answers(&name)?;
        }
        Verb::Destroy { name } => Testbed::attach()?.destroy(&name)?,
        Verb::Reload { dist } => reload(&dist)?,
        Verb::Status { json } => show::status(json)?,
        Verb::Check => return show::check(),
        Verb::Down => {
            let ran = Testbed::end()?;
            on_stderr(if ran { "ended" } else { "nothing ran" });
        }
    }
    Ok(0)
}

fn reload(dist: &Path) -> Result<()> {
    Testbed::attach()?.reload(dist, &on_stderr)?;
    on_stderr("reloaded");
    Ok(())
}

/// NAME:PATH
fn split(text: &str) -> Result<(&str, &str)> {
    let parts = text
        .split_once(':')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty());
    parts.with_context(|| format!("{text}: NAME:PATH is expected, such as u1:/tmp/file"))
}

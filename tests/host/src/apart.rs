// SPDX-License-Identifier: GPL-2.0
//! A test program as root in a mount namespace of its own, one test after the other: each has an
//! empty `/run` and `/sys` ([`crate::bed::Bed`]).

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Trial};
use rustix::mount::{mount_change, MountPropagationFlags};

/// A test.
pub type Test = fn() -> Result<()>;

/// Set where this program is already by itself.
const APART: &str = "IDTS_APART";

/// Runs these tests, as the program's arguments want them.
pub fn main(tests: &[(&str, Test)]) -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    if !args.list && std::env::var_os(APART).is_none() {
        let program = std::env::current_exe().unwrap_or_default();
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "unchanged", "--"])
            .arg(program)
            .args(std::env::args_os().skip(1))
            .env(APART, "1")
            .exec();
        eprintln!("cannot run unshare: {error}");
        return ExitCode::FAILURE;
    }
    if let (false, Err(error)) = (args.list, keep_mounts()) {
        eprintln!("what is mounted here would be seen by all: {error:#}");
        return ExitCode::FAILURE;
    }
    let trial = |(name, test): &(&str, Test)| {
        let test = *test;
        Trial::test(*name, move || {
            test().map_err(|error| format!("{error:#}").into())
        })
    };
    let trials = tests.iter().map(trial).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

/// Has mounts stay in this namespace, as they do anyway in the build root, whose /
/// is no mount.
fn keep_mounts() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if !mounts.contains(" shared:") {
        return Ok(());
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("cannot make mounts private")
}

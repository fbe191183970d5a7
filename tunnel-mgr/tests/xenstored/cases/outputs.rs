// SPDX-License-Identifier: GPL-2.0
//! Outputs that cannot be written: a full disk, a reader that has gone.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use anyhow::{ensure, Result};
use rustix::pipe::pipe;

use super::front;
use crate::bed::{done, finish, program, run, Bed};

/// Every command that ends by itself.
const COMMANDS: [&[&str]; 12] = [
    &["--help"],
    &["--version"],
    &["attach", "u3", "--wait", "0"],
    &["list"],
    &["list", "--json"],
    &["set", "u3"],
    &["scheduler"],
    &["stats"],
    &["stats", "--json"],
    &["stats", "u3"],
    &["detach", "u3"],
    &["set", "--help"],
];

/// A disk that is full.
fn full() -> Result<OwnedFd> {
    let full = File::options().write(true).open("/dev/full")?;
    Ok(full.into())
}

/// A pipe whose reader has gone.
fn closed() -> Result<OwnedFd> {
    Ok(pipe()?.1)
}

/// On a full disk 1 and one line; where nobody reads, 0 and none; what was to be
/// done is done.
pub fn every_command() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    bed.sys("kernel/debug/idts/3", "tx_bytes 1\n")?;
    for args in COMMANDS {
        let name = args.join(" ");
        for (stdout, stderr, code, lines) in [
            (full()?, None, 1, 1),
            (closed()?, None, 0, 0),
            // Nowhere to complain to is no panic either.
            (full()?, Some(closed()?), 1, 0),
        ] {
            match args[0] {
                "attach" => drop(run(&["detach", "u3"])?),
                _ => drop(done(&["attach", "u3", "--if-absent", "--wait", "0"])?),
            }
            let stderr = stderr.map_or_else(Stdio::piped, Stdio::from);
            let child = program(args).stdout(stdout).stderr(stderr).spawn()?;
            let output = finish(child, &name)?;
            let said = String::from_utf8(output.stderr)?;
            ensure!(
                output.status.code() == Some(code),
                "`{name}`: {}: {said}",
                output.status
            );
            ensure!(said.lines().count() == lines, "`{name}`: {said}");
            ensure!(
                lines == 0 || said.contains("No space left"),
                "`{name}`: {said}"
            );
            let attached = bed.dom0.read(&front(3)).is_some();
            ensure!(attached == (args[0] != "detach"), "`{name}` was not done");
        }
    }
    Ok(())
}

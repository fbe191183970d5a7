// SPDX-License-Identifier: GPL-2.0
//! Outputs that cannot be written: a full disk, a reader that has gone.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use anyhow::{ensure, Result};
use rustix::pipe::pipe;

use super::front;
use crate::bed::{done, finish, program, run, until, Bed};

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

/// A pipe that is full, and does not block whoever writes into it, as somebody else has
/// it who shares it: it is waited for, and nothing is lost.
pub fn one_that_does_not_block() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    bed.sys("kernel/debug/idts/3", "tx_bytes 1\n")?;
    done(&["attach", "u3", "--wait", "0"])?;
    for args in COMMANDS {
        if ["attach", "detach"].contains(&args[0]) {
            continue;
        }
        let expected = done(args)?;
        let (reader, writer) = pipe()?;
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
        let mut filled = 0;
        while let Ok(count) = rustix::io::write(&writer, &[b'x'; 4096]) {
            filled += count;
        }
        let child = program(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut got = vec![0; filled];
        let mut reader = File::from(reader);
        // It has begun to write, and cannot.
        until_it_waits(child.id())?;
        reader.read_exact(&mut got)?;
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        let name = args.join(" ");
        let output = finish(child, &name)?;
        ensure!(output.status.success(), "`{name}`: {output:?}");
        ensure!(text == expected, "`{name}`: {text}");
    }
    Ok(())
}

/// Waits until a program waits for something, or has ended.
fn until_it_waits(pid: u32) -> Result<()> {
    until("it waits or has ended", || {
        let about = std::fs::read_to_string(format!("/proc/{pid}/syscall"))?;
        let in_poll = about.starts_with("7 ") || about.starts_with("271 ");
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok((in_poll || state.contains(") Z ")).then_some(()))
    })
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

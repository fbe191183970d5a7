// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts send`: one file to `idts recv`.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{anyhow, Context, Result};
use rustix::fs::OFlags;

use crate::cli::Send;
use crate::paced::Paced;
use crate::transfer::Header;
use crate::{open, report, transfer};

pub fn run(args: &Send) -> Result<()> {
    let name = args.file.display().to_string();
    let (mut file, length) = open_regular(&args.file, &name)?;
    let header = Header {
        length,
        name: args
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let channel = open::connect(&args.to, args.wait.wait, |connect| {
        connect.tx_ring(args.ring.unwrap_or_default())
    })?;
    let mut paced = Paced::new(&channel, args.patience.timeout, args.patience.max_time)?;
    let peer = channel.peer().to_string();
    let bar = report::bar(header.length);
    let started = Instant::now();
    let outcome = transfer::send(&mut file, &mut paced, &header, |done| {
        bar.set_position(done)
    });
    bar.finish_and_clear();
    let outcome = outcome.with_context(|| format!("cannot send {name} to {peer}"))?;
    report::Transfer {
        what: "sent",
        file: name,
        peer,
        outcome,
        started,
    }
    .print(args.output.json)?;
    Ok(())
}

/// Opens a regular file and tells its length. Of what is none, a pipe say, nobody waits for
/// the other end.
fn open_regular(path: &Path, name: &str) -> Result<(File, u64)> {
    let none = || anyhow!("{name} is not a regular file, so its length is unknown: use `idts cat`");
    let found = fs::metadata(path).with_context(|| format!("cannot open {name}"))?;
    if !found.is_file() {
        return Err(none());
    }
    // It may be another one by now.
    let file = File::options()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
        .open(path)
        .with_context(|| format!("cannot open {name}"))?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot look at {name}"))?;
    if !found.is_file() {
        return Err(none());
    }
    Ok((file, found.len()))
}

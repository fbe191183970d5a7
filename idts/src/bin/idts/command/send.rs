// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts send`: one file to `idts recv`.

use std::fs::File;
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::cli::Send;
use crate::transfer::Header;
use crate::{open, report, transfer};

pub fn run(args: &Send) -> Result<()> {
    let name = args.file.display().to_string();
    let mut file = File::open(&args.file).with_context(|| format!("cannot open {name}"))?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot look at {name}"))?;
    if !found.is_file() {
        bail!("{name} is not a regular file, so its length is unknown: use `idts cat`");
    }
    let header = Header {
        length: found.len(),
        name: args
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let mut channel = open::connect(&args.to, args.wait.wait, |connect| {
        connect.tx_ring(args.ring.unwrap_or_default())
    })?;
    let peer = channel.peer().to_string();
    let bar = report::bar(header.length);
    let started = Instant::now();
    let outcome = transfer::send(&mut file, &mut channel, &header, |done| {
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
    .print(args.output.json);
    Ok(())
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts recv`: one file from `idts send`.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::Recv;
use crate::sink::{self, FileSink};
use crate::{open, report, transfer};

pub fn run(args: &Recv) -> Result<()> {
    let name = args.file.display().to_string();
    sink::clean_up_on_signals().context("cannot wait for signals")?;
    // Before anybody can connect: a FILE that cannot be is known at once.
    let sink = FileSink::create(&args.file).with_context(|| format!("cannot write {name}"))?;
    let mut bind = open::bind(args.port, false).max_ring(args.max_ring.unwrap_or(0));
    if let Some(domain) = args.from {
        bind = bind.from_domain(domain);
    }
    let mut channel = open::accept_one(&bind)?;
    let peer = channel.peer().to_string();
    let bar = report::bar(0);
    let started = Instant::now();
    let outcome = transfer::receive(
        &mut channel,
        |header| {
            bar.set_length(header.length);
            Ok(sink)
        },
        |done| bar.set_position(done),
    );
    bar.finish_and_clear();
    let outcome = outcome.with_context(|| format!("cannot receive {name} from {peer}"))?;
    report::Transfer {
        what: "received",
        file: name,
        peer,
        outcome,
        started,
    }
    .print(args.output.json);
    Ok(())
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts recv`: one file from `idts send`.

use std::time::Instant;

use anyhow::{Context, Result};
use idts::Channel;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::Mode;

use crate::cli::Recv;
use crate::lobby::wait_for_sender;
use crate::paced::Paced;
use crate::sink::{self, FileSink};
use crate::{open, report, transfer};

/// How long a peer that was refused may take to read why.
const LAST_WORDS: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

pub fn run(args: &Recv) -> Result<()> {
    let name = args.file.display().to_string();
    sink::clean_up_on_signals().context("cannot wait for signals")?;
    // Before anybody can connect: a FILE that cannot be is known at once.
    let mode = args.mode.map(Mode::from_raw_mode);
    let sink = FileSink::create(&args.file, mode, args.device)
        .with_context(|| format!("cannot write {name}"))?;
    let bind = open::bind(args.port, false, args.only.domain.as_ref())?;
    let listener = open::listen(&bind.max_ring(args.max_ring.unwrap_or(0)))?;
    let limits = &args.patience;
    let (channel, header) = wait_for_sender(&listener, limits.timeout)?;
    // Others are refused from now on.
    drop(listener);
    let mut paced = Paced::new(&channel, limits.timeout, limits.max_time)?;
    let peer = channel.peer().to_string();
    let bar = report::bar(header.length);
    let started = Instant::now();
    // With --max nobody but the disk itself decides what fits.
    let room = if args.max.is_none() {
        sink.room()
    } else {
        None
    };
    let moved = |done| bar.set_position(done);
    let outcome = transfer::receive(&mut paced, &header, sink, args.max, room, moved);
    bar.finish_and_clear();
    if outcome.is_err() {
        wait_until_read(&channel);
    }
    let outcome = outcome.with_context(|| format!("cannot receive {name} from {peer}"))?;
    report::Transfer {
        what: "received",
        file: name,
        peer,
        outcome,
        started,
    }
    .print(args.output.json)?;
    Ok(())
}

/// Gives a peer that was refused the time to read why: what it has sent and nobody reads is
/// a reset once we close.
fn wait_until_read(channel: &Channel) {
    let mut fds = [PollFd::new(channel, PollFlags::empty())];
    // It has ended, it is slow, or it cannot be waited for: we are done with it.
    let _ = poll(&mut fds, Some(&LAST_WORDS));
}

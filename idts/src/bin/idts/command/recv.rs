// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts recv`: one file from `idts send`.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use idts::{Channel, Listener};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::Mode;

use crate::cli::Recv;
use crate::seldom::Seldom;
use crate::sink::{self, FileSink};
use crate::transfer::{read_header, Header, Wire};
use crate::{open, report, transfer};

/// Who connects says within this time what it sends, or it is no sender.
const HEADER_WAIT: Duration = Duration::from_secs(30);

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
    let patience = args.patience.timeout;
    let limit = patience.map_or(HEADER_WAIT, |limit| limit.min(HEADER_WAIT));
    let (mut channel, header) = accept_sender(&listener, limit)?;
    // Others are refused from now on.
    drop(listener);
    open::limit(&channel, patience)?;
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
    let outcome = transfer::receive(&mut channel, &header, sink, args.max, room, moved);
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

/// Waits for a peer that says in time what it sends; whoever is none does not use us up.
fn accept_sender(listener: &Listener, limit: Duration) -> Result<(Channel, Header)> {
    let mut log = Seldom::default();
    loop {
        let (channel, peer) = listener.accept()?;
        let mut early = InTime {
            channel: &channel,
            until: Instant::now() + limit,
        };
        match read_header(&mut early) {
            Ok(header) => return Ok((channel, header)),
            Err(failure) => log.say(&format!("idts: {peer} is passed over: {failure}")),
        }
    }
}

/// A channel that must be done with by a time, however many pieces come.
struct InTime<'a> {
    channel: &'a Channel,
    until: Instant,
}

impl InTime<'_> {
    fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        Some(left.max(Duration::from_millis(1)))
    }
}

impl Read for InTime<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.until <= Instant::now() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut channel = self.channel;
        channel.set_read_timeout(self.left())?;
        channel.read(buffer)
    }
}

impl Write for InTime<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut channel = self.channel;
        channel.set_write_timeout(self.left())?;
        channel.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for InTime<'_> {
    fn refuse(&self) {
        self.channel.refuse();
    }

    fn hurry(&self) {}
}

/// Gives a peer that was refused the time to read why: what it has sent and nobody reads is
/// a reset once we close.
fn wait_until_read(channel: &Channel) {
    let mut fds = [PollFd::new(channel, PollFlags::empty())];
    // It has ended, it is slow, or it cannot be waited for: we are done with it.
    let _ = poll(&mut fds, Some(&LAST_WORDS));
}

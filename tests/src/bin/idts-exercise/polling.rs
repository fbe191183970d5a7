// SPDX-License-Identifier: GPL-2.0
//! Waiting by poll alone, on descriptors that do not block: for a connection, for what became of a
//! connect, for a byte, for room in a full ring. A lost wake-up is a hang. Level-triggered by
//! poll, or edge-triggered by an epoll that is told of the channel once.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use idts::{Bind, Channel};
use rustix::event::{epoll, PollFlags, Timespec};
use serde_json::{json, Value};

use crate::cli;
use crate::pattern::Pattern;
use crate::probe::{self, HUNG};

/// A channel that waits by poll or epoll, and counts.
pub struct Polled {
    pub channel: Channel,
    epoll: Option<OwnedFd>,
    waits: u64,
}

impl Polled {
    pub fn new(channel: Channel, edge: bool) -> Result<Self> {
        channel.set_nonblocking(true)?;
        let epoll = if edge {
            Some(edge_triggered(&channel)?)
        } else {
            None
        };
        let waits = 0;
        Ok(Self {
            channel,
            epoll,
            waits,
        })
    }

    pub fn wait(&mut self, wanted: PollFlags) -> Result<()> {
        self.waits += 1;
        match &self.epoll {
            None => probe::wait(&self.channel, wanted).map(drop),
            Some(epoll) => {
                let mut events = [epoll::Event {
                    flags: epoll::EventFlags::empty(),
                    data: epoll::EventData::new_u64(0),
                }];
                let limit = Timespec::try_from(HUNG)?;
                let count = epoll::wait(epoll, &mut events, Some(&limit))?;
                ensure!(count > 0, "epoll: nothing happened: an edge is lost");
                Ok(())
            }
        }
    }

    /// Reads one byte, waiting for it.
    fn get(&mut self) -> Result<u8> {
        let mut byte = [0];
        loop {
            match (&self.channel).read(&mut byte) {
                Ok(count) => {
                    ensure!(count == 1, "the stream ended");
                    return Ok(byte[0]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::IN)?,
                Err(error) => return Err(error).context("read"),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match (&self.channel).write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                Err(error) => return Err(error).context("write"),
            }
        }
        Ok(())
    }
}

fn edge_triggered(channel: &Channel) -> Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(&epoll, channel, epoll::EventData::new_u64(0), flags)?;
    Ok(epoll)
}

pub fn client(args: &cli::Poll) -> Result<Value> {
    // Somebody listens once this one has come through.
    drop(probe::patient(args.to, 0)?);
    let channel = idts::Connect::to(args.to).nonblocking(true).open()?;
    probe::wait(&channel, PollFlags::OUT)?;
    if let Some(error) = channel.take_error()? {
        return Err(error).context("connect without blocking");
    }
    let mut polled = Polled::new(channel, args.edge)?;
    for round in 0..args.rounds {
        let byte = round as u8;
        polled.put(&[byte])?;
        ensure!(
            polled.get()? == !byte,
            "round {round}: another byte came back"
        );
    }
    let waits = polled.waits;
    let (sent, full) = fill(&mut polled, args.rounds, args.seed)?;
    polled.channel.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    for byte in &mut total {
        *byte = polled.get()?;
    }
    ensure!(
        u64::from_le_bytes(total) == sent,
        "the peer got another number of bytes than {sent}"
    );
    Ok(json!({ "rounds": args.rounds, "waits": waits, "full": full, "moved": sent }))
}

/// Fills the ring until it takes no more, waits for room, and so on; how many bytes and how often.
fn fill(polled: &mut Polled, rounds: u64, seed: u64) -> Result<(u64, u64)> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; 10_000];
    let mut full = 0;
    while full < rounds {
        pattern.fill(&mut buffer);
        match (&polled.channel).write(&buffer) {
            Ok(count) => pattern.unfill(buffer.len(), count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                pattern.unfill(buffer.len(), 0);
                full += 1;
                polled.wait(PollFlags::OUT)?;
            }
            Err(error) => return Err(error).context("write"),
        }
    }
    Ok((pattern.position(), full))
}

pub fn serve(args: &cli::PollServe) -> Result<Value> {
    let listener = Bind::new(args.port).listen()?;
    listener.set_nonblocking(true)?;
    eprintln!("listening on {}", args.port);
    let mut accept_waits = 0;
    let mut accept = || loop {
        match listener.accept() {
            Ok((channel, _)) => return anyhow::Ok(channel),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                accept_waits += 1;
                probe::wait(&listener, PollFlags::IN)?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    drop(accept()?);
    let mut polled = Polled::new(accept()?, args.edge)?;
    for _ in 0..args.rounds {
        let byte = polled.get()?;
        polled.put(&[!byte])?;
    }
    let waits = polled.waits;
    let total = drain(&mut polled, args.seed)?;
    polled.put(&total.to_le_bytes())?;
    Ok(
        json!({ "rounds": args.rounds, "waits": waits, "accept_waits": accept_waits, "moved": total }),
    )
}

/// Reads only when the ring is full, so that the peer has to wait for room; at the end the rest.
fn drain(polled: &mut Polled, seed: u64) -> Result<u64> {
    let mut pattern = Pattern::new(seed);
    loop {
        // In this order: what came before the end is there once the end is seen.
        let ended = probe::flag(&polled.channel, PollFlags::RDHUP)?;
        let info = polled.channel.info()?;
        if !ended && info.rx_avail < info.rx_ring {
            std::thread::sleep(Duration::from_millis(1));
        } else if take(polled, &mut pattern)? {
            return Ok(pattern.position());
        }
    }
}

/// Reads until nothing is left; true at the end of the stream.
fn take(polled: &mut Polled, pattern: &mut Pattern) -> Result<bool> {
    let mut buffer = vec![0; 7000];
    loop {
        match (&polled.channel).read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => pattern.check(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("read"),
        }
    }
}

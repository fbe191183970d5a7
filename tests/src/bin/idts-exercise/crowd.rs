// SPDX-License-Identifier: GPL-2.0
//! As many channels as a tunnel has, small rings all of them, and one pair of large rings beside
//! them. All are open before data moves on any; then it moves on all, both ways, in one thread that
//! waits by epoll. Each stream begins with its number, so that one that gets into another is seen.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use anyhow::{ensure, Context, Result};
use idts::{Bind, Channel};
use rustix::event::{epoll, Timespec};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use serde_json::{json, Value};

use crate::pattern::Pattern;
use crate::{cli, probe};

const CHUNK: usize = 64 << 10;
/// Events taken at once.
const EVENTS: usize = 64;

/// One end, with a stream each way.
struct End {
    channel: Channel,
    bytes: u64,
    sent: Pattern,
    received: Pattern,
    /// All was sent, and the peer was told.
    shut: bool,
    /// The peer's end was seen.
    ended: bool,
}

pub fn connect(args: &cli::Crowd) -> Result<Value> {
    allow_files(args.channels)?;
    let mut channels = Vec::new();
    for number in 0..args.channels {
        channels.push((probe::patient(args.to, args.ring)?, number));
    }
    if args.big_ring > 0 {
        channels.push((probe::patient(args.to, args.big_ring)?, args.channels));
    }
    eprintln!("open {}", channels.len());
    probe::wait_for_line()?;
    for (channel, number) in &channels {
        let mut channel = channel;
        channel.write_all(&number.to_le_bytes())?;
    }
    exchange(channels, args.bytes, [args.seed, !args.seed])
}

pub fn serve(args: &cli::CrowdServe) -> Result<Value> {
    allow_files(args.channels)?;
    let listener = Bind::new(args.port).backlog(128).listen()?;
    eprintln!("listening on {}", args.port);
    let mut channels = Vec::new();
    for _ in 0..args.channels {
        channels.push((listener.accept()?.0, 0));
    }
    for (channel, number) in &mut channels {
        let mut bytes = [0; 8];
        channel.read_exact(&mut bytes)?;
        *number = u64::from_le_bytes(bytes);
    }
    exchange(channels, args.bytes, [!args.seed, args.seed])
}

/// Allows so many descriptors, and some.
fn allow_files(count: u64) -> Result<()> {
    let wanted = count + 64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            ..limit
        };
        setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    }
    Ok(())
}

/// Moves `bytes` each way on all channels at once; `seeds` are of what is sent and what comes.
fn exchange(channels: Vec<(Channel, u64)>, bytes: u64, seeds: [u64; 2]) -> Result<Value> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut ends = Vec::new();
    for (channel, number) in channels {
        channel.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(&epoll, &channel, data(ends.len()), flags)?;
        let [sent, received] = seeds.map(|seed| Pattern::new(seed ^ number));
        ends.push(End {
            channel,
            bytes,
            sent,
            received,
            shut: false,
            ended: false,
        });
    }
    let mut left = ends.len();
    let mut buffer = vec![0; CHUNK];
    while left > 0 {
        for place in wait(&epoll)? {
            let end = &mut ends[place];
            let was = end.shut;
            end.send(&mut buffer)?;
            end.receive(&mut buffer)
                .with_context(|| format!("channel {place}"))?;
            if end.shut && end.ended {
                epoll::delete(&epoll, &end.channel)?;
                left -= 1;
            } else if end.shut && !was {
                epoll::modify(&epoll, &end.channel, data(place), epoll::EventFlags::IN)?;
            }
        }
    }
    let count = ends.len() as u64;
    Ok(json!({ "channels": count, "moved": bytes * count }))
}

fn data(place: usize) -> epoll::EventData {
    epoll::EventData::new_u64(place as u64)
}

/// Places of the channels on which something can be done.
fn wait(epoll: &OwnedFd) -> Result<Vec<usize>> {
    let mut events = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: data(0),
    }; EVENTS];
    let limit = Timespec::try_from(probe::HUNG)?;
    let count = epoll::wait(epoll, &mut events, Some(&limit))?;
    ensure!(count > 0, "epoll: nothing happened: a wake-up is lost");
    let ready = events[..count].iter();
    Ok(ready.map(|event| event.data.u64() as usize).collect())
}

impl End {
    /// One write, if there is room and something left.
    fn send(&mut self, buffer: &mut [u8]) -> Result<()> {
        let size = (self.bytes - self.sent.position()).min(CHUNK as u64) as usize;
        if size > 0 {
            self.sent.fill(&mut buffer[..size]);
            let used = some((&self.channel).write(&buffer[..size])).context("sending")?;
            self.sent.unfill(size, used.unwrap_or(0));
        }
        if self.sent.position() == self.bytes && !self.shut {
            self.channel.shutdown(Shutdown::Write)?;
            self.shut = true;
        }
        Ok(())
    }

    /// One read, if something is there.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let Some(count) = some((&self.channel).read(buffer)).context("receiving")? else {
            return Ok(());
        };
        self.received.check(&buffer[..count])?;
        if count == 0 {
            let got = self.received.position();
            ensure!(got == self.bytes, "{got} bytes came of {}", self.bytes);
            self.ended = true;
        }
        Ok(())
    }
}

/// None when it would have waited.
fn some(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

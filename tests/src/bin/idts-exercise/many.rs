// SPDX-License-Identifier: GPL-2.0
//! Many channels at once, each with a stream each way. All are open before data moves on any. Each
//! begins with its number, so that a stream that gets into another channel is seen.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use anyhow::{anyhow, ensure, Context, Result};
use idts::{Bind, Channel};
use serde_json::{json, Value};

use crate::pattern::Pattern;
use crate::{cli, probe};

const CHUNK: usize = 64 << 10;

pub fn connect(args: &cli::Many) -> Result<Value> {
    let mut channels = Vec::new();
    for number in 0..args.channels {
        let channel = probe::patient(args.to, args.ring)?;
        channels.push((channel, number));
    }
    for (channel, number) in &channels {
        let mut channel = channel;
        channel.write_all(&number.to_le_bytes())?;
    }
    exchange(channels, args.bytes, [args.seed, !args.seed])
}

pub fn serve(args: &cli::ManyServe) -> Result<Value> {
    let backlog = u32::try_from(args.channels)?;
    let listener = Bind::new(args.port).backlog(backlog).listen()?;
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

/// Moves `bytes` each way on all channels at once; `seeds` are of what is sent and what comes.
fn exchange(channels: Vec<(Channel, u64)>, bytes: u64, seeds: [u64; 2]) -> Result<Value> {
    let count = channels.len();
    thread::scope(|scope| {
        let mut work = Vec::new();
        for (channel, number) in &channels {
            let [sent, received] = seeds.map(|seed| seed ^ number);
            work.push(scope.spawn(move || send(channel, bytes, sent)));
            work.push(scope.spawn(move || receive(channel, bytes, received)));
        }
        for thread in work {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(json!({ "channels": count, "moved": bytes * count as u64 }))
}

fn send(mut channel: &Channel, bytes: u64, seed: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; CHUNK];
    while pattern.position() < bytes {
        let size = (bytes - pattern.position()).min(CHUNK as u64) as usize;
        pattern.fill(&mut buffer[..size]);
        channel.write_all(&buffer[..size]).context("sending")?;
    }
    Ok(channel.shutdown(Shutdown::Write)?)
}

fn receive(mut channel: &Channel, bytes: u64, seed: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = channel.read(&mut buffer).context("receiving")?;
        if count == 0 {
            break;
        }
        pattern.check(&buffer[..count])?;
    }
    ensure!(
        pattern.position() == bytes,
        "{} bytes came of {bytes}",
        pattern.position()
    );
    Ok(())
}

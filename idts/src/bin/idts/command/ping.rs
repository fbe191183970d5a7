// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts ping`: round trips to `idts echo`.

use std::io::Read;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use idts::output::{print, Unwritten};
use idts::{Channel, Connect};
use serde_json::json;

use crate::cli::Ping;
use crate::locked::lock;
use crate::open;
use crate::paced::Paced;
use crate::signals::before_the_end;

/// Rings are at least this long, or as long as the bytes of a round trip: the
/// echo must never wait for room while we still write.
const RING: u32 = 64 * 1024;

pub fn run(args: &Ping) -> Result<()> {
    let ring = ring(args)?;
    let roomy = |connect: Connect| {
        let connect = connect.tx_ring(ring).rx_ring(ring);
        if args.record {
            connect.records()
        } else {
            connect
        }
    };
    let channel = open::connect(&args.peer, args.wait.wait, roomy)?;
    let peer = channel.peer();
    let told = Arc::new(Mutex::new(Measured {
        peer: peer.to_string(),
        size: args.size,
        json: args.output.json,
        times: Times::default(),
    }));
    let at_the_end = Arc::clone(&told);
    // Whoever is interrupted wants to know how far it was; the lock keeps it from being told twice.
    before_the_end(move |_| {
        let told = lock(&at_the_end);
        // Nobody can be told that nobody was told.
        let _ = told.print();
        mem::forget(told);
    })
    .context("cannot wait for signals")?;
    let measured =
        measure(args, &channel, &told).with_context(|| format!("the round trips to {peer}"));
    let told = lock(&told);
    let printed = told.print();
    mem::forget(told);
    // A failure is the first thing to tell.
    measured?;
    Ok(printed?)
}

/// As many round trips as are wanted.
fn measure(args: &Ping, channel: &Channel, told: &Mutex<Measured>) -> Result<()> {
    for number in 0..args.count {
        if number > 0 {
            std::thread::sleep(args.interval);
        }
        let time = round_trip(&(channel, args.timeout), number, args.size as usize)
            .with_context(|| format!("number {}", number + 1))?;
        lock(told).times.add(time);
    }
    Ok(())
}

/// Size of both rings: as asked for, if the bytes of a round trip fit.
fn ring(args: &Ping) -> Result<u32> {
    // A record has a header.
    let needed = args.size + if args.record { 4 } else { 0 };
    match args.ring {
        Some(ring) if ring < needed => bail!("rings of {ring} bytes do not hold {needed}"),
        Some(ring) => Ok(ring),
        None => Ok(needed.next_power_of_two().max(RING)),
    }
}

/// What carries the bytes there and back.
trait Wire {
    fn exchange(&self, sent: &[u8], back: &mut [u8]) -> Result<()>;
}

/// A channel, and how long a round trip may take.
impl Wire for (&Channel, Option<Duration>) {
    fn exchange(&self, sent: &[u8], back: &mut [u8]) -> Result<()> {
        let (channel, limit) = *self;
        let mut paced = Paced::new(channel, None, limit)?;
        let received = paced.transact(sent, back)?;
        if received.is_end() {
            bail!("the peer closed the channel");
        }
        if !channel.has_records() {
            return Ok(paced.read_exact(&mut back[received.len..])?);
        }
        if received.len != sent.len() || received.truncated {
            bail!("a record of another length came back than was sent");
        }
        Ok(())
    }
}

/// Sends `size` bytes that tell their place and round, and wants them back.
fn round_trip(wire: &impl Wire, number: u64, size: usize) -> Result<Duration> {
    let sent: Vec<u8> = (0..size).map(|at| (at as u64 ^ number) as u8).collect();
    let mut back = vec![0; size];
    let started = Instant::now();
    wire.exchange(&sent, &mut back)?;
    let time = started.elapsed();
    if back != sent {
        bail!("other bytes came back than were sent");
    }
    Ok(time)
}

/// Round trips, however many, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
    squares: f64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let time = time.as_secs_f64() * 1e6;
        self.min = if self.count == 0 {
            time
        } else {
            self.min.min(time)
        };
        self.max = self.max.max(time);
        self.sum += time;
        self.squares += time * time;
        self.count += 1;
    }

    fn avg(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The standard deviation, as ping has it.
    fn mdev(&self) -> f64 {
        let avg = self.avg();
        (self.squares / self.count as f64 - avg * avg)
            .max(0.0)
            .sqrt()
    }
}

/// What is told at the end.
struct Measured {
    peer: String,
    size: u32,
    json: bool,
    times: Times,
}

impl Measured {
    /// Of no round trips there is nothing to tell.
    fn print(&self) -> Result<(), Unwritten> {
        let (times, size, peer) = (&self.times, self.size, &self.peer);
        let (count, min, max) = (times.count, times.min, times.max);
        if count == 0 {
            return Ok(());
        }
        let (avg, mdev) = (times.avg(), times.mdev());
        if self.json {
            return print(json!({
                "peer": peer, "count": count, "bytes": size,
                "min_us": min, "avg_us": avg, "max_us": max, "mdev_us": mdev,
            }));
        }
        print(format_args!(
            "{count} round trips of {size} bytes to {peer}: \
             min {min:.1} us, avg {avg:.1} us, max {max:.1} us, mdev {mdev:.1} us"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up() {
        let mut times = Times::default();
        for time in [2, 1, 6] {
            times.add(Duration::from_micros(time));
        }
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(times.min, 1.0) && close(times.avg(), 3.0) && close(times.max, 6.0));
        assert!(close(times.mdev(), (14.0f64 / 3.0).sqrt()) && times.count == 3);
    }

    #[test]
    fn finds_a_wrong_byte() {
        struct Liar;
        impl Wire for Liar {
            fn exchange(&self, sent: &[u8], back: &mut [u8]) -> Result<()> {
                back.copy_from_slice(sent);
                back[7] ^= 1;
                Ok(())
            }
        }
        let error = round_trip(&Liar, 1, 8).unwrap_err();
        assert!(error.to_string().contains("other bytes"));
    }
}

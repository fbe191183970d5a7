// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts ping`: round trips to `idts echo`.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use idts::{Channel, Connect};
use serde_json::json;

use crate::cli::Ping;
use crate::open;

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
    let mut times = Vec::new();
    for number in 0..args.count {
        if number > 0 {
            std::thread::sleep(args.interval);
        }
        let time = round_trip(&channel, number, args.size as usize)
            .with_context(|| format!("round trip {} to {peer}", number + 1))?;
        times.push(time);
    }
    print(args, &peer.to_string(), &Summary::of(&times));
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

impl Wire for Channel {
    fn exchange(&self, sent: &[u8], back: &mut [u8]) -> Result<()> {
        let received = self.transact(sent, back)?;
        if received.is_end() {
            bail!("the peer closed the channel");
        }
        if !self.has_records() {
            let mut stream = self;
            return Ok(stream.read_exact(&mut back[received.len..])?);
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

/// Times in microseconds.
#[derive(Debug, PartialEq)]
struct Summary {
    min: f64,
    avg: f64,
    max: f64,
}

impl Summary {
    fn of(times: &[Duration]) -> Self {
        let micros = || times.iter().map(|time| time.as_secs_f64() * 1e6);
        Self {
            min: micros().fold(f64::INFINITY, f64::min),
            avg: micros().sum::<f64>() / times.len() as f64,
            max: micros().fold(0.0, f64::max),
        }
    }
}

fn print(args: &Ping, peer: &str, summary: &Summary) {
    let Summary { min, avg, max } = summary;
    if args.output.json {
        let object = json!({
            "peer": peer, "count": args.count, "bytes": args.size,
            "min_us": min, "avg_us": avg, "max_us": max,
        });
        println!("{object}");
    } else {
        println!(
            "{} round trips of {} bytes to {peer}: min {min:.1} us, avg {avg:.1} us, max {max:.1} us",
            args.count, args.size
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up() {
        let times = [1, 2, 6].map(Duration::from_micros);
        let summary = Summary::of(&times);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(summary.min, 1.0) && close(summary.avg, 3.0) && close(summary.max, 6.0));
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

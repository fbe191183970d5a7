// SPDX-License-Identifier: GPL-2.0
//! A write and a read in one call: requests longer than the ring, then what the call says that it
//! sent when it cannot go on or a signal ends it.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure, Result};
use idts::{Bind, Channel};
use idts_core::uapi::{nr, Transact, MAGIC};
use rustix::ioctl::opcode;
use serde_json::{json, Value};

use crate::{calls, cli, probe};

const RING: u32 = 16384;
const ROUNDS: usize = 40;
/// A request of this length stands for "read no more until the ring is full".
const HOLD: u32 = u32::MAX;

/// A request: its length, and as many bytes.
fn request(round: usize) -> Vec<u8> {
    let len = 1 + round * 997 % (3 * RING as usize);
    let mut bytes = (len as u32).to_le_bytes().to_vec();
    bytes.extend((0..len).map(|at| (at ^ round) as u8));
    bytes
}

fn sum(bytes: &[u8]) -> [u8; 8] {
    bytes
        .iter()
        .map(|byte| u64::from(*byte))
        .sum::<u64>()
        .to_le_bytes()
}

pub fn client(args: &cli::Calls) -> Result<Value> {
    let channel = probe::patient(args.to, RING)?;
    for round in 0..ROUNDS {
        let request = request(round);
        ensure!(
            ask(&channel, &request)? == sum(&request[4..]),
            "round {round}"
        );
    }
    ask(&channel, &HOLD.to_le_bytes())?;
    let long = vec![1; RING as usize + 100];
    channel.set_nonblocking(true)?;
    let full = raw(&channel, &long);
    channel.set_nonblocking(false)?;
    let signal = interrupted(&channel)?;
    channel.shutdown(Shutdown::Write)?;
    let mut end = Vec::new();
    (&channel).read_to_end(&mut end)?;
    Ok(json!({ "rounds": ROUNDS, "full": full, "signal": signal, "end": end.len() }))
}

/// One round trip; the reply's eight bytes.
fn ask(channel: &Channel, request: &[u8]) -> Result<[u8; 8]> {
    let mut reply = [0; 8];
    let got = channel.transact(request, &mut reply)?.len;
    ensure!(got > 0, "the stream ended");
    let mut rest = channel;
    rest.read_exact(&mut reply[got..])?;
    Ok(reply)
}

/// The call itself: what it gave, and what it says it sent.
fn raw(channel: &Channel, bytes: &[u8]) -> Value {
    let mut reply = [0; 8];
    let mut transact = Transact {
        tx: bytes.as_ptr() as u64,
        tx_len: bytes.len() as u32,
        rx: reply.as_mut_ptr() as u64,
        rx_len: reply.len() as u32,
        ..Transact::default()
    };
    let code = opcode::read_write::<Transact>(MAGIC, nr::TRANSACT);
    // SAFETY: The call reads and writes the structure, and the two buffers that it names, none of
    // which is used elsewhere.
    let result = unsafe { libc::ioctl(channel.as_fd().as_raw_fd(), code as _, &mut transact) };
    match result {
        -1 => json!([
            probe::name(std::io::Error::last_os_error().raw_os_error()),
            transact.sent
        ]),
        n => json!([n, transact.sent]),
    }
}

/// What a signal makes of a call that wrote a byte and waits to read.
fn interrupted(channel: &Channel) -> Result<Value> {
    calls::quiet_signal(false)?;
    // The thread that calls: 0 before it does, the maximum afterwards.
    let calling = AtomicU64::new(0);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            // SAFETY: No requirements.
            let this = unsafe { libc::pthread_self() };
            calling.store(this, Ordering::Release);
            let result = raw(channel, &[2]);
            calling.store(u64::MAX, Ordering::Release);
            result
        });
        calls::signal_until_done(&calling, calls::OFTEN);
        caller.join().map_err(|_| anyhow!("the caller panicked"))
    })
}

pub fn serve(args: &cli::CallsServe) -> Result<Value> {
    let listener = Bind::new(args.port).listen()?;
    eprintln!("listening on {}", args.port);
    let (channel, _) = listener.accept()?;
    let (mut reply, mut rounds) = (Vec::new(), 0);
    loop {
        let mut head = [0; 4];
        let got = channel.transact(&reply, &mut head)?.len;
        let mut stream = &channel;
        stream.read_exact(&mut head[got..])?;
        let len = u32::from_le_bytes(head);
        if len == HOLD {
            break;
        }
        let mut bytes = vec![0; len as usize];
        stream.read_exact(&mut bytes)?;
        reply = sum(&bytes).to_vec();
        rounds += 1;
    }
    // The answer to HOLD; nothing is read meanwhile.
    ensure!(
        channel.transact(&[0; 8], &mut [])?.len == 0,
        "nothing was to be read"
    );
    while channel.info()?.rx_avail < RING {
        thread::sleep(Duration::from_millis(1));
    }
    let mut rest = Vec::new();
    (&channel).read_to_end(&mut rest)?;
    let twos = rest.iter().filter(|byte| **byte == 2).count();
    Ok(json!({ "rounds": rounds, "rest": rest.len(), "twos": twos }))
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts echo`: sends back what comes, to many peers at a time.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use idts::output::causes;
use idts::seldom::Seldom;
use idts::{Channel, Listener};

use crate::cli::{Echo, Patience};
use crate::locked::lock;
use crate::open::{self, may_pass, PAUSE};
use crate::paced::Paced;

/// Bytes of a stream that are sent back at once.
const PIECE: usize = 64 << 10;

/// Bytes of buffers for all peers.
const BUFFERS: usize = 64 << 20;

/// Of a thread; it has its buffers elsewhere.
const STACK: usize = 256 << 10;

pub fn run(args: &Echo) -> Result<()> {
    let bind = open::bind(args.port, args.record, args.only.domain.as_ref())?;
    let bind = bind.max_ring(args.max_ring.unwrap_or(0));
    let patience = args.patience;
    if args.once {
        let channel = open::accept_one(&bind)?;
        let room = room(&channel)?;
        return serve(channel, room, patience);
    }
    let shop = Arc::new(Shop::default());
    let listener = open::listen(&bind)?;
    loop {
        let seat = shop.wait_for_seat(args.peers);
        if let Err(error) = receive_one(&shop, seat, &listener, patience) {
            if !may_pass(&error) {
                return Err(error);
            }
            // Those who are served go on; one that ends gives back what has run out.
            shop.tell(&format!("idts: {}", causes(&error)));
            thread::sleep(PAUSE);
        }
    }
}

/// Waits for a peer and has a thread serve it.
fn receive_one(
    shop: &Arc<Shop>,
    mut seat: Seat,
    listener: &Listener,
    patience: Patience,
) -> Result<()> {
    let (channel, peer) = listener.accept()?;
    let room = room(&channel)?;
    if !seat.take_buffers(2 * room) {
        shop.tell(&format!("idts: {peer} is refused: no buffers are left"));
        return Ok(());
    }
    let shop = Arc::clone(shop);
    let serving = move || {
        // One peer's trouble is not the others'.
        if let Err(error) = serve(channel, room, patience) {
            shop.tell(&format!("idts: {}", causes(&error)));
        }
        drop(seat);
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(serving);
    thread.map(drop).context("cannot start a thread")
}

/// What all peers share.
#[derive(Default)]
struct Shop {
    taken: Mutex<Taken>,
    /// Somebody has left.
    left: Condvar,
    log: Mutex<Seldom>,
}

#[derive(Default)]
struct Taken {
    seats: u32,
    buffers: usize,
}

/// A peer's share, which comes back when it is dropped.
struct Seat {
    shop: Arc<Shop>,
    buffers: usize,
}

impl Shop {
    fn wait_for_seat(self: &Arc<Self>, seats: u32) -> Seat {
        let mut taken = lock(&self.taken);
        while taken.seats >= seats {
            taken = self
                .left
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        taken.seats += 1;
        Seat {
            shop: Arc::clone(self),
            buffers: 0,
        }
    }

    fn tell(&self, line: &str) {
        lock(&self.log).say(line);
    }
}

impl Seat {
    /// False if that many bytes are not left.
    fn take_buffers(&mut self, bytes: usize) -> bool {
        let mut taken = lock(&self.shop.taken);
        let fits = taken.buffers + bytes <= BUFFERS;
        if fits {
            taken.buffers += bytes;
            self.buffers += bytes;
        }
        fits
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.shop.taken);
        taken.seats -= 1;
        taken.buffers -= self.buffers;
        self.shop.left.notify_one();
    }
}

/// Bytes that each of a peer's two buffers has.
fn room(channel: &Channel) -> Result<usize> {
    Ok(match channel.has_records() {
        true => channel.info()?.longest_rx_record(),
        false => PIECE,
    })
}

fn serve(channel: Channel, room: usize, patience: Patience) -> Result<()> {
    let peer = channel.peer();
    let mut paced = Paced::new(&channel, patience.timeout, patience.max_time)?;
    echo(room, |sent, buffer| Ok(paced.transact(sent, buffer)?.len))
        .with_context(|| format!("the channel with {peer}"))?;
    channel.shutdown(Shutdown::Write)?;
    Ok(())
}

/// Sends back what comes, at most `room` bytes at once. `transact` sends and
/// receives.
fn echo(
    room: usize,
    mut transact: impl FnMut(&[u8], &mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let (mut sent, mut next) = (vec![0; room], vec![0; room]);
    let mut len = 0;
    loop {
        len = transact(&sent[..len], &mut next)?;
        if len == 0 {
            return Ok(());
        }
        std::mem::swap(&mut sent, &mut next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn everything_comes_back() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            echo(3, |sent, buffer| {
                theirs.write_all(sent)?;
                theirs.read(buffer)
            })
        });
        ours.write_all(b"hello").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        ours.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"hello");
        server.join().unwrap().unwrap();
    }

    #[test]
    fn seats_and_buffers_are_bounded_and_come_back() {
        let shop = Arc::new(Shop::default());
        let mut first = shop.wait_for_seat(2);
        let mut second = shop.wait_for_seat(2);
        assert!(first.take_buffers(BUFFERS - 1));
        assert!(!second.take_buffers(2) && second.take_buffers(1));
        let waiting = thread::spawn({
            let shop = Arc::clone(&shop);
            move || shop.wait_for_seat(2).take_buffers(BUFFERS - 1)
        });
        drop(first);
        assert!(waiting.join().unwrap());
        drop(second);
        assert_eq!(lock(&shop.taken).seats, 0);
        assert_eq!(lock(&shop.taken).buffers, 0);
    }
}

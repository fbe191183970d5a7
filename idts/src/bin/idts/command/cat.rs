// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts cat`: standard input and output on a channel, as nc does it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use anyhow::{anyhow, Context, Result};
use idts::output::{Output, Unwritten};
use idts::{Channel, Connect, BUFFER_SIZE};
use rustix::io::Errno;
use rustix::stdio::dup2_stdout;

use crate::cli::Cat;
use crate::input::{Input, Pieces};
use crate::open;
use crate::records::{self, Kept, Place, Writer};

pub fn run(args: &Cat) -> Result<()> {
    let channel = open(args)?;
    let peer = channel.peer();
    let pieces = pieces(args, &channel)?;
    let channel = Arc::new(channel);
    let input = thread::Builder::new().spawn({
        let channel = Arc::clone(&channel);
        move || send_input(&channel, pieces)
    });
    // Where a user may have no more threads, say.
    let input = input.context("cannot start the sending thread")?;
    // When this fails the program ends, and the thread with it.
    let received = if args.record {
        receive_records(&channel, args.lines)
    } else {
        receive_output(&channel)
    };
    received.with_context(|| format!("the channel with {peer}"))?;
    // Whoever reads our output need not wait until our input ends too.
    end_stdout().context("closing standard output")?;
    let sent = input
        .join()
        .map_err(|_| anyhow!("the sending thread panicked"))?;
    sent.with_context(|| format!("the channel with {peer}"))
}

fn open(args: &Cat) -> Result<Channel> {
    let Some(peer) = &args.peer else {
        let port = args.listen.unwrap_or_default();
        return open::accept_one(&open::bind(port, args.record, args.from.as_ref())?);
    };
    let ring = args.ring.unwrap_or_default();
    open::connect(peer, args.wait.wait, |connect: Connect| {
        let connect = connect.tx_ring(ring).rx_ring(ring);
        if args.record {
            connect.records()
        } else {
            connect
        }
    })
}

/// What of the input goes into one write.
fn pieces(args: &Cat, channel: &Channel) -> Result<Pieces> {
    if !args.record {
        return Ok(Pieces::Reads(BUFFER_SIZE));
    }
    let longest = channel.info()?.longest_tx_record();
    Ok(if args.lines {
        Pieces::Lines(longest)
    } else {
        Pieces::Reads(longest)
    })
}

fn receive_records(channel: &Channel, lines: bool) -> Result<()> {
    let longest = channel.info()?.longest_rx_record();
    let place = Place::Stdout(Output::Stdout);
    let mut writer = Writer { place, lines };
    let recv = |buffer: &mut [u8]| channel.recv(buffer);
    records::receive(recv, longest, None, &mut writer, &Kept::default())?;
    Ok(())
}

fn receive_output(channel: &Channel) -> Result<()> {
    let mut output = Output::Stdout;
    let mut channel = channel;
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match channel.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => output
                .write_all(&buffer[..bytes])
                .map_err(Unwritten::of_data)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

/// Closes standard output; /dev/null takes its number, so that nothing else does.
fn end_stdout() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    Ok(dup2_stdout(null)?)
}

/// Sends standard input until it ends, or until nobody is there to take it.
/// Ends the sending half in any case: the peer would wait for more, and we for
/// the peer.
fn send_input(channel: &Channel, pieces: Pieces) -> Result<()> {
    let sent = send_pieces(channel, pieces);
    let shut = match channel.shutdown(Shutdown::Write) {
        Err(error) if error.raw_os_error() != Some(Errno::NOTCONN.raw_os_error()) => {
            Err(error.into())
        }
        _ => Ok(()),
    };
    sent.and(shut)
}

fn send_pieces(mut channel: &Channel, pieces: Pieces) -> Result<()> {
    let mut input = Input::stdin(pieces)?;
    while let Some(piece) = input.next(channel)? {
        if channel.has_records() {
            channel.send(piece)
        } else {
            channel.write_all(piece)
        }
        .context("sending")?;
    }
    Ok(())
}

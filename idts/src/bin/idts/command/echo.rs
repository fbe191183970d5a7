// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts echo`: sends back what comes, to many peers at a time.

use std::io;
use std::net::Shutdown;
use std::thread;

use anyhow::{Context, Result};
use idts::{Channel, BUFFER_SIZE};

use crate::cli::Echo;
use crate::open;

pub fn run(args: &Echo) -> Result<()> {
    let bind = open::bind(args.port, args.record).max_ring(args.max_ring.unwrap_or(0));
    if args.once {
        return serve(open::accept_one(&bind)?);
    }
    let listener = open::listen(&bind)?;
    for incoming in listener.incoming() {
        let (channel, _) = incoming?;
        thread::Builder::new()
            .spawn(move || {
                // One peer's trouble is not the others'.
                if let Err(error) = serve(channel) {
                    eprintln!("idts: {error:#}");
                }
            })
            .context("cannot start a thread")?;
    }
    Ok(())
}

fn serve(channel: Channel) -> Result<()> {
    let peer = channel.peer();
    let room = match channel.has_records() {
        true => channel.info()?.longest_rx_record(),
        false => BUFFER_SIZE,
    };
    echo(room, |sent, buffer| Ok(channel.transact(sent, buffer)?.len))
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
}

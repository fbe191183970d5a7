// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts echo`: sends back what comes, to many peers at a time.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::thread;

use anyhow::{Context, Result};
use idts::{Channel, BUFFER_SIZE};

use crate::cli::Echo;
use crate::open;

pub fn run(args: &Echo) -> Result<()> {
    let bind = open::bind(args.port, args.record);
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

fn serve(mut channel: Channel) -> Result<()> {
    let peer = channel.peer();
    let echoed = if channel.has_records() {
        echo_records(&channel)
    } else {
        echo(&mut channel)
    };
    echoed.with_context(|| format!("the channel with {peer}"))?;
    channel.shutdown(Shutdown::Write)?;
    Ok(())
}

fn echo(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => stream.write_all(&buffer[..bytes])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn echo_records(channel: &Channel) -> io::Result<()> {
    let mut buffer = vec![0; channel.info()?.longest_rx_record()];
    loop {
        match channel.recv(&mut buffer)?.len {
            0 => return Ok(()),
            len => channel.send(&buffer[..len])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn everything_comes_back() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || echo(&mut theirs));
        ours.write_all(b"hello").unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        ours.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"hello");
        server.join().unwrap().unwrap();
    }
}

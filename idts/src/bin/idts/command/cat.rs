// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts cat`: standard input and output on a channel, as nc does it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;

use anyhow::{anyhow, Context, Result};
use idts::{Channel, BUFFER_SIZE};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

use crate::cli::Cat;
use crate::open;

pub fn run(args: &Cat) -> Result<()> {
    let channel = match (&args.peer, args.listen) {
        (Some(peer), _) => open::connect(peer, args.wait.wait, |connect| connect)?,
        (None, port) => open::accept_one(port.unwrap_or_default(), None)?,
    };
    let peer = channel.peer_addr();
    let channel = Arc::new(channel);
    let input = thread::spawn({
        let channel = Arc::clone(&channel);
        move || send_input(&channel)
    });
    // When this fails the program ends, and the thread with it.
    receive_output(&channel).with_context(|| format!("the channel with {peer}"))?;
    let sent = input
        .join()
        .map_err(|_| anyhow!("the sending thread panicked"))?;
    sent.with_context(|| format!("the channel with {peer}"))
}

fn receive_output(channel: &Channel) -> Result<()> {
    // Not std's stdout, which holds back what does not end in a newline.
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut channel = channel;
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match channel.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => output
                .write_all(&buffer[..bytes])
                .context("writing standard output")?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

/// Sends standard input until it ends, or until nobody is there to take it.
fn send_input(mut channel: &Channel) -> Result<()> {
    let stdin = io::stdin();
    let mut input = File::from(stdin.as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; BUFFER_SIZE];
    while wait_for_input(input.as_fd(), channel)? {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => channel.write_all(&buffer[..bytes]).context("sending")?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading standard input"),
        }
    }
    match channel.shutdown(Shutdown::Write) {
        Err(error) if error.raw_os_error() != Some(Errno::NOTCONN.raw_os_error()) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// True when there is input; false when the channel is closed at both ends,
/// so that a silent terminal does not keep the program alive.
fn wait_for_input(input: BorrowedFd<'_>, channel: &Channel) -> Result<bool> {
    let mut fds = [
        PollFd::from_borrowed_fd(input, PollFlags::IN),
        PollFd::new(channel, PollFlags::empty()),
    ];
    loop {
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            result => {
                result.context("waiting for input")?;
                return Ok(!fds[0].revents().is_empty() || fds[1].revents().is_empty());
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! How a channel looks whose peer closed it: with all read, or with data left unread.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use rustix::event::PollFlags;
use serde_json::{json, Value};

use crate::{cli, probe};

const REQUEST: usize = 100;
const LAST: &[u8] = b"last words";
/// Looks for a hang-up, a millisecond apart: after so many it does not come.
const LOOKS: u32 = 60_000;

/// Sends, waits for the hang-up, and notes what read, write and poll make of it.
pub fn client(args: &cli::Hangup) -> Result<Value> {
    let mut channel = probe::patient(args.to, 0)?;
    channel.write_all(&[b'x'; REQUEST])?;
    for look in 0.. {
        let revents = probe::wait(&channel, PollFlags::RDHUP)?;
        if revents.contains(PollFlags::HUP) {
            break;
        }
        ensure!(look < LOOKS, "{revents:?}: the peer reads on for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
    let poll = probe::events(&channel)?;
    let mut buffer = [0; 64];
    let mut reads = Vec::new();
    let mut got = Vec::new();
    for _ in 0..3 {
        let result = channel.read(&mut buffer);
        reads.push(probe::result(&result));
        if let Ok(count) = result {
            got.extend_from_slice(&buffer[..count]);
        }
    }
    let writes = [(); 2].map(|()| probe::result(&channel.write(b"y")));
    let right = if args.unread {
        got.is_empty()
    } else {
        got == LAST
    };
    Ok(json!({ "poll": poll, "reads": reads, "writes": writes, "content": right }))
}

/// Takes a request, says its last words, closes; or closes with the request unread.
pub fn serve(args: &cli::HangupServe) -> Result<Value> {
    let mut channel = probe::accept_one(args.port)?;
    if args.unread {
        while (channel.info()?.rx_avail as usize) < REQUEST {
            probe::wait(&channel, PollFlags::IN)?;
        }
    } else {
        channel
            .read_exact(&mut [0; REQUEST])
            .context("the request")?;
        channel.write_all(LAST)?;
    }
    if args.keep {
        channel.shutdown(Shutdown::Both)?;
        probe::wait_for_line()?;
    }
    drop(channel);
    Ok(json!({ "error": Value::Null }))
}

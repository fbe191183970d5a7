// SPDX-License-Identifier: GPL-2.0
//! Standard outputs of every kind.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc::{channel, Sender};
use std::thread::{spawn, JoinHandle};

use anyhow::{ensure, Result};
use rustix::fs::{fcntl_setfl, OFlags};

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pipe that is read.
    Read,
    /// A disk that is full.
    Full,
    /// A pipe whose reader has gone.
    Unread,
    /// Closed.
    Closed,
    /// A pipe that is full at first, and does not block whoever writes into it, as somebody
    /// else has it who shares it.
    Nonblocking,
    /// A pipe that is full, and stays so.
    Stalled,
}

impl Kind {
    /// Whether what is written there gets lost, and nobody but us knows.
    pub fn fails(self) -> bool {
        matches!(self, Self::Full | Self::Unread)
    }
}

/// The other end of an output.
#[derive(Debug)]
pub enum Other {
    /// There is none.
    None,
    /// Nobody reads it.
    Idle(#[allow(dead_code, reason = "it is to stay open")] PipeReader),
    /// Somebody reads it, once told to.
    Read(Sender<()>, JoinHandle<std::io::Result<Vec<u8>>>),
}

/// Fills a pipe.
fn fill(writer: &mut PipeWriter) -> Result<usize> {
    fcntl_setfl(&*writer, OFlags::NONBLOCK)?;
    let mut filled = 0;
    // Pages first, so that the last byte goes in, too.
    for piece in [&[b'x'; 4096][..], b"x"] {
        while let Ok(count) = writer.write(piece) {
            filled += count;
        }
    }
    Ok(filled)
}

/// An output of this kind, and its other end. A shell closes what is to be closed.
pub fn open(kind: Kind) -> Result<(Stdio, Other)> {
    let (mut reader, mut writer) = std::io::pipe()?;
    let mut filled = 0;
    match kind {
        Kind::Full => {
            let full = File::options().write(true).open("/dev/full")?;
            return Ok((full.into(), Other::None));
        }
        Kind::Closed => return Ok((Stdio::null(), Other::None)),
        Kind::Unread => return Ok((writer.into(), Other::None)),
        Kind::Stalled => {
            fill(&mut writer)?;
            fcntl_setfl(&writer, OFlags::empty())?;
            return Ok((writer.into(), Other::Idle(reader)));
        }
        Kind::Nonblocking => filled = fill(&mut writer)?,
        Kind::Read => {}
    }
    let (sender, receiver) = channel();
    if kind == Kind::Read {
        sender.send(())?;
    }
    let reading = spawn(move || {
        // Whoever forgets to tell wants it, too.
        let _ = receiver.recv();
        let mut all = Vec::new();
        reader.read_to_end(&mut all)?;
        Ok(all.split_off(filled))
    });
    let writer = File::from(OwnedFd::from(writer));
    Ok((writer.into(), Other::Read(sender, reading)))
}

impl Other {
    /// Has it read from now on.
    pub fn release(&self) {
        if let Self::Read(sender, _) = self {
            // It may be reading already.
            let _ = sender.send(());
        }
    }

    /// All that came, once there is no more; None where nobody reads.
    pub fn all(self) -> Result<Option<Vec<u8>>> {
        let Self::Read(sender, reading) = self else {
            return Ok(None);
        };
        drop(sender);
        let all = reading.join();
        ensure!(all.is_ok(), "the reader panicked");
        Ok(all.ok().transpose()?)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The form in which `idts send` and `idts recv` move a file, over anything
//! that reads and writes. Numbers are little-endian.
//!
//! | part | from | bytes | content |
//! |---|---|---|---|
//! | header | sender | 8 | `IDTSFILE` |
//! | | | 4 | version of this form, 1 |
//! | | | 4 | length of the name, at most 4096 |
//! | | | 8 | length of the file |
//! | | | | the name, UTF-8, for people only: the receiver chooses its own |
//! | body | sender | | the file |
//! | trailer | sender | 4 | CRC-32 (IEEE) of the body |
//! | reply | receiver | 4 | `IDTR` |
//! | | | 4 | 0: the file stands at the receiver's side; 1: it does not |
//! | | | 4 | length of the reason, at most 4096 |
//! | | | | the reason, UTF-8 |
//!
//! A receiver that fails (a full disk, say) replies at once and takes no more: the
//! sender's next write fails with EPIPE, and then it reads the reply. A stream that ends
//! anywhere else is an interrupted transfer: both sides fail, nothing stays. So does a
//! sender whose file turns out to have another length: it sends no trailer.
//! The reply may get lost after the file was put in place: then the sender
//! fails although the file stands. No form can avoid that.
//!
//! A receiver of version 0.1.0 reads on to the end of the trailer before it replies, a
//! sender of it does not read the reply after EPIPE; each works with the other's successor.

use std::io::{self, Read, Write};

use idts::output::say;
use idts::BUFFER_SIZE;

use crate::paced::Over;
use crate::wire::Wire;

const MAGIC: &[u8; 8] = b"IDTSFILE";
const REPLY_MAGIC: &[u8; 4] = b"IDTR";
const VERSION: u32 = 1;
const TEXT_MAX: usize = 4096;
/// A reason of ours must fit into any ring, whoever reads it.
const REASON_MAX: usize = 1024;

/// What the header tells of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub length: u64,
    pub name: String,
}

/// A transfer that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub bytes: u64,
    pub crc32: u32,
}

/// Where a receiver puts the bytes; dropped without `commit`, it leaves none.
pub trait Sink: Write {
    /// Puts the file in its place.
    fn commit(self) -> io::Result<()>;
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("reading the file: {0}")]
    Source(io::Error),
    #[error("the file shrank: {missing} bytes are missing")]
    Shrank { missing: u64 },
    #[error("the file grew: there is more than {length} bytes")]
    Grew { length: u64 },
    #[error("writing the file: {0}")]
    Sink(io::Error),
    #[error("no space for {length} bytes")]
    NoRoom { length: u64 },
    #[error("{length} bytes are more than is taken here")]
    TooLarge { length: u64 },
    #[error("the peer closed the channel {when}")]
    Closed { when: String },
    #[error("the channel broke {when}: {cause}")]
    Broke { when: String, cause: io::Error },
    #[error("the peer was silent for too long {when}")]
    Silent { when: String },
    #[error("the transfer took longer than it may, it was {when}")]
    Over { when: String },
    #[error("the peer is not `idts {0}`")]
    Stranger(&'static str),
    #[error("the peer sends version {0} of the form, this program knows {VERSION}")]
    Version(u32),
    #[error("the checksum does not fit: {computed:08x} here, {told:08x} at the sender")]
    Checksum { computed: u32, told: u32 },
    #[error("the receiver failed: {0}")]
    Receiver(String),
}

/// A failure to move bytes, with how far it had come.
fn broken(cause: io::Error, when: impl Into<String>) -> Failure {
    let when = when.into();
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Failure::Closed { when },
        io::ErrorKind::TimedOut if Over::is_cause_of(&cause) => Failure::Over { when },
        io::ErrorKind::TimedOut => Failure::Silent { when },
        _ => Failure::Broke { when, cause },
    }
}

fn after(done: u64, length: u64) -> String {
    format!("after {done} of {length} bytes")
}

/// Sends `source`, of the length that `header` tells; done when the receiver
/// has it all. `progress` hears how far it is.
pub fn send(
    source: &mut impl Read,
    peer: &mut impl Wire,
    header: &Header,
    progress: impl Fn(u64),
) -> Result<Outcome, Failure> {
    let crc32 = match send_all(source, peer, header, progress) {
        // A receiver that takes no more has said why.
        Err(closed @ Failure::Closed { .. }) => {
            peer.hurry();
            return Err(match read_reply(peer) {
                Err(told @ Failure::Receiver(_)) => told,
                _ => closed,
            });
        }
        result => result?,
    };
    read_reply(peer)?;
    Ok(Outcome {
        bytes: header.length,
        crc32,
    })
}

/// All that the sender sends.
fn send_all(
    source: &mut impl Read,
    peer: &mut impl Write,
    header: &Header,
    progress: impl Fn(u64),
) -> Result<u32, Failure> {
    peer.write_all(&header.encode())
        .map_err(|cause| broken(cause, "at the header"))?;
    let crc32 = send_body(source, peer, header.length, progress)?;
    expect_end(source, header.length)?;
    peer.write_all(&crc32.to_le_bytes())
        .map_err(|cause| broken(cause, "at the checksum"))?;
    Ok(crc32)
}

/// A file that has more than its length told is another one than was announced.
fn expect_end(source: &mut impl Read, length: u64) -> Result<(), Failure> {
    loop {
        match source.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(Failure::Grew { length }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Source(error)),
        }
    }
}

fn send_body(
    source: &mut impl Read,
    peer: &mut impl Write,
    length: u64,
    progress: impl Fn(u64),
) -> Result<u32, Failure> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut hasher = crc32fast::Hasher::new();
    let mut done = 0;
    while done < length {
        let room = piece(&mut buffer, length - done);
        let bytes = match source.read(room) {
            Ok(0) => {
                return Err(Failure::Shrank {
                    missing: length - done,
                })
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Source(error)),
        };
        hasher.update(&buffer[..bytes]);
        peer.write_all(&buffer[..bytes])
            .map_err(|cause| broken(cause, after(done, length)))?;
        done += bytes as u64;
        progress(done);
    }
    Ok(hasher.finalize())
}

/// As much of the buffer as `left` bytes may fill.
fn piece(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let size = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    &mut buffer[..size]
}

/// Bytes that are to be read next of a header that begins so; 0 when there is no more of it,
/// or what there is is none.
pub fn missing(said: &[u8]) -> usize {
    let number = |at: usize| said.get(at..at + 4).map(|bytes| bytes.try_into());
    let number = |at: usize| Some(u32::from_le_bytes(number(at)?.ok()?));
    let end = match number(8) {
        None => 12,
        Some(version) if version != VERSION || !said.starts_with(MAGIC) => 0,
        Some(_) if said.len() < 24 => 24,
        Some(_) => match number(12).map(|length| length as usize) {
            Some(length) if length <= TEXT_MAX => 24 + length,
            _ => 0,
        },
    };
    end.saturating_sub(said.len())
}

/// Reads what a sender tells of its file. One of another version hears so.
pub fn read_header(peer: &mut (impl Read + Write)) -> Result<Header, Failure> {
    let header = Header::read(peer);
    if let Err(failure @ Failure::Version(_)) = &header {
        // Whether that reaches it does not matter.
        let _ = write_reply(peer, Some(failure));
    }
    header
}

/// Receives the file that `header` tells of into `sink`, and replies. It has `limit` bytes at
/// most, and there is `room` for so many, where that is known.
pub fn receive(
    peer: &mut impl Wire,
    header: &Header,
    sink: impl Sink,
    limit: Option<u64>,
    room: Option<u64>,
    progress: impl Fn(u64),
) -> Result<Outcome, Failure> {
    let length = header.length;
    let result = if limit.is_some_and(|limit| length > limit) {
        Err(Failure::TooLarge { length })
    } else if room.is_some_and(|room| length > room) {
        Err(Failure::NoRoom { length })
    } else {
        receive_body(peer, length, sink, progress)
    };
    peer.come_to_the_end();
    let reply = write_reply(peer, result.as_ref().err());
    match &result {
        Err(_) => peer.refuse(),
        Ok(_) => {
            if let Err(cause) = reply {
                say(format_args!(
                    "idts: warning: the file stands, but its sender did not hear so: {cause}"
                ));
            }
        }
    }
    result
}

/// Reads body and trailer into `sink`, which is gone when this returns: nothing of a failed
/// transfer takes room while the sender is told.
fn receive_body(
    peer: &mut impl Read,
    length: u64,
    mut sink: impl Sink,
    progress: impl Fn(u64),
) -> Result<Outcome, Failure> {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut hasher = crc32fast::Hasher::new();
    let mut done = 0;
    while done < length {
        let room = piece(&mut buffer, length - done);
        let bytes = match peer.read(room) {
            Ok(0) => {
                return Err(Failure::Closed {
                    when: after(done, length),
                })
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(broken(cause, after(done, length))),
        };
        hasher.update(&buffer[..bytes]);
        sink.write_all(&buffer[..bytes]).map_err(Failure::Sink)?;
        done += bytes as u64;
        progress(done);
    }
    let told = read_u32(peer).map_err(|cause| broken(cause, "at the checksum"))?;
    let computed = hasher.finalize();
    if computed != told {
        return Err(Failure::Checksum { computed, told });
    }
    sink.commit().map_err(Failure::Sink)?;
    Ok(Outcome {
        bytes: length,
        crc32: computed,
    })
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let name = shorten(&self.name, TEXT_MAX).as_bytes();
        let mut header = Vec::with_capacity(24 + name.len());
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((name.len() as u32).to_le_bytes());
        header.extend(self.length.to_le_bytes());
        header.extend(name);
        header
    }

    fn read(peer: &mut impl Read) -> Result<Self, Failure> {
        let mut read = || -> io::Result<_> {
            let magic: [u8; 8] = read_array(peer)?;
            let version = read_u32(peer)?;
            if &magic != MAGIC || version != VERSION {
                return Ok((magic, version, None));
            }
            let name_length = read_u32(peer)?;
            let length = u64::from_le_bytes(read_array(peer)?);
            let name = read_text(peer, name_length)?;
            Ok((magic, version, name.map(|name| Self { length, name })))
        };
        let (magic, version, header) = read().map_err(|cause| broken(cause, "at the header"))?;
        if &magic == MAGIC && version != VERSION {
            return Err(Failure::Version(version));
        }
        header.ok_or(Failure::Stranger("send"))
    }
}

fn write_reply(peer: &mut impl Write, failure: Option<&Failure>) -> io::Result<()> {
    let reason = failure.map(ToString::to_string).unwrap_or_default();
    let reason = shorten(&reason, REASON_MAX).as_bytes();
    let mut reply = Vec::with_capacity(12 + reason.len());
    reply.extend(REPLY_MAGIC);
    reply.extend(u32::from(failure.is_some()).to_le_bytes());
    reply.extend((reason.len() as u32).to_le_bytes());
    reply.extend(reason);
    peer.write_all(&reply)
}

fn read_reply(peer: &mut impl Read) -> Result<(), Failure> {
    let mut read = || -> io::Result<_> {
        let magic: [u8; 4] = read_array(peer)?;
        let status = read_u32(peer)?;
        let length = read_u32(peer)?;
        if &magic != REPLY_MAGIC {
            return Ok(None);
        }
        Ok(read_text(peer, length)?.map(|reason| (status, reason)))
    };
    match read().map_err(|cause| broken(cause, "before it said that it has the file"))? {
        Some((0, _)) => Ok(()),
        Some((_, reason)) => Err(Failure::Receiver(reason)),
        None => Err(Failure::Stranger("recv")),
    }
}

fn read_array<const N: usize>(peer: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    peer.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_u32(peer: &mut impl Read) -> io::Result<u32> {
    read_array(peer).map(u32::from_le_bytes)
}

/// A text of the peer's, safe to print; None when it is too long.
fn read_text(peer: &mut impl Read, length: u32) -> io::Result<Option<String>> {
    let length = length as usize;
    if length > TEXT_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes)?;
    Ok(Some(printable(&String::from_utf8_lossy(&bytes))))
}

/// What would do something to a terminal, or is not seen, is a question mark: besides control
/// characters those that turn the direction of writing, say.
fn printable(text: &str) -> String {
    let shown = |c: char| "\"'\\".contains(c) || c.escape_debug().len() == 1;
    let show = |c: char| if shown(c) { c } else { '?' };
    text.chars().map(show).collect()
}

/// At most `longest` bytes, cut between characters.
fn shorten(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;

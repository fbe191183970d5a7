// SPDX-License-Identifier: GPL-2.0
//! What the driver and the agents say to each other: one command per connection.
//!
//! A connection starts with [`Kind::Hello`], which dom0's agent reads; when it names a guest, dom0's
//! agent passes all that follows to the agent in that guest, so both ends of a command speak the
//! frames below whatever lies between. A frame is a kind byte, a little-endian length, a body.
//! Standard input flows on credit, so that control frames are never stuck behind it.

use std::io::{self, Read};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// No body is longer than this; an agent drops a peer that says otherwise.
pub const MAX_BODY: usize = 64 << 10;
/// Bytes of standard input that may be under way before the first [`Kind::Credit`].
pub const STDIN_WINDOW: usize = 64 << 10;
/// Where dom0's agent listens: at the emulator's own network device (`domain/boot.dom0`), not at
/// a bridge that guests reach.
pub const DOM0_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// TCP port of dom0's agent.
pub const DOM0_PORT: u16 = 7411;
/// Where dom0's agent finds the token that a [`Hello`] must bear.
pub const TOKEN_FILE: &str = "/etc/tb-token";
/// What dom0's agent prints on the console once it listens.
pub const READY_MARK: &str = "tb-agent: dom0 listens";
/// Below a guest's xenstore home: number of the vchan server that waits for a command.
pub const SPARE_NODE: &str = "data/tb";

const HEADER: usize = 5;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To dom0's agent: a [`Hello`] in JSON, first frame of a connection.
    Hello = 1,
    /// To the final agent: a [`Spec`] in JSON.
    Spec,
    /// To the command's standard input.
    Stdin,
    /// End of the command's standard input.
    StdinEof,
    /// Signal for the command's process group: one byte, its number.
    Signal,
    /// Nobody reads this output any more: one byte, 1 or 2.
    CloseOutput,
    /// New size of the terminal: rows and columns, two bytes each.
    Resize,
    /// From the agent: the command runs.
    Started,
    /// From the command's standard output.
    Stdout,
    /// From the command's standard error.
    Stderr,
    /// That many more bytes of standard input may follow: four bytes.
    Credit,
    /// The command closed its standard input.
    StdinClosed,
    /// The command ended: four bytes, its code as shells count it.
    Exit,
    /// The agent could not run it, in words.
    Failed,
    /// From dom0's agent: it has the connection.
    Welcome,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::Hello,
        Kind::Spec,
        Kind::Stdin,
        Kind::StdinEof,
        Kind::Signal,
        Kind::CloseOutput,
        Kind::Resize,
        Kind::Started,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Credit,
        Kind::StdinClosed,
        Kind::Exit,
        Kind::Failed,
        Kind::Welcome,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Who calls, and whom.
#[derive(Serialize, Deserialize)]
pub struct Hello {
    /// The secret of this run of the testbed.
    pub token: String,
    /// Name of the domain that shall run the command.
    pub domain: String,
    /// How long to wait for an agent in it.
    pub wait_secs: u64,
}

/// A command to run.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the agent's own environment.
    pub env: Vec<(String, String)>,
    /// Rows and columns of a terminal, when the command wants one.
    pub pty: Option<(u16, u16)>,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    /// What goes with it.
    pub body: Vec<u8>,
}

impl Frame {
    /// The body as a number; `None` when it is not one.
    pub fn number(&self) -> Option<u32> {
        Some(u32::from_le_bytes(self.body.as_slice().try_into().ok()?))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Appends a frame to `out`.
pub fn put(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    debug_assert!(body.len() <= MAX_BODY);
    out.push(kind as u8);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// A frame by itself.
pub fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    put(&mut out, kind, body);
    out
}

/// Reads one frame and not a byte more; `None` at the end of the stream.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    if from.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..])?;
    let (kind, len) = parse_header(header)?;
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(Some(Frame { kind, body }))
}

fn parse_header(header: [u8; HEADER]) -> io::Result<(Kind, usize)> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = Kind::from_byte(header[0]).ok_or_else(|| bad("unknown kind of frame"))?;
    let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len > MAX_BODY {
        return Err(bad("frame too long"));
    }
    Ok((kind, len))
}

/// Cuts a stream that arrives in pieces into frames.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame, if there is one.
    pub fn pop(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (kind, len) = parse_header(*header)?;
        if self.bytes.len() < HEADER + len {
            return Ok(None);
        }
        let body = self.bytes[HEADER..HEADER + len].to_vec();
        self.bytes.drain(..HEADER + len);
        Ok(Some(Frame { kind, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = frame(Kind::Stdout, b"some bytes");
        put(&mut stream, Kind::StdinEof, b"");
        put(&mut stream, Kind::Exit, &7u32.to_le_bytes());
        for step in 1..stream.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.pop().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen.len(), 3);
            assert_eq!(seen[0].body, b"some bytes");
            assert_eq!(seen[2].number(), Some(7));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[200, 0, 0, 0, 0]);
        assert!(decoder.pop().is_err());
        let mut long = vec![Kind::Stdout as u8];
        long.extend_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
        assert!(read_frame(&mut long.as_slice()).is_err());
    }

    #[test]
    fn every_kind_has_its_byte() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_byte(0), None);
    }
}

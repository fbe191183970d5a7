// SPDX-License-Identifier: MIT OR Apache-2.0
//! Xenstore's messages as bytes (Xen's `docs/misc/xenstore.txt`): made, and taken
//! out of what was read, however it was cut. Reads and writes nothing itself.

use std::io;

use rustix::io::Errno;

/// Longest payload of a message, either way.
pub(crate) const PAYLOAD_MAX: usize = 4096;
const HEADER_SIZE: usize = 16;

/// Message types that the client sends or gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Directory = 1,
    Read = 2,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Write = 11,
    Remove = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
    DirectoryPart = 22,
}

/// A message; E2BIG if it is too long for one.
pub(crate) fn message(kind: Kind, transaction: u32, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
    let payload = parts.concat();
    if payload.len() > PAYLOAD_MAX {
        return Err(Errno::TOOBIG.into());
    }
    let mut message = Vec::with_capacity(HEADER_SIZE + payload.len());
    // The request id is of no use with one request at a time.
    for word in [kind as u32, 0, transaction, payload.len() as u32] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(payload);
    Ok(message)
}

/// What was read and has yet to be taken.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend(bytes);
    }

    /// The next message, if it is whole: its type and payload.
    pub(crate) fn take(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        let rest = &self.bytes[self.taken..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        let word = |at: usize| {
            header[at..]
                .first_chunk()
                .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        let (kind, length) = (word(0), word(12) as usize);
        if length > PAYLOAD_MAX {
            return Err(malformed("a message that is too long"));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.taken += HEADER_SIZE + length;
        Ok(Some((kind, payload)))
    }
}

/// Strings that each end with NUL.
pub(crate) fn strings(payload: &[u8]) -> Vec<String> {
    let all = payload.strip_suffix(&[0]).unwrap_or(payload);
    if all.is_empty() {
        return Vec::new();
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    all.split(|byte| *byte == 0).map(text).collect()
}

/// A part of a folder's children.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Differs when the folder has changed since the part before.
    pub(crate) generation: &'a [u8],
    /// Their names, each with its NUL.
    pub(crate) names: &'a [u8],
    pub(crate) is_last: bool,
}

impl<'a> Part<'a> {
    /// The payload of an answer: the generation, names, and an empty name
    /// behind the last of all.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == 0)?;
        let (generation, rest) = (&payload[..end], &payload[end + 1..]);
        let ended = rest == [0] || rest.ends_with(&[0, 0]);
        let names = if ended { &rest[..rest.len() - 1] } else { rest };
        // One that is neither the last nor brings anything would never end.
        (ended || names.ends_with(&[0])).then_some(Self {
            generation,
            names,
            is_last: ended,
        })
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("xenstored sent {what}"))
}

/// Errors travel by name, those of the protocol's definition.
pub(crate) fn named_error(name: &[u8]) -> io::Error {
    let errno = match name.strip_suffix(&[0]).unwrap_or(name) {
        b"EINVAL" => Errno::INVAL,
        b"EACCES" => Errno::ACCESS,
        b"EEXIST" => Errno::EXIST,
        b"EISDIR" => Errno::ISDIR,
        b"ENOENT" => Errno::NOENT,
        b"ENOMEM" => Errno::NOMEM,
        b"ENOSPC" => Errno::NOSPC,
        b"EIO" => Errno::IO,
        b"ENOTEMPTY" => Errno::NOTEMPTY,
        b"ENOSYS" => Errno::NOSYS,
        b"EROFS" => Errno::ROFS,
        b"EBUSY" => Errno::BUSY,
        b"EAGAIN" => Errno::AGAIN,
        b"EISCONN" => Errno::ISCONN,
        b"E2BIG" => Errno::TOOBIG,
        b"EPERM" => Errno::PERM,
        name => {
            let name = name.escape_ascii();
            return io::Error::other(format!("xenstored answers {name}"));
        }
    };
    errno.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_generation_and_names_and_an_end() {
        let part = |names, is_last| {
            Some(Part {
                generation: b"7",
                names,
                is_last,
            })
        };
        assert_eq!(Part::read(b"7\0a\0b\0"), part(b"a\0b\0", false));
        assert_eq!(Part::read(b"7\0a\0b\0\0"), part(b"a\0b\0", true));
        assert_eq!(Part::read(b"7\0\0"), part(b"", true));
        for nonsense in [&b""[..], b"7", b"7\0", b"7\0a"] {
            assert_eq!(Part::read(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn messages_are_taken_however_they_were_cut() {
        let mut all = message(Kind::Read, 0, &[b"/a\0"]).unwrap();
        all.extend(message(Kind::WatchEvent, 0, &[b"/b\0/b\0"]).unwrap());
        for cut in 1..all.len() {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for part in all.chunks(cut) {
                inbox.put(part);
                while let Some((kind, payload)) = inbox.take().unwrap() {
                    got.push((kind, payload));
                }
            }
            let expected = [(2, b"/a\0".to_vec()), (15, b"/b\0/b\0".to_vec())];
            assert_eq!(got, expected, "cut every {cut} bytes");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The little of xenstore that the agents need, spoken to xenstored directly.
//!
//! libxenstore would do, but it starts a thread for the first watch, and linked statically that
//! thread spoils the requests that follow. Here watches have a connection of their own instead.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{poll, PollFd, PollFlags, Timespec};

const SOCKET: &str = "/run/xenstored/socket";
const DEVICE: &str = "/dev/xen/xenbus";
const HEADER: usize = 16;

/// Kinds of messages, as Xen's public header xs_wire.h numbers them.
#[derive(Clone, Copy)]
enum Op {
    Directory = 1,
    Read = 2,
    Watch = 4,
    Write = 11,
    Remove = 13,
    IsDomainIntroduced = 17,
}
const ERROR: u32 = 16;

/// Two connections to xenstored: one for questions, one for watches.
pub struct Store {
    questions: File,
    watches: File,
}

impl Store {
    /// Connects, by socket in dom0 and by the kernel's device in a guest.
    pub fn open() -> io::Result<Store> {
        Ok(Store {
            questions: connect()?,
            watches: connect()?,
        })
    }

    /// The value of a node, if it exists.
    pub fn read(&self, path: &str) -> Option<String> {
        let bytes = request(&self.questions, Op::Read, &[path, "\0"]).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sets the value of a node.
    pub fn write(&self, path: &str, value: &str) -> io::Result<()> {
        request(&self.questions, Op::Write, &[path, "\0", value]).map(drop)
    }

    /// Removes a node and what is below it; it does not matter whether it was there.
    pub fn remove(&self, path: &str) {
        let _ = request(&self.questions, Op::Remove, &[path, "\0"]);
    }

    /// Names of a node's children; none if there is no such node.
    pub fn list(&self, path: &str) -> Vec<String> {
        let bytes = request(&self.questions, Op::Directory, &[path, "\0"]).unwrap_or_default();
        let names = bytes
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// Has [`Store::fd`] become readable when `path` changes. What happened until now may or may not
    /// count: look at the node after this.
    pub fn watch(&self, path: &str) -> io::Result<()> {
        request(&self.watches, Op::Watch, &[path, "\0tb\0"]).map(drop)
    }

    /// Readable when a watch has fired.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watches.as_fd()
    }

    /// Forgets the watches that have fired so far.
    pub fn drain(&self) -> io::Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        while poll(&mut [PollFd::new(&self.watches, PollFlags::IN)], Some(&now))? > 0 {
            receive(&self.watches)?;
        }
        Ok(())
    }

    /// Whether xenstored still serves this domain.
    pub fn is_alive(&self, domid: u32) -> bool {
        let id = domid.to_string();
        let answer = request(&self.questions, Op::IsDomainIntroduced, &[&id, "\0"]);
        answer.is_ok_and(|bytes| bytes.first() == Some(&b'T'))
    }
}

fn connect() -> io::Result<File> {
    match UnixStream::connect(SOCKET) {
        Ok(socket) => Ok(OwnedFd::from(socket).into()),
        Err(_) => File::options().read(true).write(true).open(DEVICE),
    }
}

/// Sends a message and returns the body of its answer; watches that fire meanwhile are passed over.
fn request(mut to: &File, op: Op, body: &[&str]) -> io::Result<Vec<u8>> {
    let body = body.concat();
    let mut message = Vec::with_capacity(HEADER + body.len());
    // Kind, number of the question, transaction, length.
    for word in [op as u32, 0, 0, body.len() as u32] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message.extend_from_slice(body.as_bytes());
    to.write_all(&message)?;
    loop {
        match receive(to)? {
            (ERROR, name) => {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&name).into_owned(),
                ))
            }
            (kind, body) if kind == op as u32 => return Ok(body),
            _ => {}
        }
    }
}

fn receive(mut from: &File) -> io::Result<(u32, Vec<u8>)> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
    // No message is longer than 4096 bytes; a longer one means that we lost our place.
    let len = word(12) as usize;
    if len > 4096 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok((word(0), body))
}

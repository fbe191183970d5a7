// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small client of xenstore, for tools: look up, write, watch, transact.
//!
//! Speaks the raw protocol (xen's `docs/misc/xenstore.txt`) over xenstored's
//! socket or the kernel's device, whichever is there. One request is under way
//! at a time; events that arrive meanwhile are kept. What nodes mean is the
//! caller's business. Answers longer than one message (4 KiB) are refused.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Where xenstored listens, in the order tried; the second is for domains
/// that do not run it themselves.
const SOCKET: &str = "/run/xenstored/socket";
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

/// Longest payload of a message, either way.
const PAYLOAD_MAX: usize = 4096;
const HEADER_SIZE: usize = 16;

/// Message types that this client sends or gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Directory = 1,
    Read = 2,
    GetPerms = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Write = 11,
    Remove = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
}

/// What a tool may read of a xenstore, real or made up for a test.
pub trait Tree {
    /// The value at `path`; None when there is no such node.
    ///
    /// # Errors
    /// EACCES, or a broken connection.
    fn read(&mut self, path: &str) -> io::Result<Option<String>>;

    /// Names of the children of `path`; none when there is no such node.
    ///
    /// # Errors
    /// EACCES, or a broken connection.
    fn list(&mut self, path: &str) -> io::Result<Vec<String>>;
}

/// The id of the domain called `name`, as dom0 sees it.
///
/// # Errors
/// EACCES outside dom0; what reading gives otherwise.
pub fn domain_by_name(tree: &mut (impl Tree + ?Sized), name: &str) -> io::Result<Option<u16>> {
    for domain in tree.list("/local/domain")? {
        let Ok(id) = domain.parse() else { continue };
        let found = tree.read(&format!("/local/domain/{id}/name"))?;
        if found.as_deref() == Some(name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Both ways to xenstored.
trait Link: Read + Write + AsFd {}
impl<T: Read + Write + AsFd> Link for T {}

/// A connection with xenstored.
pub struct Client {
    link: Box<dyn Link>,
    /// 0 outside a transaction.
    transaction: u32,
    events: VecDeque<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects with this host's xenstored.
    ///
    /// # Errors
    /// That of the last way tried; ENOENT where this is no Xen domain.
    pub fn open() -> io::Result<Self> {
        if Path::new(SOCKET).exists() {
            if let Ok(socket) = UnixStream::connect(SOCKET) {
                return Ok(Self::over(socket));
            }
        }
        let mut failure = io::Error::from(Errno::NOENT);
        for device in DEVICES {
            match File::options().read(true).write(true).open(device) {
                Ok(file) => return Ok(Self::over(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn over(link: impl Read + Write + AsFd + 'static) -> Self {
        Self {
            link: Box::new(link),
            transaction: 0,
            events: VecDeque::new(),
        }
    }

    /// Writes `value` at `path`, which is made when it is not there, with its
    /// parents, each with the permissions of the one above.
    ///
    /// # Errors
    /// EACCES, ENOSPC, EINVAL; a broken connection.
    pub fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        self.request(Kind::Write, &[path.as_bytes(), b"\0", value.as_bytes()])
            .map(drop)
    }

    /// Removes `path` and all below; fine when it is not there.
    ///
    /// # Errors
    /// EACCES; a broken connection.
    pub fn remove(&mut self, path: &str) -> io::Result<()> {
        absent_is_none(self.request(Kind::Remove, &[path.as_bytes(), b"\0"])).map(drop)
    }

    /// Sets the permissions of `path`: the owner with what others may, then
    /// exceptions, each as in `n0`, `r3`, `b5`.
    ///
    /// # Errors
    /// ENOENT, EACCES, EINVAL; a broken connection.
    pub fn set_permissions(&mut self, path: &str, permissions: &[String]) -> io::Result<()> {
        let permissions: String = permissions.iter().flat_map(|one| [one, "\0"]).collect();
        self.request(
            Kind::SetPerms,
            &[path.as_bytes(), b"\0", permissions.as_bytes()],
        )
        .map(drop)
    }

    /// The permissions of `path`, as [`Client::set_permissions`] takes them.
    ///
    /// # Errors
    /// ENOENT, EACCES; a broken connection.
    pub fn permissions(&mut self, path: &str) -> io::Result<Vec<String>> {
        strings(self.request(Kind::GetPerms, &[path.as_bytes(), b"\0"])?)
    }

    /// Starts a transaction, in which all calls are until it ends.
    ///
    /// # Errors
    /// EBUSY when one is under way; a broken connection.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.transaction != 0 {
            return Err(Errno::BUSY.into());
        }
        let answer = text(self.request(Kind::TransactionStart, &[b"\0"])?)?;
        self.transaction = answer.parse().map_err(|_| malformed("a transaction id"))?;
        Ok(())
    }

    /// Ends the transaction; false when it met another one and must be tried
    /// again from its start.
    ///
    /// # Errors
    /// A broken connection.
    pub fn end(&mut self, commit: bool) -> io::Result<bool> {
        let verdict: &[u8] = if commit { b"T\0" } else { b"F\0" };
        let result = self.request(Kind::TransactionEnd, &[verdict]);
        self.transaction = 0;
        match result {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Has changes of `path`, and below, told by [`Client::wait`]; the first
    /// event comes at once.
    ///
    /// # Errors
    /// EEXIST, EACCES; a broken connection.
    pub fn watch(&mut self, path: &str) -> io::Result<()> {
        self.request(
            Kind::Watch,
            &[path.as_bytes(), b"\0", path.as_bytes(), b"\0"],
        )
        .map(drop)
    }

    /// Ends the watch of `path`.
    ///
    /// # Errors
    /// ENOENT; a broken connection.
    pub fn unwatch(&mut self, path: &str) -> io::Result<()> {
        self.request(
            Kind::Unwatch,
            &[path.as_bytes(), b"\0", path.as_bytes(), b"\0"],
        )
        .map(drop)
    }

    /// Waits for a change of a watched path and gives the path that changed;
    /// None when the deadline passed first.
    ///
    /// # Errors
    /// A broken connection.
    pub fn wait(&mut self, deadline: Instant) -> io::Result<Option<String>> {
        loop {
            if let Some(path) = self.events.pop_front() {
                return Ok(Some(path));
            }
            if !self.readable(deadline)? {
                return Ok(None);
            }
            let (kind, payload) = self.receive()?;
            if kind != Kind::WatchEvent as u32 {
                return Err(malformed("an answer that nobody asked for"));
            }
            self.keep_event(payload)?;
        }
    }

    fn readable(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left).ok();
            let mut fds = [PollFd::from_borrowed_fd(self.link.as_fd(), PollFlags::IN)];
            match poll(&mut fds, limit.as_ref()) {
                Err(Errno::INTR) => {}
                result => return Ok(result? > 0),
            }
        }
    }

    /// Sends one request and waits for its answer.
    fn request(&mut self, kind: Kind, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        self.send(kind, parts)?;
        loop {
            let (answered, payload) = self.receive()?;
            if answered == Kind::WatchEvent as u32 {
                self.keep_event(payload)?;
            } else if answered == Kind::Error as u32 {
                return Err(named_error(&text(payload)?));
            } else if answered == kind as u32 {
                return Ok(payload);
            } else {
                return Err(malformed("the answer to another request"));
            }
        }
    }

    /// The kernel's device takes a message only whole, so it is one write.
    fn send(&mut self, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
        let payload = parts.concat();
        if payload.len() > PAYLOAD_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let mut message = Vec::with_capacity(HEADER_SIZE + payload.len());
        // The request id is of no use with one request at a time.
        for word in [
            kind as u32,
            0,
            self.transaction_of(kind),
            payload.len() as u32,
        ] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(payload);
        self.link.write_all(&message)
    }

    /// Watches are of the connection, never of a transaction.
    fn transaction_of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Watch | Kind::Unwatch => 0,
            _ => self.transaction,
        }
    }

    /// The next message: its type and payload.
    fn receive(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; HEADER_SIZE];
        self.link.read_exact(&mut header)?;
        let word = |at: usize| {
            header[at..]
                .first_chunk()
                .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        let (kind, length) = (word(0), word(12) as usize);
        if length > PAYLOAD_MAX {
            return Err(malformed("a message that is too long"));
        }
        let mut payload = vec![0; length];
        self.link.read_exact(&mut payload)?;
        Ok((kind, payload))
    }

    fn keep_event(&mut self, payload: Vec<u8>) -> io::Result<()> {
        let path = strings(payload)?.into_iter().next();
        self.events
            .push_back(path.ok_or_else(|| malformed("an event without a path"))?);
        Ok(())
    }
}

impl Tree for Client {
    fn read(&mut self, path: &str) -> io::Result<Option<String>> {
        let value = absent_is_none(self.request(Kind::Read, &[path.as_bytes(), b"\0"]))?;
        value.map(text).transpose()
    }

    fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        let names = absent_is_none(self.request(Kind::Directory, &[path.as_bytes(), b"\0"]))?;
        names.map_or_else(|| Ok(Vec::new()), strings)
    }
}

/// The node is not there: no failure for those who ask what there is.
fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// One string, with or without its NUL.
fn text(mut payload: Vec<u8>) -> io::Result<String> {
    if payload.last() == Some(&0) {
        payload.pop();
    }
    String::from_utf8(payload).map_err(|_| malformed("text that is not UTF-8"))
}

/// Strings that each end with NUL.
fn strings(payload: Vec<u8>) -> io::Result<Vec<String>> {
    let all = text(payload)?;
    if all.is_empty() {
        return Ok(Vec::new());
    }
    Ok(all.split('\0').map(Into::into).collect())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("xenstored sent {what}"))
}

/// Errors travel by name, those of the protocol's definition.
fn named_error(name: &str) -> io::Error {
    let errno = match name {
        "EINVAL" => Errno::INVAL,
        "EACCES" => Errno::ACCESS,
        "EEXIST" => Errno::EXIST,
        "EISDIR" => Errno::ISDIR,
        "ENOENT" => Errno::NOENT,
        "ENOMEM" => Errno::NOMEM,
        "ENOSPC" => Errno::NOSPC,
        "EIO" => Errno::IO,
        "ENOTEMPTY" => Errno::NOTEMPTY,
        "ENOSYS" => Errno::NOSYS,
        "EROFS" => Errno::ROFS,
        "EBUSY" => Errno::BUSY,
        "EAGAIN" => Errno::AGAIN,
        "EISCONN" => Errno::ISCONN,
        "E2BIG" => Errno::TOOBIG,
        "EPERM" => Errno::PERM,
        _ => return io::Error::other(format!("xenstored answers {name}")),
    };
    errno.into()
}

#[cfg(test)]
#[path = "xenstore_tests.rs"]
mod tests;

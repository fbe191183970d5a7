// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection with xenstored, over its socket or the kernel's device, whichever
//! is there.
//!
//! One request is under way at a time; of events that arrive meanwhile is kept
//! which watches they are of, so their number is that of the watches, whatever
//! a guest does. After anything that cannot be understood, or no answer for a
//! minute, the connection is broken and gives errors alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::tree::Tree;
use crate::wire::{malformed, message, named_error, strings, Inbox, Kind, Part};

/// Where xenstored listens, in the order tried; the second is for domains
/// that do not run it themselves.
const SOCKET: &str = "/run/xenstored/socket";
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

/// Who does not answer for so long will not.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Read at once, at most.
const READ_SIZE: usize = 16 << 10;
/// So many times for a look at what there is; more may come as fast as it is read.
const READS: usize = 64;
/// A folder that changes while its parts are read is read again so often.
const LISTS: usize = 64;
/// Bytes of the names of a folder's children, at most.
const NAMES_MAX: usize = 4 << 20;

/// Both ways to xenstored.
trait Link: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Link for T {}

/// A connection with xenstored.
pub struct Client {
    link: Box<dyn Link>,
    inbox: Inbox,
    /// 0 outside a transaction.
    transaction: u32,
    watches: BTreeSet<String>,
    /// Watches of which events came.
    changed: BTreeSet<String>,
    /// How long an answer may take.
    limit: Duration,
    /// What comes next on the link cannot be known any more.
    broken: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("transaction", &self.transaction)
            .field("broken", &self.broken)
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

    fn over(link: impl Read + Write + AsFd + Send + 'static) -> Self {
        Self {
            link: Box::new(link),
            inbox: Inbox::default(),
            transaction: 0,
            watches: BTreeSet::new(),
            changed: BTreeSet::new(),
            limit: ANSWER_LIMIT,
            broken: false,
        }
    }

    /// Writes `value` at `path`, which is made when it is not there, with its
    /// parents, each with the permissions of the one above.
    ///
    /// # Errors
    /// EACCES, ENOSPC, EINVAL; a broken connection.
    pub fn write(&mut self, path: &str, value: &[u8]) -> io::Result<()> {
        self.request(Kind::Write, &[path.as_bytes(), b"\0", value])
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
        let parts = [path.as_bytes(), b"\0", permissions.as_bytes()];
        self.request(Kind::SetPerms, &parts).map(drop)
    }

    /// Starts a transaction, in which all calls are until it ends.
    ///
    /// # Errors
    /// EBUSY when one is under way; a broken connection.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.transaction != 0 {
            return Err(Errno::BUSY.into());
        }
        let answer = self.request(Kind::TransactionStart, &[b"\0"])?;
        let id = strings(&answer).first().and_then(|id| id.parse().ok());
        self.transaction = match id {
            Some(id) => id,
            None => return Err(self.fail(malformed("no transaction id"))),
        };
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
        let parts = [path.as_bytes(), b"\0", path.as_bytes(), b"\0"];
        // The event may come before the answer.
        let is_new = self.watches.insert(path.into());
        let result = self.request(Kind::Watch, &parts).map(drop);
        if result.is_err() && is_new {
            self.watches.remove(path);
        }
        result
    }

    /// Ends the watch of `path`.
    ///
    /// # Errors
    /// ENOENT; a broken connection.
    pub fn unwatch(&mut self, path: &str) -> io::Result<()> {
        self.watches.remove(path);
        let parts = [path.as_bytes(), b"\0", path.as_bytes(), b"\0"];
        let result = self.request(Kind::Unwatch, &parts).map(drop);
        self.changed.remove(path);
        result
    }

    /// Waits until something watched has changed; false once the deadline has
    /// passed, whatever has changed.
    ///
    /// # Errors
    /// A broken connection.
    pub fn wait(&mut self, deadline: Instant) -> io::Result<bool> {
        self.wait_or(deadline, None)
    }

    /// As [`Client::wait`], and comes back, with true, once `wake` is readable.
    ///
    /// # Errors
    /// A broken connection.
    pub fn wait_or(&mut self, deadline: Instant, wake: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        self.check()?;
        loop {
            self.keep_events()?;
            if Instant::now() >= deadline {
                return Ok(false);
            }
            if !self.changed.is_empty() {
                return Ok(true);
            }
            let ready = readable(self.link.as_fd(), wake, deadline);
            match ready.map_err(|error| self.fail(error))? {
                Ready::Link => self.fill()?,
                Ready::Wake => return Ok(true),
                Ready::Nothing => {}
            }
        }
    }

    /// The watched paths at or below which something has changed since this was
    /// last asked.
    ///
    /// # Errors
    /// A broken connection.
    pub fn changes(&mut self) -> io::Result<BTreeSet<String>> {
        self.check()?;
        for _ in 0..READS {
            let ready = readable(self.link.as_fd(), None, Instant::now());
            match ready.map_err(|error| self.fail(error))? {
                Ready::Link => self.fill()?,
                _ => break,
            }
            self.keep_events()?;
        }
        self.keep_events()?;
        Ok(std::mem::take(&mut self.changed))
    }

    /// Sends one request and waits for its answer.
    fn request(&mut self, kind: Kind, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        self.check()?;
        // Watches are of the connection, never of a transaction.
        let transaction = match kind {
            Kind::Watch | Kind::Unwatch => 0,
            _ => self.transaction,
        };
        let message = message(kind, transaction, parts)?;
        // The kernel's device takes a message only whole, so it is one write.
        let sent = self.link.write_all(&message);
        sent.map_err(|error| self.fail(error))?;
        let (answered, payload) = self.answer()?;
        if answered == kind as u32 {
            Ok(payload)
        } else if answered == Kind::Error as u32 {
            Err(named_error(&payload))
        } else {
            Err(self.fail(malformed("the answer to another request")))
        }
    }

    /// The next message that is no event.
    fn answer(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let deadline = Instant::now() + self.limit;
        loop {
            while let Some((kind, payload)) = self.next()? {
                if kind != Kind::WatchEvent as u32 {
                    return Ok((kind, payload));
                }
                self.keep_event(&payload);
            }
            let ready = readable(self.link.as_fd(), None, deadline);
            match ready.map_err(|error| self.fail(error))? {
                // Events may come as fast as they are read.
                Ready::Link if Instant::now() < deadline => self.fill()?,
                _ => {
                    let error = "xenstored does not answer";
                    return Err(self.fail(io::Error::new(io::ErrorKind::TimedOut, error)));
                }
            }
        }
    }

    /// Takes all whole messages, which nobody asked for, so that they are events.
    fn keep_events(&mut self) -> io::Result<()> {
        while let Some((kind, payload)) = self.next()? {
            if kind != Kind::WatchEvent as u32 {
                return Err(self.fail(malformed("an answer that nobody asked for")));
            }
            self.keep_event(&payload);
        }
        Ok(())
    }

    /// An event has the path that changed, and the token, which is the path that
    /// is watched.
    fn keep_event(&mut self, payload: &[u8]) {
        if let Some(token) = strings(payload).into_iter().nth(1) {
            if self.watches.contains(&token) {
                self.changed.insert(token);
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        let next = self.inbox.take();
        next.map_err(|error| self.fail(error))
    }

    /// Reads what there is; the link is readable.
    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; READ_SIZE];
        match self.link.read(&mut bytes) {
            Ok(0) => Err(self.fail(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.inbox.put(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.broken {
            let error = "the connection with xenstored is broken";
            return Err(io::Error::new(io::ErrorKind::NotConnected, error));
        }
        Ok(())
    }

    /// Whoever reads on now reads from the middle.
    fn fail(&mut self, error: io::Error) -> io::Error {
        self.broken = true;
        error
    }

    /// Children that are too many for one answer, each with its NUL; None when
    /// the folder changed meanwhile.
    fn list_parts(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let mut generation = None;
        let mut names = Vec::new();
        loop {
            let offset = names.len().to_string();
            let parts = [path.as_bytes(), b"\0", offset.as_bytes(), b"\0"];
            let payload = self.request(Kind::DirectoryPart, &parts)?;
            let Some(part) = Part::read(&payload) else {
                return Err(self.fail(malformed("a part of a list without an end")));
            };
            if *generation.get_or_insert_with(|| part.generation.to_vec()) != part.generation {
                return Ok(None);
            }
            names.extend(part.names);
            if part.is_last {
                return Ok(Some(names));
            }
            if names.len() > NAMES_MAX {
                return Err(Errno::TOOBIG.into());
            }
        }
    }
}

impl Tree for Client {
    fn read(&mut self, path: &str) -> io::Result<Option<Vec<u8>>> {
        absent_is_none(self.request(Kind::Read, &[path.as_bytes(), b"\0"]))
    }

    fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        let whole = self.request(Kind::Directory, &[path.as_bytes(), b"\0"]);
        match whole {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOBIG) => {}
            whole => {
                let names = absent_is_none(whole)?;
                return Ok(strings(&names.unwrap_or_default()));
            }
        }
        for _ in 0..LISTS {
            match absent_is_none(self.list_parts(path))? {
                Some(Some(names)) => return Ok(strings(&names)),
                // It changed: from the start.
                Some(None) => {}
                None => return Ok(Vec::new()),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

/// What a wait was ended by.
enum Ready {
    Link,
    Wake,
    Nothing,
}

/// Waits until one can be read, or the deadline has passed.
fn readable(
    link: BorrowedFd<'_>,
    wake: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> io::Result<Ready> {
    let fds = [Some(link), wake];
    let mut fds: Vec<_> = fds
        .into_iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).ok();
        match poll(&mut fds, limit.as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(Ready::Nothing),
            Ok(_) => break,
        }
    }
    // Who is woken has something to do that events must not keep from.
    let is_woken = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
    Ok(if is_woken { Ready::Wake } else { Ready::Link })
}

/// The node is not there: no failure for those who ask what there is.
fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

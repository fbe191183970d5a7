// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listening endpoints: bind a port, accept the channels that peers open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::address::{Address, FIRST_RESERVED};
use crate::bell::Bell;
use crate::channel::Channel;
use crate::descriptor::descriptor;
use crate::endpoint::{lock, poll_until};
use crate::error::{Error, Result};
use crate::info::Info;
use crate::sys;

/// How to listen, where [`Listener::bind`] is too simple.
///
/// ```no_run
/// // Only domain 3 may connect, and 16 connections may wait.
/// let listener = idts::Bind::new(7000).from_domain(3).backlog(16).listen()?;
/// # Ok::<(), idts::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before listen()"]
pub struct Bind {
    port: u32,
    domain: Option<u16>,
    backlog: u32,
    records: bool,
    max_ring: u32,
}

impl Bind {
    /// Listens on `port`; 0 lets the driver choose one.
    pub const fn new(port: u32) -> Self {
        Self {
            port,
            domain: None,
            backlog: 0,
            records: false,
            max_ring: 0,
        }
    }

    /// Lets only this domain connect; without it any may that has a tunnel. An id that no
    /// domain can have is refused by [`Bind::listen`].
    pub const fn from_domain(mut self, domain: u16) -> Self {
        self.domain = Some(domain);
        self
    }

    /// How many connections may wait for accept; 0 is the driver's default.
    pub const fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Takes connections of records instead of bytes; others are refused.
    pub const fn records(mut self) -> Self {
        self.records = true;
        self
    }

    /// Takes connections with rings of this many bytes at most, a power of two;
    /// whoever asks for more gets ENOSPC. 0, as without it: any. Who listens pays
    /// for the rings, and the peer chooses them.
    pub const fn max_ring(mut self, bytes: u32) -> Self {
        self.max_ring = bytes;
        self
    }

    /// Takes the port and listens on it.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::Listen`] with EADDRINUSE when the port is
    /// taken, EACCES when it is below 1024 and the caller lacks the right, EINVAL
    /// when [`Bind::max_ring`] is no size of a ring or [`Bind::from_domain`] no domain's id, E2BIG when the driver is too
    /// old for it.
    pub fn listen(&self) -> Result<Listener> {
        let failed = |errno: Errno| Error::Listen {
            port: self.port,
            cause: errno.into(),
        };
        // One of them means any domain to the driver.
        if self.domain.is_some_and(|domain| domain >= FIRST_RESERVED) {
            return Err(failed(Errno::INVAL));
        }
        let fd = sys::open().map_err(|errno| Error::Open {
            cause: errno.into(),
        })?;
        let addr = sys::Addr {
            domid: self.domain.unwrap_or(sys::DOMID_ANY),
            reserved: 0,
            port: self.port,
        };
        sys::bind(&fd, addr).map_err(failed)?;
        let listen = sys::Listen {
            backlog: self.backlog,
            flags: sys::record_flag(self.records),
            max_ring: self.max_ring,
            reserved: 0,
        };
        sys::listen(&fd, listen).map_err(failed)?;
        let port = match self.port {
            0 => sys::info(&fd).map_err(failed)?.local.port,
            port => port,
        };
        Listener::new(fd, port, self.records).map_err(failed)
    }
}

/// An endpoint that waits for peers to connect.
///
/// With [`Listener::set_nonblocking`] and a poll for readability on its
/// descriptor it fits into an event loop. A server of threads ends in order by
/// [`Listener::shutdown`]:
///
/// ```no_run
/// let listener = idts::Listener::bind(7000)?;
/// std::thread::scope(|scope| {
///     let server = scope.spawn(|| listener.incoming().for_each(drop));
///     // ... until it shall end:
///     listener.shutdown();
///     server.join().unwrap();
/// });
/// # Ok::<(), idts::Error>(())
/// ```
///
/// The waiting is done here, by poll: so O_NONBLOCK is set on the open file, which
/// duplicates in other processes share.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    port: u32,
    /// Not known of a descriptor that others had: the driver says it of each channel.
    records: Option<bool>,
    waiting: Mutex<Waiting>,
    /// Rung when it is shut down.
    bell: Bell,
}

/// How accepts wait.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    nonblocking: bool,
    timeout: Option<Duration>,
}

impl Listener {
    fn new(fd: OwnedFd, port: u32, records: bool) -> rustix::io::Result<Self> {
        sys::set_nonblocking(&fd, true)?;
        Ok(Self {
            fd,
            port,
            records: Some(records),
            waiting: Mutex::default(),
            bell: Bell::default(),
        })
    }

    /// Listens on `port` for any domain that has a tunnel with this one.
    ///
    /// # Errors
    /// As [`Bind::listen`].
    pub fn bind(port: u32) -> Result<Self> {
        Bind::new(port).listen()
    }

    /// The port listened on.
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Waits for the next connection; gives it and the address of its peer. A signal does not
    /// end the waiting, [`Listener::shutdown`] does.
    ///
    /// # Errors
    /// [`Error::Accept`] of kind `WouldBlock` when the listener does not block
    /// and nobody waits, `TimedOut` when nobody came in time, with EINVAL when it was shut down.
    pub fn accept(&self) -> Result<(Channel, Address)> {
        let (fd, peer) = self.wait().map_err(|cause| Error::Accept {
            port: self.port,
            cause,
        })?;
        let peer = Address::new(peer.domid, peer.port);
        let channel = match self.records {
            Some(records) => Channel::from_fd(fd, peer.into(), records),
            None => Channel::from(fd),
        };
        Ok((channel, peer))
    }

    fn wait(&self) -> io::Result<(OwnedFd, sys::Addr)> {
        let started = Instant::now();
        loop {
            if self.bell.is_rung() {
                return Err(Errno::INVAL.into());
            }
            match sys::accept(&self.fd) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
            let waiting = *lock(&self.waiting);
            if waiting.nonblocking {
                return Err(Errno::AGAIN.into());
            }
            let bell = self.bell.to_poll()?;
            let mut fds = [
                PollFd::new(&self.fd, PollFlags::IN),
                PollFd::new(&bell, PollFlags::IN),
            ];
            match poll_until(&mut fds, started, waiting.timeout) {
                Ok(true) | Err(Errno::INTR) => {}
                Ok(false) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The connections as they come, until the listener is shut down.
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Makes [`Listener::accept`] return at once, or wait again. A timeout has no effect
    /// meanwhile.
    ///
    /// # Errors
    /// None any more.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        lock(&self.waiting).nonblocking = on;
        Ok(())
    }

    /// Lets an accept wait no longer than this (then: `TimedOut`), whatever signals come
    /// meanwhile; None is for ever.
    ///
    /// # Errors
    /// None; as the others say it.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        lock(&self.waiting).timeout = timeout;
        Ok(())
    }

    /// Ends accepting, also for accepts that wait in other threads: they fail with EINVAL, as all
    /// later ones do, and [`Listener::incoming`] ends. The port is free, and who waits there is
    /// refused, when the listener is dropped.
    pub fn shutdown(&self) {
        self.bell.ring();
    }

    /// What the driver knows of this endpoint.
    ///
    /// # Errors
    /// [`Error::Accept`], though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        let raw = sys::info(&self.fd).map_err(|errno| self.failed(errno))?;
        Ok(Info::from_raw(raw))
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Accept {
            port: self.port,
            cause: errno.into(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

descriptor!(Listener);

/// The descriptor blocks, unless the listener was made not to; limits on waiting are gone.
impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        if !lock(&listener.waiting).nonblocking {
            // There is no known cause why it could fail.
            let _ = sys::set_nonblocking(&listener.fd, false);
        }
        listener.fd
    }
}

/// Of a descriptor that others had, as systemd hands over, which listens. The driver says on
/// which port.
impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        let info = sys::info(&fd).map(Info::from_raw).ok();
        let port = info.and_then(|info| info.local_port).unwrap_or(0);
        let nonblocking = sys::is_nonblocking(&fd).unwrap_or(false);
        // There is no known cause why it could fail.
        let _ = sys::set_nonblocking(&fd, true);
        Self {
            fd,
            port,
            records: None,
            waiting: Mutex::new(Waiting {
                nonblocking,
                timeout: None,
            }),
            bell: Bell::default(),
        }
    }
}

/// Iterator of accepted channels, see [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<(Channel, Address)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.listener.accept();
        (next.is_ok() || !self.listener.bell.is_rung()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_no_domain_lets_nobody_in() {
        for id in [FIRST_RESERVED, sys::DOMID_ANY] {
            let error = Bind::new(7000).from_domain(id).listen().unwrap_err();
            assert!(matches!(error, Error::Listen { port: 7000, .. }));
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listening endpoints: bind a port, accept the channels that peers open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::address::{Address, FIRST_RESERVED};
use crate::channel::Channel;
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
        Ok(Listener {
            fd,
            port,
            records: self.records,
        })
    }
}

/// An endpoint that waits for peers to connect.
///
/// With [`Listener::set_nonblocking`] and a poll for readability on its
/// descriptor it fits into an event loop.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    port: u32,
    records: bool,
}

impl Listener {
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

    /// Waits for the next connection; gives it and the address of its peer.
    ///
    /// # Errors
    /// [`Error::Accept`] of kind `WouldBlock` when the listener does not block
    /// and nobody waits.
    pub fn accept(&self) -> Result<(Channel, Address)> {
        let (fd, peer) = loop {
            match sys::accept(&self.fd) {
                Err(Errno::INTR) => {}
                result => break result.map_err(|errno| self.failed(errno))?,
            }
        };
        let peer = Address::new(peer.domid, peer.port);
        Ok((Channel::from_fd(fd, peer.into(), self.records), peer))
    }

    /// The connections as they come, without end.
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Makes [`Listener::accept`] return at once, or wait again.
    ///
    /// # Errors
    /// [`Error::Accept`], though there is no known cause.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        sys::set_nonblocking(&self.fd, on).map_err(|errno| self.failed(errno))
    }

    /// What the driver knows of this endpoint.
    ///
    /// # Errors
    /// [`Error::Accept`], though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        Info::from_raw(sys::info(&self.fd).map_err(|errno| self.failed(errno))?)
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

/// Endless iterator of accepted channels, see [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<(Channel, Address)>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
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

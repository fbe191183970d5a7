// SPDX-License-Identifier: MIT OR Apache-2.0
//! How to open a channel: the builder behind `Channel::connect`.

use std::time::Duration;

use rustix::io::Errno;

use crate::address::{Address, FIRST_RESERVED};
use crate::channel::Channel;
use crate::endpoint::{insist, to_millis};
use crate::error::{Error, Result};
use crate::peer::{Alias, Peer};
use crate::sys;

/// How to connect, where [`Channel::connect`] is too simple.
///
/// ```no_run
/// use std::time::Duration;
/// let peer = "3:7000".parse()?;
/// let channel = idts::Connect::to(peer)
///     .tx_ring(1 << 20)
///     .timeout(Duration::from_secs(2))
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before open()"]
pub struct Connect {
    peer: Peer,
    tx_ring: u32,
    rx_ring: u32,
    timeout: Option<Duration>,
    nonblocking: bool,
    records: bool,
}

impl Channel {
    /// Connects to `peer` and waits for its answer as long as the driver does.
    ///
    /// # Errors
    /// As [`Connect::open`].
    pub fn connect(peer: Address) -> Result<Self> {
        Connect::to(peer).open()
    }
}

impl Connect {
    /// Connects to `peer`, all else as the driver likes it.
    pub const fn to(peer: Address) -> Self {
        Self::with(Peer::Address(peer))
    }

    /// Connects to `port` of the domain that dom0 calls `alias`, all else as the
    /// driver likes it.
    pub const fn to_alias(alias: Alias, port: u32) -> Self {
        Self::with(Peer::Alias(alias, port))
    }

    /// Connects to `peer`, however it is named.
    pub const fn with(peer: Peer) -> Self {
        Self {
            peer,
            tx_ring: 0,
            rx_ring: 0,
            timeout: None,
            nonblocking: false,
            records: false,
        }
    }

    /// Size of the ring that this end writes: a power of two, or 0.
    pub const fn tx_ring(mut self, bytes: u32) -> Self {
        self.tx_ring = bytes;
        self
    }

    /// Size of the ring that this end reads: a power of two, or 0.
    pub const fn rx_ring(mut self, bytes: u32) -> Self {
        self.rx_ring = bytes;
        self
    }

    /// How long to wait for the peer's answer, however many signals come meanwhile.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Does not wait: the channel comes back at once and does not block. Poll
    /// it for writability, then ask [`Channel::take_error`] what became of it.
    pub const fn nonblocking(mut self, on: bool) -> Self {
        self.nonblocking = on;
        self
    }

    /// Opens a channel of records instead of one of bytes; the listener must
    /// want that too.
    pub const fn records(mut self) -> Self {
        self.records = true;
        self
    }

    /// Opens the channel. A signal does not end the waiting.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::Connect`] with ECONNREFUSED when nobody
    /// listens for that kind, EACCES or EHOSTUNREACH when there is no such domain or alias, ENETDOWN
    /// without a tunnel, ETIMEDOUT when the peer is silent, ENOSPC when the
    /// rings do not fit.
    pub fn open(&self) -> Result<Channel> {
        let failed = |errno: Errno| Error::Connect {
            peer: self.peer,
            cause: errno.into(),
        };
        match self.peer {
            Peer::Address(peer) if peer.domain >= FIRST_RESERVED => {
                return Err(failed(Errno::HOSTUNREACH));
            }
            Peer::Unknown => return Err(failed(Errno::HOSTUNREACH)),
            _ => {}
        }
        let fd = sys::open().map_err(|errno| Error::Open {
            cause: errno.into(),
        })?;
        if self.nonblocking {
            sys::set_nonblocking(&fd, true).map_err(failed)?;
        }
        match insist(|| sys::connect(&fd, self.to_raw())) {
            Ok(()) => {}
            Err(Errno::INPROGRESS) if self.nonblocking => {}
            Err(errno) => return Err(failed(errno)),
        }
        let channel = Channel::from_fd(fd, self.peer, self.records);
        if self.nonblocking {
            channel.set_nonblocking(true)?;
        }
        Ok(channel)
    }

    fn to_raw(&self) -> sys::Connect {
        let (peer, alias) = self.peer.to_raw();
        sys::Connect {
            peer,
            alias,
            tx_ring: self.tx_ring,
            rx_ring: self.rx_ring,
            timeout_ms: to_millis(self.timeout),
            flags: sys::record_flag(self.records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use idts_core::uapi;

    #[test]
    fn what_is_not_said_is_the_drivers_choice() {
        let connect = Connect::to(Address::new(0, 1));
        let raw = connect.to_raw();
        let asked = (raw.tx_ring, raw.rx_ring, raw.timeout_ms, raw.flags);
        assert_eq!(asked, (0, 0, 0, 0));
        assert_eq!(connect.records().to_raw().flags, uapi::RECORD);
    }
}

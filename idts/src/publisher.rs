// SPDX-License-Identifier: MIT OR Apache-2.0
//! The publishing end of a group: one to many.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use idts_core::uapi;

use crate::descriptor::descriptor;
use crate::endpoint::to_millis;
use crate::error::Result;
use crate::group::{join, Member};
use crate::info::Info;
use crate::sys;

/// How to publish, where [`Publisher::publish`] is too simple.
///
/// ```no_run
/// let publisher = idts::Publish::to("prices").ring(1 << 20).may_block(true).open()?;
/// # Ok::<(), idts::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before open()"]
pub struct Publish {
    group: String,
    ring: u32,
    may_block: bool,
    timeout: Option<Duration>,
}

impl Publish {
    /// Publishes to the group of that name, all else as the driver likes it.
    pub fn to(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            ring: 0,
            may_block: false,
            timeout: None,
        }
    }

    /// Size of the ring that is written: a power of two, or 0.
    pub const fn ring(mut self, bytes: u32) -> Self {
        self.ring = bytes;
        self
    }

    /// Lets subscribers that asked for [`OnLag::Block`] hold this publisher up
    /// for a bounded time.
    ///
    /// [`OnLag::Block`]: crate::OnLag::Block
    pub const fn may_block(mut self, yes: bool) -> Self {
        self.may_block = yes;
        self
    }

    /// How long to wait until the group is joined.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Becomes the group's publisher.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::Group`] with EADDRINUSE when the group has a
    /// publisher, EACCES when this domain may not publish it, ENETDOWN without
    /// a tunnel, ENOSPC when the ring does not fit, and `InvalidInput` for what
    /// is no name.
    ///
    /// [`Error::Open`]: crate::Error::Open
    /// [`Error::Group`]: crate::Error::Group
    pub fn open(&self) -> Result<Publisher> {
        let member = join(&self.group, "publish to", self.to_raw(), sys::publish)?;
        Ok(Publisher { member })
    }

    fn to_raw(&self) -> uapi::Group {
        uapi::Group {
            ring: self.ring,
            flags: if self.may_block {
                uapi::GROUP_MAY_BLOCK
            } else {
                0
            },
            timeout_ms: to_millis(self.timeout),
            ..uapi::Group::default()
        }
    }
}

/// The one publisher of a group. Every record goes to all that are subscribed
/// at that time; when the publisher is dropped, they get the rest and the end.
///
/// ```no_run
/// let publisher = idts::Publisher::publish("prices")?;
/// publisher.send(b"tea 3, coffee 4")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Publisher {
    member: Member,
}

impl Publisher {
    /// Becomes the publisher of the group of that name.
    ///
    /// # Errors
    /// As [`Publish::open`].
    pub fn publish(group: &str) -> Result<Self> {
        Publish::to(group).open()
    }

    /// The group's name; empty if it was made from a descriptor, which does not tell it.
    pub fn group(&self) -> &str {
        &self.member.group
    }

    /// Publishes one record. It waits while the ring is full; whether a
    /// subscriber can keep that so, see [`Publish::may_block`].
    ///
    /// # Errors
    /// EMSGSIZE when it is longer than [`Info::longest_tx_record`], ECONNRESET
    /// when the tunnel is gone; `InvalidInput` when it is empty; `WouldBlock`
    /// and `TimedOut` when waiting is limited.
    pub fn send(&self, record: &[u8]) -> io::Result<()> {
        self.member.endpoint.send(record)
    }

    /// Makes sends return `WouldBlock` instead of waiting. A timeout has no
    /// effect meanwhile.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        self.member.set_waiting(|waiting| waiting.nonblocking = on)
    }

    /// Lets a send wait no longer than this (then: `TimedOut`, and nothing was
    /// published); None is for ever.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.member
            .set_waiting(|waiting| waiting.write_timeout = timeout)
    }

    /// Ends publishing, for a send that waits in another thread too: it gives EPIPE, as do
    /// all later ones. The subscribers get what was published, and the end. The group is free for
    /// another publisher when this one is dropped.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn shutdown(&self) -> Result<()> {
        self.member.shutdown(uapi::SHUT_WR)
    }

    /// What the driver knows of this endpoint.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        self.member.info()
    }
}

descriptor!(Publisher, member);

/// Of a descriptor that others had, of a publisher.
impl From<OwnedFd> for Publisher {
    fn from(fd: OwnedFd) -> Self {
        Self { member: fd.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holding_up_is_only_with_leave() {
        assert_eq!(Publish::to("a").to_raw(), uapi::Group::default());
        let raw = Publish::to("a").may_block(true).ring(4096).to_raw();
        assert_eq!((raw.flags, raw.ring), (uapi::GROUP_MAY_BLOCK, 4096));
    }
}

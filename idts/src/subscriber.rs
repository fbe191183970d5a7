// SPDX-License-Identifier: MIT OR Apache-2.0
//! A subscribing end of a group: one to many.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use idts_core::uapi;

use crate::descriptor::descriptor;
use crate::endpoint::{to_millis, Received};
use crate::error::Result;
use crate::group::{join, Member};
use crate::info::Info;
use crate::sys;

/// What is done about a subscriber that is too slow, so that its ring is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLag {
    /// It misses the record; [`Subscriber::lag`] counts.
    #[default]
    Drop,
    /// It is thrown out: its next receive gives ECONNRESET.
    Disconnect,
    /// It holds the publisher up for a bounded time and is then thrown out.
    /// Without the publisher's leave it is as `Drop`.
    Block,
}

impl OnLag {
    const fn to_raw(self) -> u32 {
        match self {
            Self::Drop => uapi::LAG_DROP,
            Self::Disconnect => uapi::LAG_DISCONNECT,
            Self::Block => uapi::LAG_BLOCK,
        }
    }
}

/// How to subscribe, where [`Subscriber::subscribe`] is too simple.
///
/// ```no_run
/// use idts::{OnLag, Subscribe};
/// let subscriber = Subscribe::to("prices")
///     .ring(1 << 20)
///     .on_lag(OnLag::Disconnect)
///     .open()?;
/// # Ok::<(), idts::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before open()"]
pub struct Subscribe {
    group: String,
    ring: u32,
    on_lag: OnLag,
    timeout: Option<Duration>,
}

impl Subscribe {
    /// Subscribes to the group of that name, all else as the driver likes it.
    pub fn to(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            ring: 0,
            on_lag: OnLag::default(),
            timeout: None,
        }
    }

    /// Size of the ring that is read: a power of two, or 0. It bounds how far
    /// this subscriber may fall behind.
    pub const fn ring(mut self, bytes: u32) -> Self {
        self.ring = bytes;
        self
    }

    /// What is done when that ring is full.
    pub const fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.on_lag = on_lag;
        self
    }

    /// How long to wait until the group is joined.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Joins the group; it need not have a publisher yet.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::Group`] with EACCES when this domain may not
    /// subscribe to it, ENETDOWN without a tunnel, ENOSPC when the ring does
    /// not fit, and `InvalidInput` for what is no name.
    ///
    /// [`Error::Open`]: crate::Error::Open
    /// [`Error::Group`]: crate::Error::Group
    pub fn open(&self) -> Result<Subscriber> {
        let member = join(&self.group, "subscribe to", self.to_raw(), sys::subscribe)?;
        Ok(Subscriber { member })
    }

    fn to_raw(&self) -> uapi::Group {
        uapi::Group {
            ring: self.ring,
            on_lag: self.on_lag.to_raw(),
            timeout_ms: to_millis(self.timeout),
            ..uapi::Group::default()
        }
    }
}

/// One of the subscribers of a group. It gets what is published after it joined.
///
/// ```no_run
/// let subscriber = idts::Subscriber::subscribe("prices")?;
/// let mut record = vec![0; subscriber.info()?.longest_rx_record()];
/// loop {
///     let received = subscriber.recv(&mut record)?;
///     if received.is_end() {
///         break;
///     }
///     println!("{:?}", &record[..received.len]);
/// }
/// println!("the publisher is done; {} records were missed", subscriber.lag()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Subscriber {
    member: Member,
}

impl Subscriber {
    /// Joins the group of that name; missed records are dropped.
    ///
    /// # Errors
    /// As [`Subscribe::open`].
    pub fn subscribe(group: &str) -> Result<Self> {
        Subscribe::to(group).open()
    }

    /// The group's name; empty if it was made from a descriptor, which does not tell it.
    pub fn group(&self) -> &str {
        &self.member.group
    }

    /// Receives the next record. What does not fit into `buffer` is lost, and
    /// the result says so. Several threads may receive, one waits at a time.
    ///
    /// # Errors
    /// ECONNRESET when this subscriber was thrown out or the tunnel is gone;
    /// `InvalidInput` when `buffer` is empty; `WouldBlock` and `TimedOut` when
    /// waiting is limited.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.member.endpoint.recv(buffer)
    }

    /// How many records this subscriber missed so far.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn lag(&self) -> Result<u32> {
        Ok(self.info()?.lag)
    }

    /// Makes receives return `WouldBlock` instead of waiting. A timeout has no
    /// effect meanwhile.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn set_nonblocking(&self, on: bool) -> Result<()> {
        self.member.set_waiting(|waiting| waiting.nonblocking = on)
    }

    /// Lets a receive wait no longer than this (then: `TimedOut`); None is for
    /// ever.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.member
            .set_waiting(|waiting| waiting.read_timeout = timeout)
    }

    /// Ends receiving, for a receive that waits in another thread too: it gives the end, as do
    /// all later ones. This end stays in the group until it is dropped.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn shutdown(&self) -> Result<()> {
        self.member.shutdown(uapi::SHUT_RD)
    }

    /// What the driver knows of this endpoint.
    ///
    /// # Errors
    /// [`Error::Group`](crate::Error::Group), though there is no known cause.
    pub fn info(&self) -> Result<Info> {
        self.member.info()
    }
}

descriptor!(Subscriber, member);

/// Of a descriptor that others had, of a subscriber.
impl From<OwnedFd> for Subscriber {
    fn from(fd: OwnedFd) -> Self {
        Self { member: fd.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_to_miss_records() {
        assert_eq!(Subscribe::to("a").to_raw(), uapi::Group::default());
        let raw = Subscribe::to("a").on_lag(OnLag::Block).to_raw();
        assert_eq!(raw.on_lag, uapi::LAG_BLOCK);
    }
}

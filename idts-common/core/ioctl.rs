// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Checks of ioctl arguments: every field in its range, no unknown flag, reserved fields zero.
//!
//! Called by the kernel crate on its private copy of the caller's structure. Permissions and
//! the endpoint's state are checked there. The structures are those of
//! `idts-common/uapi/idts.h`, which has the meaning of each field.

use super::uapi::{self, Accept, Addr, Connect, Group, Listen, Transact};
use super::wire::{Kind, Name};

/// Ring size of an application that asks for the default, in bytes.
pub const RING_DEFAULT: u32 = 128 * 1024;
/// Backlog of a listener that asks for the default.
pub const BACKLOG_DEFAULT: u32 = 16;

/// Largest number of bytes of one read or write: `MAX_RW_COUNT` (linux/fs.h).
pub const COUNT_MAX: u32 = 0x7fff_f000;

/// The part of an ioctl argument that is not allowed. All are `EINVAL` to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// An unknown flag, or one that does not belong to the request.
    Flags,
    /// A reserved field is not zero.
    Reserved,
    /// A ring size is no power of two from [`uapi::RING_MIN`] to [`uapi::RING_MAX`].
    RingSize,
    /// Port 0 where a port must be named.
    Port,
    /// A malformed name, or an alias together with a domain id.
    Name,
    /// A length above [`COUNT_MAX`].
    Length,
    /// A kind of channel that is not an end of a group.
    Kind,
}

/// Kind and ring sizes of the channel that an application asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelParams {
    /// Kind of channel.
    pub kind: Kind,
    /// Bytes of the ring that the asking end writes.
    pub tx: u32,
    /// Bytes of the ring that the asking end reads.
    pub rx: u32,
}

/// How an application takes part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinParams {
    /// Kind and rings of the channel to the group.
    pub channel: ChannelParams,
    /// Name of the group.
    pub name: Name,
    /// Source port of the OPEN, which carries the option of [`super::wire::group`].
    pub source: u32,
}

/// The connections that a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenParams {
    /// Largest number of connections that wait to be accepted.
    pub backlog: u32,
    /// Kind of the channels.
    pub kind: Kind,
    /// Largest ring of a channel, in bytes.
    pub max_ring: u32,
}

/// The ring size for a request of `size` bytes; 0 asks for the default.
///
/// # Errors
/// [`ArgumentError::RingSize`].
pub const fn ring_size(size: u32) -> Result<u32, ArgumentError> {
    match size {
        0 => Ok(RING_DEFAULT),
        uapi::RING_MIN..=uapi::RING_MAX if size.is_power_of_two() => Ok(size),
        _ => Err(ArgumentError::RingSize),
    }
}

/// The kind of a point-to-point channel, by the flags of a request.
const fn kind(flags: u32) -> Result<Kind, ArgumentError> {
    match flags {
        0 => Ok(Kind::Stream),
        uapi::RECORD => Ok(Kind::Record),
        _ => Err(ArgumentError::Flags),
    }
}

/// `Ok` if `condition` holds, `error` otherwise.
const fn require(condition: bool, error: ArgumentError) -> Result<(), ArgumentError> {
    match condition {
        true => Ok(()),
        false => Err(error),
    }
}

impl Addr {
    /// Checks an address to bind to.
    ///
    /// # Errors
    /// [`ArgumentError::Reserved`].
    pub const fn check(&self) -> Result<(), ArgumentError> {
        require(self.reserved == 0, ArgumentError::Reserved)
    }

    /// Whether binding to the port takes `CAP_NET_BIND_SERVICE`.
    pub const fn is_privileged(&self) -> bool {
        self.port != 0 && self.port < uapi::PORT_RESERVED
    }
}

impl Listen {
    /// Checks the argument of LISTEN, and fills in the defaults.
    ///
    /// # Errors
    /// The part that is not allowed.
    pub fn check(&self) -> Result<ListenParams, ArgumentError> {
        require(self.reserved == 0, ArgumentError::Reserved)?;
        Ok(ListenParams {
            backlog: match self.backlog {
                0 => BACKLOG_DEFAULT,
                asked => asked.min(uapi::BACKLOG_MAX),
            },
            kind: kind(self.flags)?,
            max_ring: match self.max_ring {
                0 => uapi::RING_MAX,
                size => ring_size(size)?,
            },
        })
    }
}

impl Accept {
    /// Checks the argument of ACCEPT.
    ///
    /// # Errors
    /// [`ArgumentError::Flags`].
    pub const fn check(&self) -> Result<(), ArgumentError> {
        let unknown = self.flags & !(uapi::CLOEXEC | uapi::NONBLOCK);
        require(unknown == 0, ArgumentError::Flags)
    }
}

impl Transact {
    /// Checks the argument of TRANSACT. `sent` is output only, and may have any value.
    ///
    /// # Errors
    /// The part that is not allowed.
    pub fn check(&self) -> Result<(), ArgumentError> {
        require(self.reserved == 0, ArgumentError::Reserved)?;
        let longest = self.tx_len.max(self.rx_len);
        require(longest <= COUNT_MAX, ArgumentError::Length)
    }
}

impl Connect {
    /// Checks the argument of CONNECT but for its alias, and fills in the defaults.
    ///
    /// # Errors
    /// The part that is not allowed.
    pub fn check(&self) -> Result<ChannelParams, ArgumentError> {
        self.peer.check()?;
        require(self.peer.port != 0, ArgumentError::Port)?;
        Ok(ChannelParams {
            kind: kind(self.flags)?,
            tx: ring_size(self.tx_ring)?,
            rx: ring_size(self.rx_ring)?,
        })
    }

    /// The alias of the domain to connect to, `None` if a domain id names it.
    ///
    /// # Errors
    /// [`ArgumentError::Name`].
    pub fn alias(&self) -> Result<Option<Name>, ArgumentError> {
        if self.alias.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let name = Name(self.alias);
        let is_alone = self.peer.domid == uapi::DOMID_ANY;
        require(name.is_valid() && is_alone, ArgumentError::Name)?;
        Ok(Some(name))
    }
}

impl Group {
    /// Checks the argument of PUBLISH or SUBSCRIBE, as `kind` says, and fills in the defaults.
    ///
    /// # Errors
    /// The part that is not allowed.
    pub fn check(&self, kind: Kind) -> Result<JoinParams, ArgumentError> {
        let ring = ring_size(self.ring)?;
        let (source, other, tx, rx) = match kind {
            Kind::Publish => (self.flags, self.on_lag, ring, uapi::RING_MIN),
            Kind::Subscribe => (self.on_lag, self.flags, uapi::RING_MIN, ring),
            Kind::Stream | Kind::Record => return Err(ArgumentError::Kind),
        };
        let is_known = other == 0 && kind.takes_source(source);
        require(is_known, ArgumentError::Flags)?;
        let name = Name(self.name);
        require(name.is_valid(), ArgumentError::Name)?;
        let channel = ChannelParams { kind, tx, rx };
        Ok(JoinParams {
            channel,
            name,
            source,
        })
    }
}

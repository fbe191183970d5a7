// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What applications ask for by ioctl, checked: every field has its range, and
//! flags that nobody knows are refused. `None` is EINVAL.
//!
//! Called by `idts_kernel` on its private copy of the caller's structure. Who
//! may ask, and in which state, is decided there. `idts-common/uapi/idts.h`.

use super::uapi::{self, Accept, Addr, Connect, Group, Listen, Transact};
use super::wire::{Kind, Name};

/// The ring that an application gets that asks for none.
pub const RING_DEFAULT: u32 = 128 * 1024;
/// The backlog of a listen that asks for none.
pub const BACKLOG_DEFAULT: u32 = 16;

/// Bytes that one read or write moves at most: `MAX_RW_COUNT` (linux/fs.h).
pub const COUNT_MAX: u32 = 0x7fff_f000;

/// What a connect, a publish or a subscribe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Kind of channel.
    pub kind: Kind,
    /// Bytes of the ring that the asking end writes.
    pub tx: u32,
    /// Bytes of the ring that it reads.
    pub rx: u32,
}

/// A ring's size as asked for; 0 is the default.
pub const fn ring_size(size: u32) -> Option<u32> {
    match size {
        0 => Some(RING_DEFAULT),
        uapi::RING_MIN..=uapi::RING_MAX if size.is_power_of_two() => Some(size),
        _ => None,
    }
}

/// Stream or record, by the flags that say so.
const fn plain(flags: u32) -> Option<Kind> {
    match flags {
        0 => Some(Kind::Stream),
        uapi::RECORD => Some(Kind::Record),
        _ => None,
    }
}

impl Addr {
    /// Whether what must be 0 is.
    pub const fn is_plain(&self) -> bool {
        self.reserved == 0
    }

    /// Whether binding to the port takes `CAP_NET_BIND_SERVICE`.
    pub const fn is_privileged(&self) -> bool {
        self.port != 0 && self.port < uapi::PORT_RESERVED
    }
}

/// Which connections a listen wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// How many may wait.
    pub backlog: u32,
    /// Their kind.
    pub kind: Kind,
    /// The largest ring that one may have.
    pub max_ring: u32,
}

impl Listen {
    /// What it asks for.
    pub fn check(&self) -> Option<Listening> {
        let backlog = match self.backlog {
            0 => BACKLOG_DEFAULT,
            asked => asked.min(uapi::BACKLOG_MAX),
        };
        let max_ring = match self.max_ring {
            0 => uapi::RING_MAX,
            size => ring_size(size)?,
        };
        let kind = plain(self.flags)?;
        (self.reserved == 0).then_some(Listening {
            backlog,
            kind,
            max_ring,
        })
    }
}

impl Accept {
    /// Whether all flags are known.
    pub const fn is_known(&self) -> bool {
        self.flags & !(uapi::CLOEXEC | uapi::NONBLOCK) == 0
    }
}

impl Transact {
    /// Whether all that is set is known, and no length is more than one call of
    /// write(2) or read(2) moves.
    pub const fn is_known(&self) -> bool {
        self.reserved == 0 && self.tx_len <= COUNT_MAX && self.rx_len <= COUNT_MAX
    }
}

impl Connect {
    /// What it asks for.
    pub fn check(&self) -> Option<Wanted> {
        let named = self.peer.is_plain() && self.peer.port != 0;
        let wanted = Wanted {
            kind: plain(self.flags)?,
            tx: ring_size(self.tx_ring)?,
            rx: ring_size(self.rx_ring)?,
        };
        named.then_some(wanted)
    }

    /// The alias that it is to, if it is to one: then no id may be given too.
    /// All zeros are none.
    pub fn alias(&self) -> Option<Option<Name>> {
        if self.alias.iter().all(|byte| *byte == 0) {
            return Some(None);
        }
        let name = Name(self.alias);
        let fits = name.is_valid() && self.peer.domid == uapi::DOMID_ANY;
        fits.then_some(Some(name))
    }
}

impl Group {
    /// What it asks for, with the group's name and how the domain takes part:
    /// the source port of its OPEN. `kind` is that of a group.
    pub fn check(&self, kind: Kind) -> Option<(Wanted, Name, u32)> {
        let ring = ring_size(self.ring)?;
        let (how, other, tx, rx) = match kind {
            Kind::Publish => (self.flags, self.on_lag, ring, uapi::RING_MIN),
            Kind::Subscribe => (self.on_lag, self.flags, uapi::RING_MIN, ring),
            Kind::Stream | Kind::Record => return None,
        };
        let name = Name(self.name);
        let fits = other == 0 && kind.takes_source(how) && name.is_valid();
        fits.then_some((Wanted { kind, tx, rx }, name, how))
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! UAPI of `/dev/idts`: `idts-common/uapi/idts.h` in Rust.
//!
//! The driver and the client crate use it; a test holds this file against the header, which
//! documents meanings and errors.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this interface.
pub const UAPI_VERSION: u32 = 1;
/// Domain id for any peer domain, or for none.
pub const DOMID_ANY: u16 = 0xffff;
/// First port that can be bound without `CAP_NET_BIND_SERVICE`.
pub const PORT_RESERVED: u32 = 1024;
/// First port of those that the driver chooses from for port 0.
pub const PORT_EPHEMERAL: u32 = 0x8000_0000;
/// Bytes of the smallest ring.
pub const RING_MIN: u32 = 4096;
/// Bytes of the largest ring.
pub const RING_MAX: u32 = 4 * 1024 * 1024;
/// Largest backlog.
pub const BACKLOG_MAX: u32 = 128;

/// Bit of [`Version::features`]: [`Listen::max_ring`] is supported.
pub const FEATURE_MAX_RING: u64 = 1;
/// Bit of [`Version::features`]: a connect goes on after a signal has ended the call.
pub const FEATURE_GOES_ON: u64 = 2;
/// All features of this driver.
pub const FEATURES: u64 = FEATURE_MAX_RING | FEATURE_GOES_ON;

/// [`Version::role`]: the driver is the frontend.
pub const ROLE_FRONT: u32 = 1;
/// [`Version::role`]: the driver is the backend.
pub const ROLE_BACK: u32 = 2;

/// Largest number of bytes of a group's name or of an alias.
pub const NAME_MAX: usize = 56;
/// [`Group::on_lag`]: a slow subscriber misses records.
pub const LAG_DROP: u32 = 0;
/// [`Group::on_lag`]: a slow subscriber's channel is reset.
pub const LAG_DISCONNECT: u32 = 1;
/// [`Group::on_lag`]: a slow subscriber blocks the publisher for up to a second.
pub const LAG_BLOCK: u32 = 2;
/// Flag of [`Group`]: slow subscribers may block the publisher.
pub const GROUP_MAY_BLOCK: u32 = 1;

/// Flag of [`Listen`], [`Connect`] and [`Info`]: records instead of a stream.
pub const RECORD: u32 = 1;

/// Flag of [`Accept`]: `O_CLOEXEC`.
pub const CLOEXEC: u32 = 0o2_000_000;
/// Flag of [`Accept`]: `O_NONBLOCK`.
pub const NONBLOCK: u32 = 0o4000;

/// [`Info::state`]: the endpoint is new.
pub const STATE_IDLE: u32 = 0;
/// [`Info::state`]: the endpoint has a port.
pub const STATE_BOUND: u32 = 1;
/// [`Info::state`]: the endpoint listens.
pub const STATE_LISTENING: u32 = 2;
/// [`Info::state`]: the endpoint waits for the answer to its connect.
pub const STATE_CONNECTING: u32 = 3;
/// [`Info::state`]: the endpoint is an end of a channel.
pub const STATE_CONNECTED: u32 = 4;
/// [`Info::state`]: the endpoint's channel is broken, or its tunnel is gone.
pub const STATE_BROKEN: u32 = 5;

/// Argument of SHUTDOWN: ends reading.
pub const SHUT_RD: u32 = 0;
/// Argument of SHUTDOWN: ends writing.
pub const SHUT_WR: u32 = 1;
/// Argument of SHUTDOWN: ends both.
pub const SHUT_RDWR: u32 = 2;

/// Type part of every ioctl number.
pub const MAGIC: u8 = b'I';

/// Number part of each ioctl (`IDTS_IOC_*`).
pub mod nr {
    /// Gets a [`Version`](super::Version).
    pub const VERSION: u8 = 0x10;
    /// Binds to an [`Addr`](super::Addr).
    pub const BIND: u8 = 0x11;
    /// Listens, by [`Listen`](super::Listen).
    pub const LISTEN: u8 = 0x12;
    /// Accepts a connection, by [`Accept`](super::Accept).
    pub const ACCEPT: u8 = 0x13;
    /// Connects, by [`Connect`](super::Connect).
    pub const CONNECT: u8 = 0x14;
    /// Ends a direction, or both: `SHUT_*`.
    pub const SHUTDOWN: u8 = 0x15;
    /// Gets an [`Info`](super::Info).
    pub const GET_INFO: u8 = 0x16;
    /// Gets and clears the error of a connect.
    pub const GET_ERROR: u8 = 0x17;
    /// Publishes to a [`Group`](super::Group).
    pub const PUBLISH: u8 = 0x18;
    /// Subscribes to a [`Group`](super::Group).
    pub const SUBSCRIBE: u8 = 0x19;
    /// Writes, then reads, by [`Transact`](super::Transact).
    pub const TRANSACT: u8 = 0x1a;
}

/// `struct idts_addr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Addr {
    /// Xen domain id.
    pub domid: u16,
    /// 0.
    pub reserved: u16,
    /// Port.
    pub port: u32,
}

/// `struct idts_version`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Version {
    /// [`UAPI_VERSION`] of the driver.
    pub uapi: u32,
    /// [`ROLE_FRONT`] or [`ROLE_BACK`].
    pub role: u32,
    /// `FEATURE_*`.
    pub features: u64,
}

/// `struct idts_listen`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Listen {
    /// Largest number of connections that wait to be accepted; 0 for the default.
    pub backlog: u32,
    /// [`RECORD`].
    pub flags: u32,
    /// Bytes of the largest ring that a connection may have; 0: any.
    pub max_ring: u32,
    /// 0.
    pub reserved: u32,
}

/// `struct idts_accept`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Accept {
    /// [`CLOEXEC`], [`NONBLOCK`].
    pub flags: u32,
    /// The new descriptor.
    pub fd: i32,
    /// The end that connected.
    pub peer: Addr,
}

/// `struct idts_connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connect {
    /// Target.
    pub peer: Addr,
    /// Bytes of the ring that this end writes; 0 for the default.
    pub tx_ring: u32,
    /// Bytes of the ring that this end reads; 0 for the default.
    pub rx_ring: u32,
    /// Timeout in milliseconds; 0 for the default.
    pub timeout_ms: u32,
    /// [`RECORD`].
    pub flags: u32,
    /// Alias of the target, padded with 0; all 0: its domain id counts.
    pub alias: [u8; NAME_MAX],
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            peer: Addr::default(),
            tx_ring: 0,
            rx_ring: 0,
            timeout_ms: 0,
            flags: 0,
            alias: [0; NAME_MAX],
        }
    }
}

/// `struct idts_info`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Info {
    /// `STATE_*`.
    pub state: u32,
    /// Errno that broke the channel, or 0. Reading does not clear it.
    pub error: u32,
    /// This end. The domain id is [`DOMID_ANY`] if the domain does not know its own.
    pub local: Addr,
    /// The other end, once connected; 0 in a group.
    pub peer: Addr,
    /// Bytes of the ring that this end writes.
    pub tx_ring: u32,
    /// Bytes of the ring that this end reads.
    pub rx_ring: u32,
    /// Bytes that a write would take now.
    pub tx_free: u32,
    /// Bytes that a read would give now.
    pub rx_avail: u32,
    /// Bytes written since the channel was opened.
    pub tx_bytes: u64,
    /// Bytes read since the channel was opened.
    pub rx_bytes: u64,
    /// Number of events sent for this channel.
    pub events_sent: u64,
    /// Number of times that a read, a write or an accept slept.
    pub sleeps: u64,
    /// Number of connections that wait to be accepted.
    pub queued: u32,
    /// Number of connections refused because the backlog was full.
    pub refused: u32,
    /// Number of records of which a read got only the beginning.
    pub truncated: u64,
    /// [`RECORD`].
    pub flags: u32,
    /// Number of records of a group that this subscriber missed.
    pub lag: u32,
}

/// `struct idts_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Group {
    /// Name, padded with 0.
    pub name: [u8; NAME_MAX],
    /// Bytes of the ring that is written or read; 0 for the default.
    pub ring: u32,
    /// [`GROUP_MAY_BLOCK`].
    pub flags: u32,
    /// One of `LAG_*`.
    pub on_lag: u32,
    /// Timeout in milliseconds; 0 for the default.
    pub timeout_ms: u32,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: [0; NAME_MAX],
            ring: 0,
            flags: 0,
            on_lag: 0,
            timeout_ms: 0,
        }
    }
}

/// `struct idts_transact`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Transact {
    /// Address of the bytes to write.
    pub tx: u64,
    /// Address of the buffer to read into.
    pub rx: u64,
    /// Number of bytes to write.
    pub tx_len: u32,
    /// Largest number of bytes to read.
    pub rx_len: u32,
    /// Number of bytes written when the call failed.
    pub sent: u32,
    /// 0.
    pub reserved: u32,
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! `idts-common/uapi/idts.h` in Rust: the same numbers and structures.
//!
//! Used by the driver and by the client crate; a test holds this file against
//! the header. Meanings and errors are documented there.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this interface.
pub const UAPI_VERSION: u32 = 1;
/// Any peer domain, or none.
pub const DOMID_ANY: u16 = 0xffff;
/// Ports below need `CAP_NET_BIND_SERVICE`.
pub const PORT_RESERVED: u32 = 1024;
/// First port that is handed out for port 0.
pub const PORT_EPHEMERAL: u32 = 0x8000_0000;
/// Smallest ring.
pub const RING_MIN: u32 = 4096;
/// Largest ring.
pub const RING_MAX: u32 = 4 * 1024 * 1024;
/// Longest backlog.
pub const BACKLOG_MAX: u32 = 128;

/// Bit of [`Version::features`]: [`Listen::max_ring`].
pub const FEATURE_MAX_RING: u64 = 1;
/// Bit of [`Version::features`]: a connect goes on when a signal ended the waiting.
pub const FEATURE_GOES_ON: u64 = 2;
/// All that this driver has.
pub const FEATURES: u64 = FEATURE_MAX_RING | FEATURE_GOES_ON;

/// The driver is the frontend.
pub const ROLE_FRONT: u32 = 1;
/// The driver is the backend.
pub const ROLE_BACK: u32 = 2;

/// Bytes of a group's name or of an alias, at most.
pub const NAME_MAX: usize = 56;
/// [`Group::on_lag`]: a slow subscriber misses records.
pub const LAG_DROP: u32 = 0;
/// [`Group::on_lag`]: a slow subscriber's channel is reset.
pub const LAG_DISCONNECT: u32 = 1;
/// [`Group::on_lag`]: a slow subscriber holds the publisher up for a while.
pub const LAG_BLOCK: u32 = 2;
/// Flag of [`Group`]: the publisher lets itself be held up.
pub const GROUP_MAY_BLOCK: u32 = 1;

/// Flag of [`Listen`], [`Connect`] and [`Info`]: records instead of a stream.
pub const RECORD: u32 = 1;

/// Flag of [`Accept`]: `O_CLOEXEC`.
pub const CLOEXEC: u32 = 0o2_000_000;
/// Flag of [`Accept`]: `O_NONBLOCK`.
pub const NONBLOCK: u32 = 0o4000;

/// [`Info::state`]: nothing was done with the endpoint.
pub const STATE_IDLE: u32 = 0;
/// [`Info::state`]: it has a port.
pub const STATE_BOUND: u32 = 1;
/// [`Info::state`]: it takes connections.
pub const STATE_LISTENING: u32 = 2;
/// [`Info::state`]: it waits for the peer's answer.
pub const STATE_CONNECTING: u32 = 3;
/// [`Info::state`]: it is the end of a channel.
pub const STATE_CONNECTED: u32 = 4;
/// [`Info::state`]: its channel is broken or its tunnel is gone.
pub const STATE_BROKEN: u32 = 5;

/// Ends reading.
pub const SHUT_RD: u32 = 0;
/// Ends writing.
pub const SHUT_WR: u32 = 1;
/// Ends both.
pub const SHUT_RDWR: u32 = 2;

/// Type of every ioctl.
pub const MAGIC: u8 = b'I';

/// The number part of each ioctl.
pub mod nr {
    #![allow(missing_docs)]
    pub const VERSION: u8 = 0x10;
    pub const BIND: u8 = 0x11;
    pub const LISTEN: u8 = 0x12;
    pub const ACCEPT: u8 = 0x13;
    pub const CONNECT: u8 = 0x14;
    pub const SHUTDOWN: u8 = 0x15;
    pub const GET_INFO: u8 = 0x16;
    pub const GET_ERROR: u8 = 0x17;
    pub const PUBLISH: u8 = 0x18;
    pub const SUBSCRIBE: u8 = 0x19;
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
    /// Connections that may wait.
    pub backlog: u32,
    /// [`RECORD`].
    pub flags: u32,
    /// The largest ring that a connection may have; 0 for any.
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
    /// Who connected.
    pub peer: Addr,
}

/// `struct idts_connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Connect {
    /// Whom to connect to.
    pub peer: Addr,
    /// Ring that this end writes; 0 for the default.
    pub tx_ring: u32,
    /// Ring that this end reads; 0 for the default.
    pub rx_ring: u32,
    /// Milliseconds; 0 for the default.
    pub timeout_ms: u32,
    /// [`RECORD`].
    pub flags: u32,
    /// Padded with 0; all 0 for none.
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
#[allow(missing_docs)]
pub struct Info {
    pub state: u32,
    pub error: u32,
    pub local: Addr,
    pub peer: Addr,
    pub tx_ring: u32,
    pub rx_ring: u32,
    pub tx_free: u32,
    pub rx_avail: u32,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub events_sent: u64,
    pub sleeps: u64,
    pub queued: u32,
    pub refused: u32,
    pub truncated: u64,
    pub flags: u32,
    pub lag: u32,
}

/// `struct idts_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Group {
    /// Padded with 0.
    pub name: [u8; NAME_MAX],
    /// Ring that is written or read; 0 for the default.
    pub ring: u32,
    /// [`GROUP_MAY_BLOCK`].
    pub flags: u32,
    /// One of `LAG_*`.
    pub on_lag: u32,
    /// Milliseconds; 0 for the default.
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
    /// Address of what is written.
    pub tx: u64,
    /// Address of where to read to.
    pub rx: u64,
    /// Bytes to write.
    pub tx_len: u32,
    /// Bytes to read at most.
    pub rx_len: u32,
    /// Bytes that were written where the call failed.
    pub sent: u32,
    /// 0.
    pub reserved: u32,
}

// SPDX-License-Identifier: GPL-2.0

//! The errnos that a user of a channel can meet and that the kernel crate has
//! no constants for. Which is given when is in PROTOCOL.md section 9
//! and in the UAPI header.

use idts_core::ioctl::ArgumentError;
use idts_core::wire::Refusal;
use kernel::prelude::*;

use crate::sys::bindings;

/// What happened to an endpoint or its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// The peer broke the protocol.
    Proto = bindings::EPROTO,
    /// The peer closed with data unread, or its domain or driver went away.
    ConnReset = bindings::ECONNRESET,
    /// Not connected, or not any more.
    NotConn = bindings::ENOTCONN,
    /// Nobody listens, or the backlog is full.
    ConnRefused = bindings::ECONNREFUSED,
    /// There is no tunnel.
    NetDown = bindings::ENETDOWN,
    /// There is no such domain.
    HostUnreach = bindings::EHOSTUNREACH,
    /// No answer in time.
    TimedOut = bindings::ETIMEDOUT,
    /// A connect without waiting has begun.
    InProgress = bindings::EINPROGRESS,
    /// A connect is under way.
    Already = bindings::EALREADY,
    /// Connected already.
    IsConn = bindings::EISCONN,
    /// The port is taken.
    AddrInUse = bindings::EADDRINUSE,
    /// Forbidden.
    Access = bindings::EACCES,
    /// The record does not fit into the ring.
    MsgSize = bindings::EMSGSIZE,
    /// No room within the limits.
    NoSpace = bindings::ENOSPC,
}

impl Errno {
    /// The errno of a value that `as u32` gave.
    pub fn from_u32(value: u32) -> Option<Self> {
        use Errno::*;
        [
            Proto,
            ConnReset,
            NotConn,
            ConnRefused,
            NetDown,
            HostUnreach,
            TimedOut,
            InProgress,
            Already,
            IsConn,
            AddrInUse,
            Access,
            MsgSize,
            NoSpace,
        ]
        .into_iter()
        .find(|e| *e as u32 == value)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::from_errno((errno as i32).wrapping_neg())
    }
}

/// The errno of an ioctl argument that is not allowed, whichever part it is.
pub(crate) fn invalid(_: ArgumentError) -> Error {
    EINVAL
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Refused => Errno::ConnRefused,
            Refusal::Forbidden => Errno::Access,
            Refusal::NoSpace => Errno::NoSpace,
            Refusal::Unreachable => Errno::NetDown,
            Refusal::InUse => Errno::AddrInUse,
        }
    }
}

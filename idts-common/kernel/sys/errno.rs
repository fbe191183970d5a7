// SPDX-License-Identifier: GPL-2.0

//! Errnos that the kernel crate has no constants for.
//!
//! PROTOCOL.md section 9 and the UAPI header (uapi/idts.h) say which is returned when.

use idts_core::ioctl::ArgumentError;
use idts_core::wire::Refusal;
use kernel::prelude::*;

use crate::sys::bindings;

/// An errno of an endpoint, a channel or a tunnel. `as u32` gives its number, which fits into an
/// atomic word; 0 is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// `EPROTO`: the peer violated the protocol.
    Proto = bindings::EPROTO,
    /// `ECONNRESET`: the peer closed with data unread, or its domain or driver went away.
    ConnReset = bindings::ECONNRESET,
    /// `ENOTCONN`: not connected, or no longer.
    NotConn = bindings::ENOTCONN,
    /// `ECONNREFUSED`: no endpoint listens on the port, or its backlog is full.
    ConnRefused = bindings::ECONNREFUSED,
    /// `ENETDOWN`: this domain has no tunnel that leads there.
    NetDown = bindings::ENETDOWN,
    /// `EHOSTUNREACH`: no such domain or alias.
    HostUnreach = bindings::EHOSTUNREACH,
    /// `ETIMEDOUT`: no answer in time.
    TimedOut = bindings::ETIMEDOUT,
    /// `EINPROGRESS`: a non-blocking connect has begun.
    InProgress = bindings::EINPROGRESS,
    /// `EALREADY`: a connect is under way.
    Already = bindings::EALREADY,
    /// `EISCONN`: already connected.
    IsConn = bindings::EISCONN,
    /// `EADDRINUSE`: the port or the name of the group is taken.
    AddrInUse = bindings::EADDRINUSE,
    /// `EACCES`: forbidden by policy, or a domain that a guest may not know of.
    Access = bindings::EACCES,
    /// `EMSGSIZE`: the record is larger than a ring that it has to pass.
    MsgSize = bindings::EMSGSIZE,
    /// `ENOSPC`: a limit is reached.
    NoSpace = bindings::ENOSPC,
}

impl Errno {
    /// Returns the errno whose number is `value`; `None` if it is not one of these.
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

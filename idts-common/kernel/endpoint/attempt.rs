// SPDX-License-Identifier: GPL-2.0

//! An endpoint's attempts to get a channel.

use idts_core::wire::Kind;

use crate::context::router::Address;
use crate::sys::errno::Errno;

/// The target of a connect, a publish or a subscribe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) port: u32,
    pub(super) kind: Kind,
}

/// The state of the last attempt.
pub(super) struct Last {
    pub(super) number: u32,
    pub(super) target: Option<Target>,
    /// The time at which it ends without an answer, by the clock.
    pub(super) deadline: u64,
    /// The reason of its failure, for all that wait for it.
    pub(super) failed: Errno,
    /// A signal ended the wait, and no caller has learnt the result yet.
    pub(super) untold: bool,
    /// The context's timeouts watch it.
    pub(super) watched: bool,
}

impl Last {
    /// No attempt so far.
    pub(super) const NONE: Self = Self {
        number: 0,
        target: None,
        deadline: 0,
        failed: Errno::NetDown,
        untold: false,
        watched: false,
    };

    /// Notes that a caller has learnt the result.
    pub(super) fn is_told(&mut self) {
        self.untold = false;
    }
}

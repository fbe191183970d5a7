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

/// The last attempt.
pub(super) struct Last {
    pub(super) number: u32,
    pub(super) target: Option<Target>,
    /// When it ends without an answer.
    pub(super) deadline: u64,
    /// Why it failed, for all who waited for it.
    pub(super) failed: Errno,
    /// A signal ended the waiting, and nobody was told yet what came of it.
    pub(super) untold: bool,
    /// The context's timeouts end it.
    pub(super) watched: bool,
}

impl Last {
    /// There was none.
    pub(super) const NONE: Self = Self {
        number: 0,
        target: None,
        deadline: 0,
        failed: Errno::NetDown,
        untold: false,
        watched: false,
    };

    /// Somebody was told what came of it.
    pub(super) fn is_told(&mut self) {
        self.untold = false;
    }
}

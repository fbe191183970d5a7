// SPDX-License-Identifier: GPL-2.0

//! The throttle of a link: a scheduler that caps what this domain's programs move.
//!
//! An endpoint charges before it moves, sleeps for a turn where it is not granted, and
//! settles afterwards. A module that schedules implements it; in others a link has none.

use idts_core::sched::FlowId;
use kernel::fmt;
use kernel::prelude::*;

/// A charge was not granted: a turn after this many will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(pub u32);

/// A charge where there is no cap.
pub const UNLIMITED: u32 = u32::MAX;

/// Called by endpoints, implemented by whoever schedules a link.
pub trait Throttle: Send + Sync {
    /// The scheduler's name for the link.
    fn flow(&self) -> FlowId;

    /// Charges for `want` bytes, at least 1. Grants so many of them, or [`UNLIMITED`] where
    /// the cap is gone.
    ///
    /// # Errors
    /// Nothing may move before the next turn.
    fn charge(&self, want: u32) -> Result<u32, Turn>;

    /// Whether a charge would be granted now; if not, a turn comes.
    fn may_charge(&self) -> bool;

    /// Ends a charge: gives back what was not used, and pays for what a record was longer.
    fn settle(&self, charged: u32, used: u32);

    /// Sleeps until there was a turn after `turn`, or `is_over`.
    ///
    /// # Errors
    /// A signal came.
    fn wait_turn(&self, turn: Turn, is_over: &dyn Fn() -> bool) -> Result;

    /// Has the next turn told by [`super::Link::tell_turn`].
    fn arm_turn(&self);

    /// Writes a line `flow_NAME VALUE` for each of the scheduler's counters.
    ///
    /// # Errors
    /// The formatter's.
    fn report(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Wakes all who sleep for a turn, so that they see whether theirs is over.
    fn wake(&self);
}

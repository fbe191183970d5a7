// SPDX-License-Identifier: GPL-2.0

//! The throttle of a link: bounds the rate at which this domain's programs move bytes.
//!
//! An endpoint charges before it moves bytes, waits for a turn if the charge is not granted, and
//! settles afterwards. A module with a scheduler implements it; elsewhere a link has none.

use idts_core::sched::FlowId;
use kernel::fmt;
use kernel::prelude::*;

/// A charge that was not granted: the number of turns seen before it, for
/// [`Throttle::wait_turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(pub u32);

/// The charge on a link without a cap.
pub const UNLIMITED: u32 = u32::MAX;

/// Limits the bytes that this domain's programs move. Called by endpoints, implemented by the
/// scheduler of a module.
pub trait Throttle: Send + Sync {
    /// The scheduler's id of the link.
    fn flow(&self) -> FlowId;

    /// Charges for `want` bytes; 0 counts as 1. Grants so many of them, or [`UNLIMITED`] where
    /// the cap is gone.
    ///
    /// # Errors
    /// Nothing may be moved before the next turn.
    fn charge(&self, want: u32) -> Result<u32, Turn>;

    /// Returns whether a charge would be granted now. If not, a turn follows.
    fn may_charge(&self) -> bool;

    /// Ends a charge: refunds unused bytes, and charges what a record was longer than granted.
    fn settle(&self, charged: u32, used: u32);

    /// Sleeps until there is a turn after `turn`, or until `is_over`.
    ///
    /// # Errors
    /// `ERESTARTSYS`: a signal came.
    fn wait_turn(&self, turn: Turn, is_over: &dyn Fn() -> bool) -> Result;

    /// Requests a call of [`super::Link::tell_turn`] at the next turn.
    fn arm_turn(&self);

    /// Writes a line `flow_NAME VALUE` for each counter of the flow.
    ///
    /// # Errors
    /// The formatter's.
    fn report(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Wakes all tasks in [`Self::wait_turn`], so that they check `is_over`.
    fn wake(&self);
}

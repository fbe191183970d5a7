// SPDX-License-Identifier: GPL-2.0

//! Lines of the log on the set-ups of one device: of each kind one a minute, the
//! rest is counted. What else a domain can cause is [`crate::accounts`]'.

use idts_core::log::Lines;
use kernel::prelude::*;

use crate::patience::clock;

/// Whether a line of this kind may be said now of a domain; if not, it is counted.
pub fn may_say(lines: &mut Lines, domid: u16) -> bool {
    let Some(left_out) = lines.take(clock()) else {
        return false;
    };
    if left_out > 0 {
        pr_info!(
            "domain {}: {} lines like the next were left out\n",
            domid,
            left_out
        );
    }
    true
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Names and values of the xenstore nodes of a tunnel.
//!
//! Owns the names and the reading of values that a peer wrote; reading and
//! writing xenstore is left to others. PROTOCOL.md section 3.

use super::wire::QUEUES;

/// The device type: `device/idts/0` and `backend/idts/<domid>/0`.
pub const DEVICE: &str = "idts";

/// Each: lowest protocol version that it speaks.
pub const MIN_VERSION: &str = "min-version";
/// Each: highest protocol version that it speaks.
pub const MAX_VERSION: &str = "max-version";
/// Front: the version that it picked.
pub const VERSION: &str = "version";
/// Front: grant reference of the control page.
pub const CONTROL_REF: &str = "control-ref";
/// Front: event channel ports, of each queue.
pub const EVENT_CHANNELS: [&str; QUEUES as usize] = [
    "event-channel",
    "event-channel-1",
    "event-channel-2",
    "event-channel-3",
    "event-channel-4",
    "event-channel-5",
    "event-channel-6",
    "event-channel-7",
];
/// Back: the features that it has. Front: those that both have.
pub const FEATURES: &str = "features";
/// Back: queues of the tunnel, at most.
pub const MAX_QUEUES: &str = "max-queues";
/// Front: queues of the tunnel.
pub const QUEUE_COUNT: &str = "queues";

/// Where a domain says whether it wants a tunnel, below its home: the folder and
/// the node in it, which the domain itself writes.
pub const ASK: (&str, &str) = ("data", DEVICE);
/// Value of [`ASK`]: it wants a tunnel, and has none.
pub const ASK_ATTACH: &str = "attach";
/// Value of [`ASK`]: it wants to keep the tunnel that it has.
pub const ASK_KEEP: &str = "keep";
/// Where the toolstack says to a domain that it hears that, likewise.
pub const ON_DEMAND: (&str, &str) = ("control", DEVICE);
/// Value of [`ON_DEMAND`]: a tunnel comes when it is asked for.
pub const ON_DEMAND_YES: &str = "on-demand";

/// Reads a decimal number, as the kernels' `%u` writes it: digits only, no
/// sign, no blank, within `min` and `max`.
pub fn number(text: &[u8], min: u32, max: u32) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    let mut value: u32 = 0;
    for digit in text {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    (min..=max).contains(&value).then_some(value)
}

/// The highest version that both sides speak, if there is one.
///
/// `ours` and `theirs` are ranges, lowest and highest.
pub fn common_version(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let low = ours.0.max(theirs.0);
    let high = ours.1.min(theirs.1);
    (low <= high).then_some(high)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Xenstore nodes of a tunnel: names, and the parsing of values that a peer wrote.
//!
//! Reading and writing xenstore is the drivers' and tunnel-mgr's. PROTOCOL.md section 3.

use super::wire::QUEUES;

/// Device type, as in `device/idts/0` and `backend/idts/<domid>/0`.
pub const DEVICE: &str = "idts";

/// Both sides: lowest protocol version that the side supports.
pub const MIN_VERSION: &str = "min-version";
/// Both sides: highest protocol version that the side supports.
pub const MAX_VERSION: &str = "max-version";
/// Front: the protocol version that it picked.
pub const VERSION: &str = "version";
/// Front: grant reference of the control page.
pub const CONTROL_REF: &str = "control-ref";
/// Front: event channel port of each queue.
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
/// Back: the features that it supports. Front: those that both support.
pub const FEATURES: &str = "features";
/// Back: largest number of queues of the tunnel.
pub const MAX_QUEUES: &str = "max-queues";
/// Front: number of queues of the tunnel.
pub const QUEUE_COUNT: &str = "queues";

/// Directory and node, below a domain's home, in which the domain itself requests a tunnel on
/// demand.
pub const REQUEST: (&str, &str) = ("data", DEVICE);
/// Value of [`REQUEST`]: the domain has no tunnel and wants one.
pub const REQUEST_ATTACH: &str = "attach";
/// Value of [`REQUEST`]: the domain wants to keep its tunnel.
pub const REQUEST_KEEP: &str = "keep";
/// Directory and node, below a domain's home, in which the toolstack tells the domain that it
/// serves such requests.
pub const ON_DEMAND: (&str, &str) = ("control", DEVICE);
/// Value of [`ON_DEMAND`]: requests are served.
pub const ON_DEMAND_ENABLED: &str = "on-demand";

/// Parses a decimal number within `min` and `max`, as the kernel's `%u` prints it: digits only, no
/// sign, no blank. `None`: the text is anything else.
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

/// The highest version that both sides support. `None`: the ranges `ours` and `theirs`, lowest
/// and highest version, do not overlap.
pub fn common_version(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let low = ours.0.max(theirs.0);
    let high = ours.1.min(theirs.1);
    (low <= high).then_some(high)
}

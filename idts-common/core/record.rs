// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Records: how a message stands in a ring.
//!
//! A record is a header word with its length, the bytes, and zero to three
//! bytes that pad it to a multiple of 4, so that a header never straddles the
//! ring's end. A writer publishes a record as a whole. PROTOCOL.md section 6.

use super::error::Violation;
use super::index::Untrusted;

/// Bytes of a header.
pub const HEADER: u32 = 4;

/// Bytes that a record of `len` bytes takes in a ring; `None` if there is no
/// ring that long.
pub const fn framed(len: u32) -> Option<u32> {
    match len.checked_add(HEADER + 3) {
        Some(n) => Some(n & !3),
        None => None,
    }
}

/// The longest record that fits into a ring of `size` bytes.
pub const fn longest(size: u32) -> u32 {
    size.saturating_sub(HEADER)
}

/// Accepts the length that a header gives, where `available` bytes, header
/// included, are there to be read.
pub fn check(header: Untrusted, available: u32) -> Result<u32, Violation> {
    let len = header
        .at_most(longest(available))
        .map_err(|_| Violation::Record)?;
    match framed(len) {
        Some(n) if len > 0 && n <= available => Ok(len),
        _ => Err(Violation::Record),
    }
}

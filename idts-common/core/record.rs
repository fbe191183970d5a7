// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Records: the framing of a message in a ring.
//!
//! A record is a header word with its length, the bytes, and zero to three bytes of padding to
//! a multiple of 4, so that a header never straddles the ring's end. A writer publishes a
//! record as a whole. PROTOCOL.md section 6.6.

use super::error::Violation;
use super::index::Untrusted;

/// Bytes of a header.
pub const HEADER: u32 = 4;

/// Bytes of a record of `len` bytes in a ring, header and padding included. `None`: they exceed
/// 32 bits.
pub const fn framed(len: u32) -> Option<u32> {
    match len.checked_add(HEADER + 3) {
        Some(n) => Some(n & !3),
        None => None,
    }
}

/// The length of the longest record that fits into a ring of `size` bytes.
pub const fn longest(size: u32) -> u32 {
    size.saturating_sub(HEADER)
}

/// Checks the length in a header, of whose record `available` bytes, header included, can be
/// read. The length.
///
/// # Errors
/// [`Violation::Record`]: it is 0, or more than the peer has published.
pub fn check(header: Untrusted, available: u32) -> Result<u32, Violation> {
    let len = header.at_most(longest(available), Violation::Record)?;
    match framed(len) {
        Some(n) if len > 0 && n <= available => Ok(len),
        _ => Err(Violation::Record),
    }
}

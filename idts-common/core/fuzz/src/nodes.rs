// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Numbers that a peer wrote into xenstore.

use super::input::Input;
use idts_core::nodes;
use idts_core::state::XenbusState;

/// What a number is, in other words.
fn number(text: &[u8], min: u32, max: u32) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits)?;
    (min <= value && value <= max).then_some(value)
}

/// Reads a range, and a text in it.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    let (min, max) = (input.count(), input.count());
    let versions = ((min, max), (input.count(), input.count()));
    if let Some(version) = nodes::common_version(versions.0, versions.1) {
        let within = |range: (u32, u32)| (range.0..=range.1).contains(&version);
        assert!(within(versions.0) && within(versions.1));
    }
    let text = input.rest();
    assert_eq!(nodes::number(text, min, max), number(text, min, max));
    let value = nodes::number(text, 0, u32::MAX);
    assert_eq!(value, number(text, 0, u32::MAX));
    let state = XenbusState::from_wire(value.unwrap_or(0));
    assert!(state == XenbusState::Unknown || Some(state as u32) == value);
}

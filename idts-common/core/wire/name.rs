// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Names of domains and groups: PROTOCOL.md sections 3.1 and 7.7.

/// The [`Name`] of the back's own domain, which no alias can be.
pub const BACKEND_NAME: &[u8] = b"dom0";

/// Largest number of bytes of a [`Name`].
pub const NAME_MAX: usize = 56;

/// A name, padded with 0. It may be malformed; see [`Self::is_valid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; NAME_MAX]);

impl Name {
    /// The bytes before the first 0.
    pub fn text(&self) -> &[u8] {
        self.0.split(|b| *b == 0).next().unwrap_or(&[])
    }

    /// Whether it is a well-formed name ([`is_name`]) followed by padding only.
    pub fn is_valid(&self) -> bool {
        let text = self.text();
        is_name(text) && self.0.iter().skip(text.len()).all(|b| *b == 0)
    }
}

/// Whether the text is a well-formed name: a lower-case letter, then lower-case letters, digits and
/// hyphens, at most [`NAME_MAX`] bytes in all.
pub fn is_name(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    text.len() <= NAME_MAX
        && text.first().is_some_and(u8::is_ascii_lowercase)
        && text.iter().all(plain)
}

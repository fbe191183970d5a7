// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Names of domains and groups.
//!
//! PROTOCOL.md section 7.7.

/// The [`Name`] of the back's own domain, which no alias can be.
pub const HOME: &[u8] = b"dom0";

/// Bytes of a [`Name`], at most.
pub const NAME_MAX: usize = 56;

/// A name: bytes, padded with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; NAME_MAX]);

impl Name {
    /// The bytes up to the padding.
    pub fn text(&self) -> &[u8] {
        self.0.split(|b| *b == 0).next().unwrap_or(&[])
    }

    /// Whether it is a name, then padding.
    pub fn is_valid(&self) -> bool {
        let text = self.text();
        is_name(text) && self.0.iter().skip(text.len()).all(|b| *b == 0)
    }
}

/// Whether the text is a name: a lower-case letter, then letters, digits and
/// hyphens, [`NAME_MAX`] in all at most.
pub fn is_name(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    text.len() <= NAME_MAX
        && text.first().is_some_and(u8::is_ascii_lowercase)
        && text.iter().all(plain)
}

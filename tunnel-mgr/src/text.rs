// SPDX-License-Identifier: GPL-2.0
//! Words of others, for people: a domain's name is its giver's choice, and what a
//! guest writes is the guest's. Printed, they must stay one word of one line.

use std::fmt;

/// Bytes as one line of text: what is neither graphic nor a blank is escaped, and
/// so is the backslash.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                // Rust escapes these for the sake of its own literals.
                '\'' | '"' => text.push(letter),
                letter => text.extend(letter.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// A domain's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Vec<u8>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn one_line_whatever_is_in_it() {
        for (bytes, text) in [
            (&b"u1"[..], "u1"),
            ("Größe 7 \"x\"".as_bytes(), "Größe 7 \"x\""),
            (b"a\nb\tc\r", "a\\nb\\tc\\r"),
            (b"\x1b[2J\x07", "\\u{1b}[2J\\u{7}"),
            ("\u{202e}txt".as_bytes(), "\\u{202e}txt"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            (b"\xff\xfea", "\\xff\\xfea"),
            (b"a\\nb", "a\\\\nb"),
        ] {
            assert_eq!(escape(bytes), text);
        }
    }
}

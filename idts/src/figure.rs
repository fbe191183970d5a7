// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes and rates as people write and read them, in all commands: a number, or one with K, M, G or
//! T after it, large or small, which count in steps of 1024.

/// What is allowed, for messages.
pub const ALLOWED: &str = "K, M, G or T after a number are units of 1024";

/// The units, with the power of two that each is.
const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// The number of bytes; None for what is no size.
pub fn parse(text: &str) -> Option<u64> {
    let last = text.chars().last()?.to_ascii_uppercase();
    let (digits, shift) = match UNITS.iter().find(|(unit, _)| *unit == last) {
        Some((_, shift)) => (text.get(..text.len() - 1)?, *shift),
        None => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A number of bytes in the largest unit that divides it.
pub fn show(bytes: u64) -> String {
    let fits = |(_, shift): &&(char, u32)| bytes != 0 && bytes.is_multiple_of(1 << *shift);
    match UNITS.iter().find(fits) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn shown_in_the_largest_unit_that_divides() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (131072, "128K"),
            (17825792, "17M"),
            (1 << 40, "1T"),
            (1025, "1025"),
        ] {
            assert_eq!(show(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }

    #[test]
    fn units_are_large_or_small() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("1K", 1024),
            ("100m", 100 << 20),
            ("100M", 100 << 20),
            ("2g", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse(text), Some(size), "{text}");
        }
        for text in [
            "",
            "K",
            "1KB",
            "-1",
            "+1",
            "+1K",
            "1 K",
            "1.5M",
            "99999999999G",
            "1é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

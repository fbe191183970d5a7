// SPDX-License-Identifier: GPL-2.0
//! Sizes as people write them: a number, or one with K, M or G after it, which
//! count in steps of 1024.

/// The number of bytes; None for what is no size.
pub fn parse(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A number of bytes in the largest unit that divides it; None for what is none.
pub fn show(bytes: &str) -> Option<String> {
    let bytes: u64 = bytes.parse().ok()?;
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let fits = |(shift, _): &(u32, &str)| bytes != 0 && bytes.is_multiple_of(1 << shift);
    let unit = units.into_iter().find(fits);
    Some(unit.map_or_else(
        || bytes.to_string(),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    ))
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn shown_in_the_largest_unit_that_divides() {
        for (bytes, text) in [
            ("0", "0"),
            ("1023", "1023"),
            ("131072", "128K"),
            ("17825792", "17M"),
            ("1099511627776", "1024G"),
            ("1025", "1025"),
        ] {
            assert_eq!(show(bytes).as_deref(), Some(text));
            assert_eq!(parse(text), bytes.parse().ok());
        }
        assert_eq!(show("fast"), None);
    }

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("1K", 1024),
            ("64M", 64 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(parse(text), Some(size), "{text}");
        }
        for text in [
            "",
            "K",
            "1k",
            "1KB",
            "-1",
            "+1",
            "1 K",
            "1.5M",
            "99999999999G",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

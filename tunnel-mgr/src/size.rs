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

#[cfg(test)]
mod tests {
    use super::parse;

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

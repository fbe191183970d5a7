// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reads PROTOCOL.md's tables. What they are held against is left to others.

/// The document.
pub const DOC: &str = include_str!("../../../PROTOCOL.md");

/// The rows of a table, cell by cell, without its title row.
pub fn table(heading: &str, first: &str) -> Vec<Vec<&'static str>> {
    let cells = |l: &'static str| -> Vec<&str> {
        let inner = l.strip_prefix('|').and_then(|l| l.strip_suffix('|'));
        let inner = inner.unwrap_or_else(|| panic!("not a row: {l}"));
        inner
            .split('|')
            .map(|c| c.trim().trim_matches('`'))
            .collect()
    };
    let mut lines = DOC.lines().skip_while(|l| *l != heading).skip(1);
    let titles = lines
        .by_ref()
        .take_while(|l| !l.starts_with('#'))
        .find(|l| l.starts_with(&format!("| {first} |")))
        .unwrap_or_else(|| panic!("no table {first} under {heading}"));
    let width = cells(titles).len();
    let rows: Vec<_> = lines
        .skip(1)
        .take_while(|l| l.starts_with('|'))
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "{heading}: empty table");
    for row in &rows {
        assert_eq!(row.len(), width, "{heading}: {row:?}");
    }
    rows
}

/// A number as the tables write it: decimal, or hexadecimal with 0x.
pub fn number(text: &str) -> u32 {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.unwrap_or_else(|_| panic!("not a number: {text}"))
}

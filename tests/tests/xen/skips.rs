// SPDX-License-Identifier: GPL-2.0
//! Tests that are skipped, each with its reason: `tests/skips.txt` is the only place.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The checkout.
pub fn top() -> PathBuf {
    std::env::var_os("IDTS_TOP").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")),
        PathBuf::from,
    )
}

/// Names and reasons, from lines `NAME: REASON`; `#` begins a comment.
pub fn read() -> Result<BTreeMap<String, String>> {
    let path = top().join("tests/skips.txt");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, reason) = line
                .split_once(": ")
                .with_context(|| format!("tests/skips.txt: no reason in `{line}`"))?;
            Ok((name.into(), reason.into()))
        })
        .collect()
}

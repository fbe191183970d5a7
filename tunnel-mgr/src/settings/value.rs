// SPDX-License-Identifier: GPL-2.0
//! Keys and values as people write them, on the command line and in the file.

use anyhow::{bail, Context, Result};
use idts::figure;
use idts_core::policy::Key;

use crate::store;

/// The key of that name.
pub fn key(name: &str) -> Result<Key> {
    Key::from_name(name).with_context(|| {
        let known = Key::LIST.map(Key::name).join(", ");
        format!(
            "there is no key `{}`; there are {known}",
            name.escape_debug()
        )
    })
}

/// The value of a key that a text means: sizes are bytes in xenstore.
pub fn value(key: Key, text: &str) -> Result<String> {
    let value = match figure::parse(text).filter(|_| is_size(key)) {
        Some(bytes) => bytes.to_string(),
        None => text.into(),
    };
    if !key.accepts(value.as_bytes()) {
        bail!("not {}", grammar(key));
    }
    if key == Key::Connect {
        refuse_nobody(&value)?;
    }
    Ok(value)
}

/// Ids that fit a rule's grammar but that Xen gives no domain.
fn refuse_nobody(rules: &str) -> Result<()> {
    for rule in rules.split(',') {
        let who = rule.split(':').next().unwrap_or_default();
        let is_id = !who.is_empty() && who.bytes().all(|byte| byte.is_ascii_digit());
        if is_id && store::domain_id(who).is_none() {
            let last = store::FIRST_RESERVED - 1;
            bail!("`{rule}`: no domain can have the id {who}; they end at {last}");
        }
    }
    Ok(())
}

/// What is allowed for a key, for messages.
pub fn grammar(key: Key) -> String {
    let (least, most) = match key.range() {
        Some((least, most, _)) if is_size(key) => (figure::show(least), figure::show(most)),
        _ => return key.grammar().into(),
    };
    let none = if key == Key::Rate { " (no cap)" } else { "" };
    let allowed = figure::ALLOWED;
    format!("a size, {least}{none} to {most}; {allowed}")
}

/// A value for people.
pub fn shown(key: Key, value: &str) -> String {
    let size = value.parse().ok().filter(|_| is_size(key));
    size.map(figure::show)
        .unwrap_or_else(|| crate::text::escape(value.as_bytes()))
}

fn is_size(key: Key) -> bool {
    matches!(key, Key::Rate | Key::Memory)
}

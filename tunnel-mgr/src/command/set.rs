// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr set`: what a domain may do and how it is served.

use anyhow::{bail, Context, Result};
use idts_core::policy::Key;

use super::Manager;
use crate::cli::Set;
use crate::settings::{Giver, Held};
use crate::store::{is_alive, transact};
use crate::text::escape;
use crate::{say, size, sweep};

pub fn run(manager: &mut Manager<'_>, args: &Set) -> Result<()> {
    let changes: Vec<_> = args
        .changes
        .iter()
        .map(|text| change(text))
        .collect::<Result<_>>()?;
    let domain = manager.tunnel(&args.domain)?.front;
    let settings = manager.settings();
    sweep::settings(manager);
    transact(manager.store, |store| {
        if !is_alive(store, domain)? {
            bail!("there is no domain {domain}");
        }
        settings.own(store, domain)?;
        if changes.is_empty() {
            return Ok(());
        }
        settings.write(store, domain, &changes)
    })?;
    if changes.is_empty() {
        say::result(&show(&settings.held(manager.store, Some(domain))?))?;
    }
    Ok(())
}

/// The key and value that `KEY=VALUE` means; no value takes the key away.
fn change(text: &str) -> Result<(Key, Option<String>)> {
    let (name, value) = text
        .split_once('=')
        .with_context(|| format!("`{text}` is not KEY=VALUE"))?;
    let Some(key) = Key::from_name(name) else {
        let known = Key::LIST.map(Key::name).join(", ");
        bail!("there is no key `{name}`; there are {known}");
    };
    if value.is_empty() {
        return Ok((key, None));
    }
    let value = match size::parse(value).filter(|_| is_size(key)) {
        Some(bytes) => bytes.to_string(),
        None => value.into(),
    };
    if !key.accepts(value.as_bytes()) {
        bail!("`{text}`: not {}", key.grammar());
    }
    Ok((key, Some(value)))
}

/// A line for each key, with what holds, and who gave it if nobody typed it for the
/// domain.
fn show(held: &[Held]) -> String {
    let line = |held: &Held| {
        let giver = match held.by {
            Giver::Set => "",
            Giver::File => "  (file)",
            Giver::Default => "  (set --default)",
            Giver::BuiltIn => "  (default)",
        };
        let is_size = is_size(held.key).then(|| size::show(&held.value));
        let value = is_size
            .flatten()
            .unwrap_or_else(|| escape(held.value.as_bytes()));
        format!("{}={value}{giver}\n", held.key.name())
    };
    held.iter().map(line).collect()
}

fn is_size(key: Key) -> bool {
    matches!(key, Key::Rate | Key::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};

    fn set(ground: &mut Ground, domain: &str, changes: &[&str]) -> Result<()> {
        let args = Set {
            domain: domain.into(),
            changes: changes.iter().map(|c| c.to_string()).collect(),
        };
        run(&mut manager(ground), &args)
    }

    #[test]
    fn writes_all_at_once_or_nothing() {
        let mut ground = Ground::new(&[3]);
        let changes = ["weight=4", "rate=10M", "connect=dom0,4:1-9", "alias=web"];
        ground.store.conflicts = 1;
        set(&mut ground, "u3", &changes).unwrap();
        let dir = "/local/domain/0/idts/domain/3";
        for (key, value) in [
            ("weight", "4"),
            ("rate", "10485760"),
            ("connect", "dom0,4:1-9"),
            ("alias", "web"),
        ] {
            let path = format!("{dir}/{key}");
            assert_eq!(ground.store.value(&path), Some(value));
        }
        assert_eq!((ground.store.commits, ground.store.loose_writes), (1, 0));
        let before = ground.store.paths();
        assert!(set(&mut ground, "u3", &["weight=", "prio=9"]).is_err());
        assert_eq!(ground.store.paths(), before);
        set(&mut ground, "u3", &["weight=", "alias="]).unwrap();
        assert_eq!(ground.store.value(&format!("{dir}/weight")), None);
        set(&mut ground, "u3", &[]).unwrap();
    }

    #[test]
    fn says_what_is_wrong() {
        let mut ground = Ground::new(&[3]);
        for (changes, expected) in [
            ("weight", "is not KEY=VALUE"),
            ("wait=3", "no key `wait`; there are weight, prio"),
            ("weight=0", "not number, 1 to 1024"),
            ("weight=1K", "not number"),
            ("limit-memory=1K", "not number, 131072"),
            ("limit-peer=0", "not number, 1 to 100"),
            ("alias=Web", "not NAME"),
            ("connect=web", "not all, none, dom0"),
        ] {
            let error = set(&mut ground, "3", &[changes]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = set(&mut ground, "9", &["weight=1"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("no domain 9"), "{error}");
        assert!(set(&mut ground, "0", &["weight=1"]).is_err());
    }

    #[test]
    fn shows_what_holds() {
        let held = |key, value: &str, by| Held {
            key,
            value: value.into(),
            by,
        };
        let text = show(&[
            held(Key::Weight, "4", Giver::Set),
            held(Key::Rate, "104857600", Giver::File),
            held(Key::Memory, "17825792", Giver::BuiltIn),
            held(Key::Connect, "none", Giver::Default),
        ]);
        let expected = "weight=4\nrate=100M  (file)\nlimit-memory=17M  (default)\n\
                        connect=none  (set --default)\n";
        assert_eq!(text, expected);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr set`: what a domain may do and how it is served.

use std::path::Path;

use anyhow::{bail, Context, Result};

use serde::Serialize;
use serde_json::{json, Map, Value};

use super::attach::inherit;
use super::Manager;
use crate::cli::Set;
use crate::output::Named;
use crate::settings::disk::{self, Saved};
use crate::settings::file::{edit, File, Place};
use crate::settings::{value, Change, Giver, Held};
use crate::store::{is_alive, name_of, transact, uuid_of};
use crate::{say, sweep};

pub fn run(manager: &mut Manager<'_>, args: &Set) -> Result<()> {
    let (text, changes) = args.target();
    let changes: Vec<_> = changes.into_iter().map(change).collect::<Result<_>>()?;
    let domain = match text {
        Some(text) => Some(manager.tunnel(text)?.front),
        None => None,
    };
    let settings = manager.settings();
    sweep::settings(manager);
    if let Some(domain) = domain {
        inherit(manager, domain)?;
    }
    // What cannot be saved is not set either.
    let saved = match &args.save {
        Some(path) => Some(prepare(manager, path, domain, &changes)?),
        None => None,
    };
    transact(manager.store, |store| match domain {
        None if changes.is_empty() => Ok(()),
        None => settings.write_default(store, &changes),
        Some(domain) => {
            if !is_alive(store, domain)? {
                bail!("there is no domain {domain}");
            }
            settings.own(store, domain)?;
            match changes.is_empty() {
                true => Ok(()),
                false => settings.write(store, domain, &changes),
            }
        }
    })?;
    if let Some(saved) = saved {
        saved.keep().context("it is set, but not saved")?;
    }
    let held = settings.held(manager.store, domain)?;
    if args.json {
        let name = domain.and_then(|domain| name_of(manager.store, domain));
        say::result(&json_of(domain, name.into(), &held)?)?;
    } else if changes.is_empty() && args.save.is_none() {
        say::result(&show(&held))?;
    }
    Ok(())
}

/// The key and value that `KEY=VALUE` means; no value takes the key away.
fn change(text: &str) -> Result<Change> {
    let (name, value) = text
        .split_once('=')
        .with_context(|| format!("`{text}` is not KEY=VALUE"))?;
    let key = value::key(name)?;
    if value.is_empty() {
        return Ok((key, None));
    }
    let value = value::value(key, value).with_context(|| format!("`{text}`"))?;
    Ok((key, Some(value)))
}

/// Writes what the file is to be.
fn prepare(
    manager: &mut Manager<'_>,
    path: &Path,
    domain: Option<u16>,
    changes: &[Change],
) -> Result<Saved> {
    let about = || path.display().to_string();
    let lock = disk::lock(&manager.kernel.root)?;
    let text = disk::read(path)?.unwrap_or_default();
    let place = place(manager, domain, &File::parse(&text).with_context(about)?)?;
    let held;
    let changes = if changes.is_empty() {
        held = manager.settings().held(manager.store, domain)?;
        let giver = match domain {
            Some(_) => Giver::Set,
            None => Giver::Default,
        };
        let typed = held.iter().filter(|held| held.by == giver);
        typed
            .map(|held| (held.key, Some(held.value.clone())))
            .collect()
    } else {
        changes.to_vec()
    };
    let text = edit(&text, &place, &changes).with_context(about)?;
    Saved::new(path, &text, lock)
}

/// The table of a file that is a domain's: by UUID if it has one, else by name,
/// which it keeps when it is made anew.
fn place(manager: &mut Manager<'_>, domain: Option<u16>, file: &File) -> Result<Place> {
    let Some(domain) = domain else {
        return Ok(Place::Default);
    };
    let uuid = uuid_of(manager.store, domain).map(|uuid| uuid.to_ascii_lowercase());
    let name = name_of(manager.store, domain);
    let name = name.and_then(|name| String::from_utf8(name.0).ok());
    match (uuid, name) {
        (Some(uuid), _) if file.has_uuid(&uuid) => Ok(Place::Uuid(uuid)),
        (_, Some(name)) => Ok(Place::Name(name)),
        (Some(uuid), None) => Ok(Place::Uuid(uuid)),
        (None, None) => bail!("domain {domain} has neither a UUID nor a name that is text"),
    }
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
        let value = value::shown(held.key, &held.value);
        format!("{}={value}{giver}\n", held.key.name())
    };
    held.iter().map(line).collect()
}

/// What holds, exactly.
#[derive(Debug, Serialize)]
struct Shown {
    /// Null for what holds where nothing else is set.
    domid: Option<u16>,
    #[serde(flatten)]
    name: Named,
    settings: Map<String, Value>,
}

fn json_of(domid: Option<u16>, name: Named, held: &[Held]) -> Result<String> {
    let one = |held: &Held| {
        let value = match held.key.number(held.value.as_bytes()) {
            Some(number) => Value::from(number),
            None => Value::from(held.value.clone()),
        };
        let by = match held.by {
            Giver::Set => "set",
            Giver::File => "file",
            Giver::Default => "set-default",
            Giver::BuiltIn => "built-in",
        };
        let about = json!({ "value": value, "by": by });
        (held.key.name().to_string(), about)
    };
    let shown = Shown {
        domid,
        name,
        settings: held.iter().map(one).collect(),
    };
    Ok(serde_json::to_string(&shown)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{manager, Ground};
    use idts_core::policy::Key;

    fn set(ground: &mut Ground, domain: &str, changes: &[&str]) -> Result<()> {
        let args = Set {
            domain: Some(domain.into()),
            changes: changes.iter().map(|c| c.to_string()).collect(),
            default: false,
            json: false,
            save: None,
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
            ("limit-memory=1K", "not a size, 128K to 128M; K, M, G or T"),
            ("rate=fast", "not a size, 0 (no cap) to 1T; K, M, G or T"),
            ("limit-peer=0", "not number, 1 to 100"),
            ("alias=Web", "not NAME"),
            ("connect=web", "not all, none, dom0"),
        ] {
            let error = set(&mut ground, "3", &[changes])
                .map_err(|error| format!("{error:#}"))
                .unwrap_err();
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

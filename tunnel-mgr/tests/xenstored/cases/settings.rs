// SPDX-License-Identifier: GPL-2.0
//! What is set for domains: who says it, and how long it lives.

use std::fs;

use anyhow::{ensure, Result};
use rustix::process::Signal;
use serde_json::Value;

use super::front;
use crate::bed::{done, refused, until, Bed, Watch};

const FILE: &str = "/run/idts.toml";

/// What holds for a domain, or for none, and who says so.
fn held(domain: &str, key: &str) -> Result<(Value, String)> {
    let shown: Value = serde_json::from_str(&done(&["set", domain, "--json"])?)?;
    let about = &shown["settings"][key];
    let by = about["by"].as_str().unwrap_or_default();
    Ok((about["value"].clone(), by.into()))
}

fn holds(domain: &str, key: &str, value: impl Into<Value>, by: &str) -> Result<()> {
    let held = held(domain, key)?;
    ensure!(
        held == (value.into(), by.into()),
        "{domain} {key}: {held:?}"
    );
    Ok(())
}

/// Waits until that holds.
fn until_holds(domain: &str, key: &str, value: &str, by: &str) -> Result<()> {
    until(&format!("{domain} has {key}={value} by {by}"), || {
        let (now, who) = held(domain, key)?;
        Ok((now == value && who == by).then_some(()))
    })
}

/// Typed, by UUID, by name, for all by the file, for all by hand, built in.
pub fn the_nearest_counts() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain_of(3, "u3", Some("aaaa-3"))?;
    bed.dom0.domain_of(4, "u4", Some("aaaa-4"))?;
    holds("u3", "connect", "dom0", "built-in")?;
    done(&["set", "--default", "connect=none", "limit-memory=1M"])?;
    holds("u3", "connect", "none", "set-default")?;
    holds("--default", "limit-memory", 1 << 20, "set-default")?;
    let said = refused(&["set", "--default", "alias=web"])?;
    ensure!(said.contains("an alias is that of one domain"), "{said}");
    let file = "[default]\nconnect = 'dom0:1'\n[name.u3]\nconnect = 'dom0:2'\nweight = 2\n\
                [uuid.aaaa-3]\nconnect = 'dom0:3'\n";
    fs::write(FILE, file)?;
    let mut watch = Watch::start(&["--settings", FILE])?;
    until_holds("u3", "connect", "dom0:3", "file")?;
    until_holds("u4", "connect", "dom0:1", "file")?;
    holds("u3", "weight", 2, "file")?;
    holds("u3", "limit-memory", 1 << 20, "set-default")?;
    done(&["set", "u3", "connect=all"])?;
    holds("u3", "connect", "all", "set")?;
    // Another name has another table.
    bed.dom0.write("/local/domain/4/name", "u3")?;
    until_holds("4", "connect", "dom0:2", "file")?;
    for (wrong, place) in [
        ("[default]\nconnect = 'web'\n", "line 2, column 11"),
        ("[default]\nconnect = \n", "line 2, column"),
    ] {
        fs::write(FILE, wrong)?;
        watch.signal(Signal::HUP)?;
        watch.until_said(place)?;
    }
    holds("4", "connect", "dom0:2", "file")?;
    fs::write(FILE, "[name.u3]\nconnect = 'dom0:9'\n")?;
    watch.signal(Signal::HUP)?;
    until_holds("4", "connect", "dom0:9", "file")?;
    holds("3", "connect", "all", "set")?;
    holds("3", "weight", 1, "built-in")?;
    done(&["set", "3", "connect="])?;
    holds("3", "connect", "dom0:9", "file")?;
    done(&["set", "--default", "connect=", "limit-memory="])?;
    let left = bed.dom0.read("/local/domain/0/idts/default");
    ensure!(left.is_none(), "{left:?}");
    Ok(())
}

/// A domain that is made anew without a UUID of its own, or by a host that was
/// started again, has what the file says before it has a tunnel.
pub fn a_file_survives_what_xenstore_does_not() -> Result<()> {
    for _ in 0..2 {
        let mut bed = Bed::new()?;
        let file = "[name.u3]\nconnect = 'none'\nlimit-memory = '1M'\n";
        fs::write(FILE, file)?;
        let _watch = Watch::start(&["--attach", "u3", "--settings", FILE])?;
        for id in [3, 4] {
            bed.dom0.domain(id, "u3")?;
            until("it has a tunnel", || {
                Ok(bed.dom0.read(&front(id)).is_some().then_some(()))
            })?;
            holds("u3", "connect", "none", "file")?;
            bed.dom0.destroy(id);
        }
        until("nothing is left", || {
            Ok((bed.dom0.count("/local/domain/0/idts/domain")? == 0).then_some(()))
        })?;
    }
    Ok(())
}

/// Comments, order and what is of others stay; what cannot be saved is not set.
pub fn a_file_is_edited_in_place() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain_of(3, "u3", Some("aaaa-3"))?;
    let text = "# ours\n[name.u3] # web\nconnect = \"none\" # for now\n\n[default]\nweight = 2\n";
    fs::write(FILE, text)?;
    std::os::unix::fs::symlink(FILE, "/run/link")?;
    done(&[
        "set",
        "u3",
        "connect=all",
        "rate=100M",
        "--save",
        "/run/link",
    ])?;
    let expected = text.replace(
        "connect = \"none\" # for now\n",
        "connect = \"all\" # for now\nrate = \"100M\"\n",
    );
    ensure!(
        fs::read_to_string(FILE)? == expected,
        "{}",
        fs::read_to_string(FILE)?
    );
    ensure!(fs::symlink_metadata("/run/link")?.is_symlink());
    holds("u3", "connect", "all", "set")?;
    done(&["set", "--default", "weight=", "prio=7", "--save", FILE])?;
    let expected = expected.replace("weight = 2\n", "prio = 7\n");
    ensure!(fs::read_to_string(FILE)? == expected);
    fs::write(FILE, "[name.u3\n")?;
    let said = refused(&["set", "u3", "connect=none", "--save", FILE])?;
    ensure!(said.contains("line 1, column"), "{said}");
    refused(&["set", "u3", "connect=none", "--save", "/nowhere/file"])?;
    holds("u3", "connect", "all", "set")?;
    // All that was typed, into a new file.
    done(&["set", "u3", "--save", "/run/new.toml"])?;
    let new = fs::read_to_string("/run/new.toml")?;
    ensure!(
        new == "[name.u3]\nrate = \"100M\"\nconnect = \"all\"\n",
        "{new}"
    );
    let left = fs::read_dir("/run")?.filter_map(|entry| entry.ok());
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    ensure!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
    Ok(())
}

pub fn list_shows_rights() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    done(&["attach", "u3", "--wait", "0"])?;
    done(&["set", "u3", "alias=web", "connect=dom0:80", "publish=news*"])?;
    let rows: Value = serde_json::from_str(&done(&["list", "--json"])?)?;
    for (key, value) in [
        ("alias", "web"),
        ("connect", "dom0:80"),
        ("publish", "news*"),
        ("subscribe", "none"),
    ] {
        ensure!(rows[0][key] == value, "{rows}");
        ensure!(done(&["list"])?.contains(value), "{value}");
    }
    let shown = done(&["set", "u3"])?;
    ensure!(shown.contains("limit-memory=17M  (default)\n"), "{shown}");
    Ok(())
}

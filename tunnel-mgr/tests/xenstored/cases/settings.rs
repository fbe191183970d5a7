// SPDX-License-Identifier: GPL-2.0
//! What is set for domains: who says it, and how long it lives.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Stdio;

use anyhow::{ensure, Result};
use rustix::fs::{makedev, mknodat, FileType, Mode};
use rustix::process::Signal;
use serde_json::Value;

use super::front;
use crate::bed::{done, finish, program, refused, until, Bed, Watch};

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

/// Whose a file is, and who may read it, stays; what is no plain file is left alone;
/// and of many who save at once nobody's word is lost.
pub fn a_file_is_saved_with_care() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    let (pipe, null) = ("/run/pipe", "/run/null");
    let make = |path, kind, number| {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(rustix::fs::CWD, path, kind, mode, number)
    };
    make(pipe, FileType::Fifo, 0)?;
    make(null, FileType::CharacterDevice, makedev(1, 3))?;
    for path in [null, pipe, "/run"] {
        let said = refused(&["set", "u3", "connect=all", "--save", path])?;
        ensure!(said.contains("is not a file"), "{said}");
        let said = refused(&["watch", "--settings", path])?;
        ensure!(said.contains("is not a file"), "{said}");
    }
    ensure!(fs::metadata(null)?.file_type().is_char_device());
    holds("u3", "connect", "dom0", "built-in")?;
    fs::write(FILE, "")?;
    std::os::unix::fs::chown(FILE, Some(7), Some(8))?;
    fs::set_permissions(FILE, fs::Permissions::from_mode(0o640))?;
    let ids: Vec<u16> = (4..20).collect();
    let mut saving = Vec::new();
    for id in &ids {
        bed.dom0.domain(*id, format!("u{id}"))?;
        let args = ["set", &format!("u{id}"), "connect=none", "--save", FILE];
        saving.push(program(&args).stderr(Stdio::piped()).spawn()?);
    }
    for child in saving {
        let output = finish(child, "set --save")?;
        ensure!(output.status.success(), "{output:?}");
    }
    private("/run/tunnel-mgr.save")?;
    let text = fs::read_to_string(FILE)?;
    for id in &ids {
        ensure!(text.contains(&format!("[name.u{id}]")), "u{id}: {text}");
    }
    let about = fs::metadata(FILE)?;
    let of = (about.uid(), about.gid(), about.mode() & 0o7777);
    ensure!(of == (7, 8, 0o640), "{of:?}");
    Ok(())
}

/// Who can open a file can lock it, and have root wait.
fn private(path: &str) -> Result<()> {
    let mode = fs::metadata(path)?.mode();
    ensure!(mode & 0o077 == 0, "{path} is {mode:o}");
    Ok(())
}

/// What was typed holds, and whoever reads the log knows why the file does not.
pub fn a_file_that_is_overruled_says_so() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    drop(Watch::start(&["--attach", "u9", "--idle", "60"])?);
    private("/run/tunnel-mgr.watch")?;
    done(&["set", "u3", "connect=all", "weight=2", "--save", FILE])?;
    let mut watch = Watch::start(&["--settings", FILE])?;
    bed.dom0.domain(4, "u4")?;
    fs::write(
        FILE,
        "[name.u3]\nconnect = 'none'\nweight = 2\n[name.u4]\nrate = 5\n",
    )?;
    watch.signal(Signal::HUP)?;
    until_rate(5)?;
    watch.until_said("domain 3 (u3): what was typed holds, not what the file says: connect")?;
    let about = watch.listen().iter().filter(|line| line.contains("typed"));
    ensure!(about.count() == 1, "{:?}", watch.said);
    holds("u3", "connect", "all", "set")
}

/// Waits until that is the rate of u4, by the file.
fn until_rate(rate: u64) -> Result<()> {
    until("the file was read", || {
        let held = held("u4", "rate")?;
        Ok((held == (rate.into(), "file".into())).then_some(()))
    })
}

/// Two domains of which each gets the alias of the other, and what else is new.
pub fn aliases_change_hands() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
    }
    let file = |a, b, connect| {
        let text =
            format!("[name.u3]\nalias = '{a}'\nconnect = '{connect}'\n[name.u4]\nalias = '{b}'\n");
        fs::write(FILE, text)
    };
    file("web", "db", "all")?;
    let watch = Watch::start(&["--attach", "all", "--settings", FILE])?;
    until_holds("u4", "alias", "db", "file")?;
    file("db", "web", "none")?;
    watch.signal(Signal::HUP)?;
    for (domain, alias) in [("u3", "db"), ("u4", "web")] {
        until_holds(domain, "alias", alias, "file")?;
    }
    until_holds("u3", "connect", "none", "file")?;
    // One that comes back finds its alias taken, and everything else.
    done(&["set", "u3", "alias=own", "weight=3"])?;
    bed.dom0.destroy(3);
    until("its settings are away", || {
        let left = bed.dom0.read("/local/domain/0/idts/domain/3");
        Ok(left.is_none().then_some(()))
    })?;
    done(&["set", "u4", "alias=own"])?;
    bed.dom0
        .domain_of(5, "other", Some("00000000-0000-0000-0000-000000000003"))?;
    until("it has its weight", || {
        Ok((held("5", "weight")? == (3.into(), "set".into())).then_some(()))
    })?;
    holds("5", "alias", "", "built-in")?;
    holds("u4", "alias", "own", "set")
}

/// An id that no domain can have is a rule that nobody can have meant.
pub fn nobody_is_meant() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    let expected = "no domain can have the id";
    for rule in ["32752:1", "dom0,65535:*", "40000:1-2"] {
        let said = refused(&["set", "u3", &format!("connect={rule}")])?;
        ensure!(said.contains(expected), "{said}");
        fs::write(FILE, format!("[name.u3]\nconnect = '{rule}'\n"))?;
        let said = refused(&["watch", "--settings", FILE])?;
        let place = said.contains("line 2, column 11");
        ensure!(place && said.contains(expected), "{said}");
    }
    done(&["set", "u3", "connect=32751:1"])?;
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

/// Of an editor that begins a file with a byte order mark and ends lines with CR and LF.
pub fn a_file_of_another_editor() -> Result<()> {
    let mut bed = Bed::new()?;
    bed.dom0.domain(3, "u3")?;
    let file = "/run/settings";
    let text = "\u{feff}# ours\r\n[default]\r\nweight = 7\r\n";
    fs::write(file, text)?;
    let mut watch = Watch::start(&["--attach", "all", "--settings", file])?;
    until("it holds", || {
        Ok(done(&["set", "u3"])?.contains("weight=7").then_some(()))
    })?;
    done(&["set", "u3", "connect=none", "--save", file])?;
    let saved = fs::read_to_string(file)?;
    ensure!(saved.starts_with(text), "{saved:?}");
    // One that has gone, or is no settings file by its size, changes nothing.
    fs::File::create("/run/large")?.set_len(1 << 40)?;
    for (name, said) in [("/run/none", "there is no"), ("/run/large", "is too large")] {
        let _ = fs::remove_file(file);
        if name == "/run/large" {
            fs::rename(name, file)?;
        }
        watch.signal(Signal::HUP)?;
        watch.until_said(said)?;
        ensure!(done(&["set", "u3"])?.contains("weight=7"), "{name}");
    }
    let said = refused(&["set", "u3", "weight=2", "--save", file])?;
    ensure!(said.contains("is too large"), "{said}");
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! What a guest can do to `tunnel-mgr` through xenstore: little, and only to
//! itself.

use anyhow::{ensure, Result};
use serde_json::Value;

use super::{back, front};
use crate::bed::{done, refused, run, until, Bed};
use idts_host::guest::{Flood, Guest};

const STATE: &str = "device/idts/0/state";

/// The rows of `list --json`.
fn rows() -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&done(&["list", "--json"])?)?)
}

/// A guest that writes its state as fast as xenstored takes it holds neither
/// attach nor detach beyond their time, nor what is about another.
pub fn a_flood_holds_nobody() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
    }
    done(&["attach", "u3", "--wait", "0"])?;
    let flood = Flood::start(3, &[(STATE, b"4")])?;
    until("the flood runs", || {
        Ok((flood.answered() > 1000).then_some(()))
    })?;
    done(&["attach", "u4", "--wait", "0"])?;
    done(&["set", "u4", "weight=2"])?;
    done(&["detach", "u4"])?;
    // Nobody is there who would ever connect.
    bed.dom0.write(&format!("{}/state", back(3)), "2")?;
    let said = refused(&["attach", "u3", "--if-absent", "--wait", "1"])?;
    ensure!(said.contains("not connected after 1 s"), "{said}");
    bed.dom0.write(&format!("{}/state", back(3)), "4")?;
    let said = refused(&["detach", "u3", "--wait", "1"])?;
    ensure!(said.contains("not closed after 1 s"), "{said}");
    bed.dom0.write(&format!("{}/state", back(3)), "6")?;
    done(&["detach", "u3", "--wait", "1"])?;
    ensure!(bed.dom0.read(&back(3)).is_none());
    Ok(())
}

/// Bytes that are no text, or many, in a guest's own nodes.
pub fn bytes_harm_nobody() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
        done(&["attach", &id.to_string(), "--wait", "0"])?;
    }
    let mut guest = Guest::open(3)?;
    for value in [&b"\xff\xfe"[..], b"4\0", b"\x1b[2J", &[b'7'; 2000], b""] {
        for path in [STATE, "data/idts", "error/device/idts/0/error"] {
            ensure!(guest.write(path, value)?, "the guest may not write {path}");
        }
        let rows = rows()?;
        ensure!(rows.len() == 2 && rows[0]["front"] == "Unknown", "{rows:?}");
        ensure!(rows[1]["front"] == "Initialising", "{rows:?}");
        done(&["set", "u4", "weight=2"])?;
        done(&["attach", "u4", "--if-absent", "--wait", "0"])?;
        let said = refused(&["attach", "u3", "--if-absent", "--wait", "1"])?;
        ensure!(!said.contains('\x1b'), "{said:?}");
    }
    done(&["detach", "u4"])?;
    done(&["detach", "u3"])?;
    Ok(())
}

/// Names as a toolstack may give them.
pub fn names_are_one_word() -> Result<()> {
    let mut bed = Bed::new()?;
    let names: [&[u8]; 5] = [
        b"a\nb",
        b"a\tb",
        b"\x1b[31mred",
        b"\xff\xfe",
        "naïve".as_bytes(),
    ];
    for (id, name) in (3..).zip(names) {
        bed.dom0.domain(id, name)?;
        done(&["attach", &id.to_string(), "--wait", "0"])?;
    }
    bed.dom0.domain(9, "u9")?;
    done(&["attach", "u9", "--wait", "0"])?;
    let table = done(&["list"])?;
    ensure!(table.lines().count() == 7, "{table}");
    let is_plain = |letter: char| letter == '\n' || !letter.is_control();
    ensure!(table.chars().all(is_plain), "{table:?}");
    for escaped in [r"a\nb", r"a\tb", r"\u{1b}[31mred", r"\xff\xfe", "naïve"] {
        ensure!(table.contains(escaped), "{escaped} in {table}");
    }
    for (row, name) in rows()?.iter().zip(names) {
        let exact = match std::str::from_utf8(name) {
            Ok(text) => row["name"] == text,
            Err(_) => row["name"].is_null() && row["name_bytes"] == serde_json::json!(name),
        };
        ensure!(exact, "{row}");
    }
    done(&["detach", "u9"])?;
    let said = run(&["detach", "3"])?;
    let said = String::from_utf8(said.stdout)?;
    ensure!(said.contains(r"domain 3 (a\nb) is removed"), "{said}");
    Ok(())
}

/// A guest that has as many nodes as xenstored lets it have.
pub fn a_full_quota_harms_nobody() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
    }
    let mut guest = Guest::open(3)?;
    let mut nodes = 0;
    while guest.write(&format!("data/{nodes}"), b"")? {
        nodes += 1;
        ensure!(nodes < 100_000, "there is no quota");
    }
    for id in ["3", "4"] {
        done(&["attach", id, "--wait", "0"])?;
        done(&["set", id, "weight=2"])?;
    }
    done(&["list", "--sweep"])?;
    for id in ["3", "4"] {
        done(&["detach", id])?;
    }
    Ok(())
}

/// Whose nodes are whose, by what xenstored lets a guest write.
pub fn nodes_are_whose_they_should_be() -> Result<()> {
    let mut bed = Bed::new()?;
    for id in [3, 4] {
        bed.dom0.domain(id, format!("u{id}"))?;
        done(&["attach", &id.to_string(), "--wait", "0"])?;
        done(&["set", &id.to_string(), "weight=2"])?;
    }
    let mut guest = Guest::open(3)?;
    let (front, back) = (front(3), back(3));
    for (path, may) in [
        (format!("{front}/state"), true),
        (format!("{front}/backend"), false),
        (format!("{front}/backend-id"), false),
        (format!("{back}/online"), false),
        (format!("{back}/state"), false),
        ("/local/domain/0/idts/domain/3/weight".into(), false),
        ("/local/domain/3/control/idts".into(), false),
        ("/local/domain/3/device/idts/1/state".into(), false),
        ("/local/domain/4/device/idts/0/state".into(), false),
    ] {
        ensure!(guest.write(&path, b"1")? == may, "{path}: not {may}");
    }
    for folder in ["", "/domain", "/domain/3", "/domain/3/weight"] {
        let permissions = bed
            .dom0
            .permissions(&format!("/local/domain/0/idts{folder}"))?;
        ensure!(permissions == "n0", "{folder}: {permissions}");
    }
    Ok(())
}

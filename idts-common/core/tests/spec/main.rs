// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! PROTOCOL.md against the code: every table that the code can contradict.
//!
//! A table is found by its heading and its first column's title. A row that is
//! missing, added, moved or changed on either side fails.

#![cfg(not(loom))]

mod messages;
mod table;

use idts_core::error::Violation;
use idts_core::negotiation::feature;
use idts_core::state::{back, front, Phase, XenbusState};
use idts_core::wire::{line, page, Refusal};
use idts_core::{nodes, record, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use table::{number, table, DOC};

/// Checks `offset | size | field` rows: no gap, no overlap, the size, and the
/// offset of each field that is not reserved.
fn layout(heading: &str, total: u32, fields: &[(&str, u32)]) {
    let mut end = 0;
    let mut found = Vec::new();
    for row in table(heading, "offset") {
        assert_eq!(
            number(row[0]),
            end,
            "{heading}: a gap or an overlap at {}",
            row[0]
        );
        end += number(row[1]);
        if row[2] != "reserved" {
            found.push((row[2], number(row[0])));
        }
    }
    assert_eq!(end, total, "{heading}: size");
    assert_eq!(found, fields);
}

#[test]
fn version() {
    assert!(DOC.contains(&format!("Version: {}.", wire::VERSION)));
}

#[test]
fn nodes_and_their_values() {
    let rows = table("## 3. Xenstore nodes", "node");
    let named: BTreeSet<_> = rows.iter().map(|r| r[0]).collect();
    let ours = [
        (nodes::MIN_VERSION, "back"),
        (nodes::MAX_VERSION, "back"),
        (nodes::VERSION, "front"),
        (nodes::MIN_VERSION, "front"),
        (nodes::MAX_VERSION, "front"),
        (nodes::FEATURES, "back"),
        (nodes::FEATURES, "front"),
        (nodes::MAX_QUEUES, "back"),
        (nodes::QUEUE_COUNT, "front"),
        (nodes::CONTROL_REF, "front"),
        (nodes::EVENT_CHANNELS[0], "front"),
        ("event-channel-N", "front"),
    ];
    let xenbus = [
        "backend",
        "backend-id",
        "frontend",
        "frontend-id",
        "generation",
        "online",
        "state",
    ];
    let known: BTreeSet<_> = ours.iter().map(|n| n.0).chain(xenbus).collect();
    assert_eq!(named, known);
    for (name, side) in ours {
        let row = rows.iter().find(|r| (r[0], r[1]) == (name, side)).unwrap();
        assert_eq!(row[2], side, "{name}");
    }
    for (n, name) in nodes::EVENT_CHANNELS.iter().enumerate().skip(1) {
        assert_eq!(*name, format!("event-channel-{n}"));
    }
    let text = "the xenbus device `idts`";
    assert!(DOC.contains(text) && nodes::DEVICE == "idts");
}

/// The numbers of Xen's states: 0 up to this.
const XENBUS_STATES: u32 = XenbusState::Reconfigured as u32 + 1;
/// The columns of the front's table.
const PHASES: [Phase; 4] = [Phase::Down, Phase::Offered, Phase::Up, Phase::Draining];

#[test]
fn front_table() {
    let rows = table("### 4.2 What the front does", "back's state");
    assert_eq!(rows.len(), XENBUS_STATES as usize);
    for (row, peer) in rows
        .iter()
        .zip((0..XENBUS_STATES).map(XenbusState::from_wire))
    {
        assert_eq!(row[0], format!("{peer:?}"));
        for (cell, phase) in row[1..].iter().zip(PHASES) {
            assert_eq!(
                *cell,
                format!("{:?}", front(phase, peer)),
                "{phase:?}, {peer:?}"
            );
        }
    }
}

#[test]
fn back_table() {
    // Columns: phase, and what holds there of waiting and online.
    let columns: [(Phase, &[bool], &[bool]); 4] = [
        (Phase::Down, &[false], &[false, true]),
        (Phase::Down, &[true], &[true]),
        (Phase::Down, &[true], &[false]),
        (Phase::Up, &[false, true], &[false, true]),
    ];
    let rows = table("### 4.3 What the back does", "front's state");
    assert_eq!(rows.len(), XENBUS_STATES as usize);
    for (row, peer) in rows
        .iter()
        .zip((0..XENBUS_STATES).map(XenbusState::from_wire))
    {
        assert_eq!(row[0], format!("{peer:?}"));
        for (cell, (phase, waiting, online)) in row[1..].iter().zip(columns) {
            for (w, o) in waiting
                .iter()
                .flat_map(|w| online.iter().map(move |o| (*w, *o)))
            {
                let step = format!("{:?}", back(phase, w, o, peer));
                assert_eq!(*cell, step, "{phase:?}, {w}, {o}, {peer:?}");
            }
        }
    }
}

/// Each step that a table uses is explained, and no other.
#[test]
fn steps_are_explained() {
    for (heading, first) in [
        ("### 4.2 What the front does", "back's state"),
        ("### 4.3 What the back does", "front's state"),
    ] {
        let rows = table(heading, first);
        let used: BTreeSet<_> = rows.iter().flat_map(|r| r[1..].to_vec()).collect();
        let told: BTreeSet<_> = table(heading, "step").iter().map(|r| r[0]).collect();
        assert_eq!(used, told, "{heading}");
    }
}

#[test]
fn control_page() {
    let fields = [
        ("front line", page::FRONT_LINE),
        ("back line", page::BACK_LINE),
        ("front summaries", page::FRONT_SUMMARY),
        ("back summaries", page::BACK_SUMMARY),
        ("front doorbells", page::FRONT_DOORBELLS),
        ("back doorbells", page::BACK_DOORBELLS),
        ("front slots", page::FRONT_SLOTS),
        ("back slots", page::BACK_SLOTS),
    ];
    layout("### 5.1 The control page", wire::PAGE, &fields);
    let size = |name: &str| {
        let rows = table("### 5.1 The control page", "offset");
        number(rows.iter().find(|r| r[2] == name).unwrap()[1])
    };
    assert_eq!(size("front line"), line::SIZE);
    assert_eq!(size("front summaries"), 8 * wire::QUEUES);
    assert_eq!(size("back summaries"), 8 * wire::QUEUES);
    assert_eq!(size("front doorbells"), wire::CHANNELS / 8);
    assert_eq!(size("back doorbells"), wire::CHANNELS / 8);
    assert_eq!(size("front slots"), page::SLOTS * page::SLOT);
    assert_eq!(size("back slots"), page::SLOTS * page::SLOT);
}

#[test]
fn features() {
    let rows = table("### 8.5 Versions and features", "bit");
    let found: Vec<_> = rows.iter().map(|r| (r[1], 1 << number(r[0]))).collect();
    assert_eq!(found, [("queues", feature::QUEUES)]);
    assert_eq!(found.iter().fold(0, |all, f| all | f.1), feature::KNOWN);
}

#[test]
fn line_and_flags() {
    let fields = [
        ("prod", line::PROD),
        ("cons", line::CONS),
        ("prod-event", line::PROD_EVENT),
        ("cons-event", line::CONS_EVENT),
        ("flags", line::FLAGS),
        ("lag", line::LAG),
    ];
    layout("### 5.2 A line", line::SIZE, &fields);
    let flags: Vec<_> = table("### 5.3 Flags", "bit")
        .iter()
        .map(|r| (r[1], 1 << number(r[0])))
        .collect();
    let known = [
        ("FIN", line::FIN),
        ("DEAF", line::DEAF),
        ("RESET", line::RESET),
    ];
    assert_eq!(flags, known);
    assert_eq!(flags.iter().fold(0, |all, f| all | f.1), line::KNOWN);
}

#[test]
fn refusals() {
    let all = [
        Refusal::Refused,
        Refusal::Forbidden,
        Refusal::NoSpace,
        Refusal::Unreachable,
        Refusal::InUse,
    ];
    let rows = table("### 7.13 Reasons", "value");
    assert_eq!(rows.len(), all.len());
    for (row, why) in rows.iter().zip(all) {
        assert_eq!(number(row[0]), why as u32);
        assert_eq!(row[1], format!("{why:?}"));
        assert_eq!(Refusal::from_wire(why as u32), Ok(why));
    }
}

/// What a slow subscriber gets.
#[test]
fn group_sources() {
    let rows = table("### 8.3 Groups", "source");
    let found: Vec<_> = rows.iter().map(|r| (number(r[0]), r[1])).collect();
    let known = [
        (wire::group::DROP, "drop"),
        (wire::group::DISCONNECT, "disconnect"),
        (wire::group::BLOCK, "block"),
    ];
    assert_eq!(found, known);
}

#[test]
fn violations() {
    let rows = table("### 9.1 Violations", "name");
    assert_eq!(rows.len(), Violation::ALL.len());
    for (row, violation) in rows.iter().zip(Violation::ALL) {
        assert_eq!(row[0], violation.name());
        assert_eq!((row[4], row[5]), ("EPROTO", violation.name()));
    }
}

#[test]
fn limits() {
    let code = BTreeMap::from([
        ("PAGE", wire::PAGE),
        ("WINDOW_PAGES", wire::WINDOW_PAGES),
        ("WINDOW", wire::WINDOW),
        ("SEGMENT_WINDOWS", wire::SEGMENT_WINDOWS),
        ("SEGMENTS", wire::SEGMENTS),
        ("FIRST_WINDOWS", wire::FIRST_WINDOWS),
        ("RING_MIN", wire::RING_MIN),
        ("RING_MAX", wire::RING_MAX),
        ("CHANNELS", wire::CHANNELS),
        ("QUEUES", wire::QUEUES),
        ("SUMMARY", page::SUMMARY),
        ("SLOTS", page::SLOTS),
        ("SLOT", page::SLOT),
        ("WINDOW_REFS", wire::WINDOW_REFS as u32),
        ("LINE", line::SIZE),
        ("PAIR", line::PAIR),
        ("HEADER", record::HEADER),
        ("NAME_MAX", wire::NAME_MAX as u32),
        ("DOMAINS", wire::DOMAINS),
        ("BROKEN_MAX", wire::BROKEN_MAX),
    ]);
    let rows = table("### 9.2 Limits", "name");
    let doc: BTreeMap<_, _> = rows.iter().map(|r| (r[0], number(r[1]))).collect();
    assert_eq!(doc, code);
    let value = |t: &str| code.get(t).copied().unwrap_or_else(|| number(t));
    for row in rows.iter().filter(|r| !r[2].is_empty()) {
        let words: Vec<_> = row[2].split(' ').collect();
        let result = match words[..] {
            [a] => value(a),
            [a, "*", b] => value(a) * value(b),
            [a, "/", b] => value(a) / value(b),
            _ => panic!("{}: what is {}?", row[0], row[2]),
        };
        assert_eq!(result, number(row[1]), "{}", row[0]);
    }
}

/// Rust files below `dir`.
fn sources(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let below = |path: std::path::PathBuf| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![path]
        }
    };
    entries.flat_map(below).collect()
}

/// Duties are numbered without a gap, and tests name only those that exist.
#[test]
fn duties() {
    let mut known = BTreeSet::new();
    for side in ["F", "B"] {
        let prefix = format!("- {side}-");
        let found = DOC.lines().filter_map(|l| l.strip_prefix(&prefix));
        let numbers: Vec<u32> = found
            .map(|l| number(l.split(':').next().unwrap()))
            .collect();
        let count = numbers.len() as u32;
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>(), "{side}");
        known.extend(numbers.iter().map(|n| format!("{side}-{n}")));
    }
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let header = text.lines().take_while(|l| l.starts_with("//"));
        for word in header.flat_map(|l| l.split([' ', ',', '.'])) {
            let duty = word.starts_with("F-") || word.starts_with("B-");
            assert!(!duty || known.contains(word), "{}: {word}", path.display());
        }
    }
}

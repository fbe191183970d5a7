// SPDX-License-Identifier: GPL-2.0
//! The matrix of attacks, made from PROTOCOL.md's tables: a row for every word and node that the
//! peer can write and for every rule that it can break, a column for every value.

use idts_core::role::Role;
use serde::Serialize;

#[path = "../../../../idts-common/core/tests/spec/table.rs"]
mod table;

use table::{number, table};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Column {
    Zero,
    One,
    Limit,
    BelowLimit,
    AboveLimit,
    Maximum,
    Own,
    Stale,
    Random,
    /// Changed by another CPU while it is read.
    Raced,
    /// A row that is a deed of its own.
    Once,
}

pub const VALUES: [Column; 10] = [
    Column::Zero,
    Column::One,
    Column::Limit,
    Column::BelowLimit,
    Column::AboveLimit,
    Column::Maximum,
    Column::Own,
    Column::Stale,
    Column::Random,
    Column::Raced,
];

/// A word's range, as the tables tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    Any,
    /// From, to.
    Between(u32, u32),
    /// A power of two in between.
    Power(u32, u32),
    /// The letters of a name.
    Name,
}

impl Range {
    fn parse(text: &str) -> Self {
        let bounds = |text: &str| -> Option<(u32, u32)> {
            let (from, to) = text.split_once("..")?;
            Some((from.parse().ok()?, to.parse().ok()?))
        };
        match text {
            "any" => Self::Any,
            "a name" => Self::Name,
            // Of a segment that is said to have one window.
            "0..windows - 1" => Self::Between(0, 0),
            _ => match text.strip_prefix("power of two ").and_then(bounds) {
                Some((from, to)) => Self::Power(from, to),
                None => {
                    let (from, to) = bounds(text).unwrap_or_else(|| panic!("no range: {text}"));
                    Self::Between(from, to)
                }
            },
        }
    }

    /// The largest value that is allowed.
    pub fn limit(&self) -> u32 {
        match self {
            Self::Any => 1 << 17,
            Self::Between(_, to) | Self::Power(_, to) => *to,
            Self::Name => u32::from_le_bytes(*b"zzzz"),
        }
    }

    pub fn allows(&self, value: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Between(from, to) => (*from..=*to).contains(&value),
            Self::Power(from, to) => value.is_power_of_two() && (*from..=*to).contains(&value),
            Self::Name => false,
        }
    }
}

/// What is attacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A field of the control page, no line.
    Page { at: u32, size: u32 },
    /// A word of a line: of the control ring, or of a channel; the writer's own, or the other's.
    Line {
        control: bool,
        front: bool,
        at: u32,
        size: u32,
    },
    /// Words of a message, the first and the last; word 0 is the code.
    Message {
        code: u32,
        words: (u32, u32),
        range: Range,
    },
    /// A part of a record, from its start.
    Record { at: u32 },
    /// A node of xenstore.
    Node { name: &'static str },
    /// A rule of the table of violations.
    Rule { name: &'static str },
    /// Something done rather than written.
    Deed { name: &'static str },
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub target: Target,
}

impl Row {
    /// The columns that it has.
    pub fn columns(&self) -> &'static [Column] {
        match self.target {
            Target::Rule { .. } | Target::Deed { .. } => &[Column::Once],
            _ => &VALUES,
        }
    }
}

/// What is done rather than written.
const DEEDS: [&str; 5] = [
    "event storm",
    "channel after channel",
    "never acknowledging",
    "closing mid-handshake",
    "grants of others",
];

/// What the front alone can do: groups are the back's.
const FRONT_DEEDS: [&str; 1] = ["lying subscriber"];

/// All rows for who plays `role`.
pub fn rows(role: Role) -> Vec<Row> {
    let side = match role {
        Role::Front => "front",
        Role::Back => "back",
    };
    let mut rows = page();
    rows.extend(lines(false, "channel"));
    rows.extend(messages(side));
    rows.extend(records());
    rows.extend(nodes(side));
    rows.extend(rules(role));
    let fronts: &[&str] = match role {
        Role::Front => &FRONT_DEEDS,
        Role::Back => &[],
    };
    rows.extend(DEEDS.iter().chain(fronts).map(|name| Row {
        name: format!("deed: {name}"),
        target: Target::Deed { name },
    }));
    rows
}

/// The control page: whoever's rule a field is, the peer can write it.
fn page() -> Vec<Row> {
    let mut rows = lines(true, "control ring");
    for row in table("### 5.1 The control page", "offset") {
        if row[2].ends_with(" line") {
            continue;
        }
        let (at, size) = (number(row[0]), number(row[1]));
        rows.push(Row {
            name: format!("page: {} {}", row[0], row[2]),
            target: Target::Page { at, size },
        });
    }
    rows
}

fn lines(control: bool, of: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for front in [true, false] {
        let whose = if front { "front" } else { "back" };
        for row in table("### 5.2 A line", "offset") {
            let (at, size) = (number(row[0]), number(row[1]));
            rows.push(Row {
                name: format!("{of}: {whose} {}", row[2]),
                target: Target::Line {
                    control,
                    front,
                    at,
                    size,
                },
            });
        }
    }
    rows
}

/// The words that no table names are reserved.
fn messages(side: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for message in table("### 7.1 Index", "code") {
        let (code, name) = (number(message[0]), message[1]);
        if message[2] != side && message[2] != "both" {
            continue;
        }
        let mut add = |field: &str, words, range| {
            rows.push(Row {
                name: format!("message: {name} {field}"),
                target: Target::Message { code, words, range },
            });
        };
        add("code", (0, 0), Range::Any);
        let mut last = 0;
        for field in table(&heading(name), "word") {
            let (from, to) = field[0].split_once('-').unwrap_or((field[0], field[0]));
            last = number(to);
            add(field[1], (number(from), last), Range::parse(field[2]));
        }
        if last < 15 {
            add("the rest", (last + 1, 15), Range::Between(0, 0));
        }
    }
    rows
}

/// The heading of a message's own section.
fn heading(name: &str) -> String {
    let is = |line: &&str| {
        line.strip_prefix("### 7.")
            .and_then(|line| line.split_once(' '))
            .is_some_and(|(_, title)| title == name)
    };
    let found = table::DOC.lines().find(is);
    found
        .unwrap_or_else(|| panic!("no section {name}"))
        .to_string()
}

fn records() -> Vec<Row> {
    let rows = table("### 6.6 Records", "offset");
    let row = |row: &Vec<&'static str>| Row {
        name: format!("record: {}", row[2]),
        target: Target::Record {
            at: match row[2] {
                "header" => 0,
                "data" => 4,
                _ => 9,
            },
        },
    };
    rows.iter().map(row).collect()
}

fn nodes(side: &str) -> Vec<Row> {
    let rows = table("## 3. Xenstore nodes", "node");
    let ours = rows
        .into_iter()
        .filter(|row| row[1] == side && row[2].contains(side));
    let row = |row: Vec<&'static str>| Row {
        name: format!("node: {}", row[0]),
        target: Target::Node { name: row[0] },
    };
    ours.map(row).collect()
}

/// Rules that the other side watches over.
fn rules(role: Role) -> Vec<Row> {
    let rows = table("### 9.1 Violations", "name");
    let others = rows
        .into_iter()
        .filter(|row| row[2] != "back" || role == Role::Front);
    let row = |row: Vec<&'static str>| Row {
        name: format!("rule: {}", row[0]),
        target: Target::Rule { name: row[0] },
    };
    others.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_gives_rows() {
        for (role, wanted) in [(Role::Front, 11), (Role::Back, 8)] {
            let rows = rows(role);
            for begin in [
                "control ring",
                "page",
                "channel",
                "message",
                "record",
                "node",
                "rule",
            ] {
                assert!(
                    rows.iter().any(|row| row.name.starts_with(begin)),
                    "{begin}"
                );
            }
            let rules = rows.iter().filter(|row| row.name.starts_with("rule"));
            assert!(rules.count() > wanted);
            let mut names: Vec<_> = rows.iter().map(|row| &row.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), rows.len(), "two rows of one name");
        }
    }

    #[test]
    fn ranges_are_read() {
        assert!(Range::parse("1..5").allows(5) && !Range::parse("1..5").allows(6));
        assert!(!Range::parse("power of two 4096..8192").allows(4097));
        assert_eq!(Range::parse("0..windows - 1"), Range::Between(0, 0));
    }
}

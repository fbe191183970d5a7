// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Section 7 of PROTOCOL.md: codes, fields, ranges and reserved words of every
//! message against `encode` and `decode`.

use super::table::{number, table};
use idts_core::error::Violation;
use idts_core::wire::{code, BackMessage, FrontMessage, Kind, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// A message of either side, by the document's names of its fields.
struct Decoded {
    fields: Vec<(&'static str, Vec<u32>)>,
    slot: Slot,
}

fn one(name: &'static str, value: u32) -> (&'static str, Vec<u32>) {
    (name, vec![value])
}

fn front_fields(m: FrontMessage) -> Decoded {
    let fields = match m {
        FrontMessage::Window {
            segment,
            windows,
            window,
            half,
            refs,
        } => vec![
            one("segment", segment),
            one("windows", windows),
            one("window", window),
            one("half", half),
            ("refs", refs.to_vec()),
        ],
        FrontMessage::Retire { segment } => vec![one("segment", segment)],
        FrontMessage::Open(o) => vec![
            one("id", o.channel.id),
            one("generation", o.channel.generation),
            one("tag", o.tag),
            one("source", o.ports.source),
            one("target", o.ports.target),
            one("lines-segment", o.lines_segment),
            one("lines-offset", o.lines_offset),
            one("front-segment", o.front_ring.segment),
            one("front-offset", o.front_ring.offset),
            one("front-len", o.front_ring.len),
            one("back-segment", o.back_ring.segment),
            one("back-offset", o.back_ring.offset),
            one("back-len", o.back_ring.len),
            one("domain", o.domain),
            one("kind", o.kind as u32),
        ],
        FrontMessage::Refuse { tag, why } => vec![one("tag", tag), one("why", why as u32)],
        FrontMessage::Closed(c) => vec![one("id", c.id), one("generation", c.generation)],
        FrontMessage::Name(name) => {
            let words = name
                .0
                .chunks_exact(4)
                .map(|c| letters(c.try_into().unwrap()));
            vec![one("reserved", 0), ("name", words.collect())]
        }
    };
    Decoded {
        fields,
        slot: m.encode(),
    }
}

/// Four bytes of a name as a word.
fn letters(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

fn back_fields(m: BackMessage) -> Decoded {
    let fields = match m {
        BackMessage::Segment { segment, mapped } => {
            vec![one("segment", segment), one("mapped", mapped.into())]
        }
        BackMessage::Retired { segment } => vec![one("segment", segment)],
        BackMessage::Request(r) => vec![
            one("tag", r.tag),
            one("source", r.ports.source),
            one("target", r.ports.target),
            one("front-size", r.front_size),
            one("back-size", r.back_size),
            one("domain", r.domain),
            one("kind", r.kind as u32),
        ],
        BackMessage::Opened(c) => vec![one("id", c.id), one("generation", c.generation)],
        BackMessage::Refused { channel, why } => vec![
            one("id", channel.id),
            one("generation", channel.generation),
            one("why", why as u32),
        ],
        BackMessage::Closed(c) => vec![one("id", c.id), one("generation", c.generation)],
    };
    Decoded {
        fields,
        slot: m.encode(),
    }
}

type Decode = fn(&Slot) -> Result<Decoded, Violation>;

const FRONT: Decode = |slot| FrontMessage::decode(slot).map(front_fields);
const BACK: Decode = |slot| BackMessage::decode(slot).map(back_fields);

/// A field as the document has it: its words and its range.
struct Field {
    name: &'static str,
    words: std::ops::RangeInclusive<usize>,
    range: &'static str,
}

const WINDOWS: u32 = 40;

/// The range of words that hold a name.
const NAME: &str = "a name";

impl Field {
    fn bounds(&self) -> (u32, u32) {
        if self.range == "any" || self.range == NAME {
            return (0, u32::MAX);
        }
        let plain = self
            .range
            .strip_prefix("power of two ")
            .unwrap_or(self.range);
        let (low, high) = plain.split_once("..").unwrap();
        match high {
            "windows - 1" => (number(low), WINDOWS - 1),
            _ => (number(low), number(high)),
        }
    }

    /// A value in the range that tells its word from the others.
    fn sample(&self, word: usize) -> u32 {
        let (low, high) = self.bounds();
        match self.name {
            "windows" => WINDOWS,
            // Of a group, other fields have other ranges: see `kinds`.
            "kind" => Kind::Record as u32,
            _ if self.range == NAME => letters(*b"ab-9"),
            _ if self.range.starts_with("power") => low << (word % 8),
            _ => (low + 1000 + word as u32).min(high - (word as u32).min(high - low) / 2),
        }
    }

    fn good(&self) -> Vec<u32> {
        if self.range == NAME {
            return vec![letters(*b"zy09"), letters(*b"a---")];
        }
        let (low, high) = self.bounds();
        vec![low, high]
    }

    fn bad(&self) -> Vec<u32> {
        if self.range == NAME {
            return [b"ab_c", b"aB00", b"a\0bc", b"ab c", b"a\xe4\xffb"]
                .map(|b| letters(*b))
                .to_vec();
        }
        let (low, high) = self.bounds();
        let mut bad: Vec<u32> = low
            .checked_sub(1)
            .into_iter()
            .chain(high.checked_add(1))
            .collect();
        if self.range.starts_with("power") {
            bad.extend([0, low / 2, low + 1, 3 * low, high * 2]);
        }
        bad
    }
}

fn fields(heading: &str) -> Vec<Field> {
    let field = |row: &Vec<&'static str>| {
        let (first, last) = row[0].split_once('-').unwrap_or((row[0], row[0]));
        Field {
            name: row[1],
            words: number(first) as usize..=number(last) as usize,
            range: row[2],
        }
    };
    table(heading, "word").iter().map(field).collect()
}

fn check_message(code: u32, fields: &[Field], decode: Decode) {
    let mut slot = [0; 16];
    slot[0] = code;
    let mut expected = Vec::new();
    let mut used = 1;
    for field in fields {
        assert_eq!(*field.words.start(), used, "{}: a gap", field.name);
        used = field.words.end() + 1;
        let values: Vec<u32> = field.words.clone().map(|w| field.sample(w)).collect();
        slot[field.words.clone()].copy_from_slice(&values);
        expected.push((field.name, values));
    }
    let Ok(decoded) = decode(&slot) else {
        panic!("{code}: {slot:?} is refused");
    };
    assert_eq!(decoded.fields, expected);
    assert_eq!(decoded.slot, slot, "encode says something else");
    let with = |word: usize, value: u32| {
        let mut slot = slot;
        slot[word] = value;
        decode(&slot).map(|_| ()).err()
    };
    for field in fields {
        for word in field.words.clone() {
            for value in field.good() {
                // Fewer windows than the one that is named, or a group's kind with
                // what is not a group's: not this field's range.
                if !matches!((field.name, value), ("windows", 1) | ("kind", 3)) {
                    assert_eq!(with(word, value), None, "{}: {value}", field.name);
                }
            }
            for value in field.bad() {
                let refused = Some(Violation::MessageField);
                assert_eq!(with(word, value), refused, "{}: {value}", field.name);
            }
        }
    }
    for word in used..16 {
        assert_eq!(
            with(word, 1),
            Some(Violation::MessageField),
            "reserved word {word}"
        );
    }
}

#[test]
fn messages() {
    let numbers = BTreeMap::from([
        ("WINDOW", code::WINDOW),
        ("RETIRE", code::RETIRE),
        ("OPEN", code::OPEN),
        ("REFUSE", code::REFUSE),
        ("CLOSED", code::CLOSED),
        ("NAME", code::NAME),
        ("SEGMENT", code::SEGMENT),
        ("RETIRED", code::RETIRED),
        ("REQUEST", code::REQUEST),
        ("OPENED", code::OPENED),
        ("REFUSED", code::REFUSED),
    ]);
    let rows = table("### 7.1 Index", "code");
    let index: BTreeMap<_, _> = rows.iter().map(|r| (r[1], number(r[0]))).collect();
    assert_eq!(index, numbers);
    for (n, row) in (2..).zip(&rows) {
        let fields = fields(&format!("### 7.{n} {}", row[1]));
        let decoders: &[Decode] = match row[2] {
            "front" => &[FRONT],
            "back" => &[BACK],
            "both" => &[FRONT, BACK],
            other => panic!("from {other}?"),
        };
        for decode in decoders {
            check_message(number(row[0]), &fields, *decode);
        }
    }
}

/// What goes with each kind: the second table of OPEN.
#[test]
fn kinds() {
    let fields = fields("### 7.4 OPEN");
    let rows = table("### 7.4 OPEN", "kind");
    let titles = ["tag", "source", "target", "domain"];
    for (row, value) in rows.iter().zip(0..) {
        let kind = Kind::from_wire(value).unwrap();
        assert_eq!(
            (number(row[0]), row[1]),
            (value, format!("{kind:?}").as_str())
        );
        let told = |what: &str| row[2].starts_with(what);
        assert_eq!(told("records"), kind.has_records());
        assert_eq!(row[2].contains("group"), kind.is_group());
        let mut slot = [0; 16];
        slot[0] = code::OPEN;
        for field in &fields {
            let word = *field.words.start();
            slot[word] = field.sample(word);
        }
        slot[15] = value;
        let columns = titles.iter().zip(&row[3..]).map(|(title, range)| {
            let field = fields.iter().find(|f| f.name == *title).unwrap();
            let (low, high) = match (*range, range.split_once("..")) {
                ("any", _) => field.bounds(),
                (_, Some((low, high))) => (number(low), number(high)),
                (one, None) => (number(one), number(one)),
            };
            (*field.words.start(), low, high)
        });
        let columns: Vec<_> = columns.collect();
        for (word, low, _) in &columns {
            slot[*word] = *low;
        }
        for (word, low, high) in columns {
            let with = |v: u32| {
                let mut slot = slot;
                slot[word] = v;
                FrontMessage::decode(&slot).map(|m| assert_eq!(m.encode(), slot))
            };
            for good in [low, high] {
                assert_eq!(with(good), Ok(()), "{kind:?}: word {word} = {good}");
            }
            for bad in [low.checked_sub(1), high.checked_add(1)]
                .into_iter()
                .flatten()
            {
                let refused = Err(Violation::MessageField);
                assert_eq!(with(bad), refused, "{kind:?}: word {word} = {bad}");
            }
        }
    }
    assert_eq!(
        Kind::from_wire(rows.len() as u32),
        Err(Violation::MessageField)
    );
}

#[test]
fn codes_of_the_other_side_are_unknown() {
    let rows = table("### 7.1 Index", "code");
    let from = |side: &str| -> BTreeSet<u32> {
        let of = rows.iter().filter(|r| r[2] == side || r[2] == "both");
        of.map(|r| number(r[0])).collect()
    };
    for code in (0..100).chain([u32::MAX]) {
        let mut slot = [0; 16];
        slot[0] = code;
        let unknown = |d: Decode| d(&slot).err() == Some(Violation::MessageCode);
        assert_eq!(unknown(FRONT), !from("front").contains(&code), "{code}");
        assert_eq!(unknown(BACK), !from("back").contains(&code), "{code}");
    }
}

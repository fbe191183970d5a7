// SPDX-License-Identifier: GPL-2.0
//! The settings file: TOML with the tables `[uuid."…"]`, `[name."…"]` and
//! `[default]`, each of keys with their values. Its text is read and edited here;
//! files are left to others.

use std::ops::Range;

use anyhow::{bail, Context, Result};
use idts_core::policy::Key;
use toml_edit::{Document, DocumentMut, Item, Table, TableLike, Value};

use super::value;
use super::Change;
use crate::text::Name;

const UUID: &str = "uuid";
const NAME: &str = "name";
const DEFAULT: &str = "default";

/// A table of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Uuid(String),
    Name(String),
    Default,
}

/// What one table says.
type Said = Vec<(Key, String)>;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    tables: Vec<(Place, Said)>,
}

/// Something wrong, and where.
struct Wrong {
    at: Option<Range<usize>>,
    what: String,
}

impl Wrong {
    /// Of an item, or of its key where that is not known.
    fn of(item: &Item, key: Option<&toml_edit::Key>, what: impl Into<String>) -> Self {
        let at = item.span().or_else(|| key.and_then(toml_edit::Key::span));
        Self {
            at,
            what: what.into(),
        }
    }

    fn of_key(table: &dyn TableLike, key: &str, what: impl Into<String>) -> Self {
        Self {
            at: table.key(key).and_then(toml_edit::Key::span),
            what: what.into(),
        }
    }
}

impl File {
    /// Reads the text of a file; tells line and column of what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |wrong: Wrong| {
            let at = wrong.at.map_or(0, |at| at.start).min(text.len());
            let before = String::from_utf8_lossy(&text.as_bytes()[..at]).into_owned();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            anyhow::anyhow!("line {line}, column {column}: {}", wrong.what)
        };
        let document = Document::parse(text).map_err(|error| {
            wrong(Wrong {
                at: error.span(),
                what: error.message().into(),
            })
        })?;
        Self::read(document.as_table()).map_err(wrong)
    }

    fn read(root: &Table) -> Result<Self, Wrong> {
        let mut file = Self::default();
        for (kind, item) in root.iter() {
            let what = format!("`{kind}` is not a table");
            let table = item.as_table_like();
            let table = table.ok_or_else(|| Wrong::of(item, root.key(kind), what))?;
            match kind {
                DEFAULT => {
                    let said = said(table)?;
                    if said.iter().any(|(key, _)| *key == Key::Alias) {
                        let what = "an alias is that of one domain";
                        return Err(Wrong::of_key(table, Key::Alias.name(), what));
                    }
                    file.tables.push((Place::Default, said));
                }
                UUID | NAME => {
                    for (who, item) in table.iter() {
                        let what = format!("`{kind}.{who}` is not a table");
                        let keys = item.as_table_like();
                        let keys = keys.ok_or_else(|| Wrong::of(item, table.key(who), what))?;
                        let place = match kind {
                            UUID => Place::Uuid(who.to_ascii_lowercase()),
                            _ => Place::Name(who.into()),
                        };
                        file.tables.push((place, said(keys)?));
                    }
                }
                _ => {
                    let what = format!("there is no table `{kind}`; there are uuid, name, default");
                    return Err(Wrong::of_key(root, kind, what));
                }
            }
        }
        Ok(file)
    }

    /// What it says of a domain: key by key by its UUID, its name, for all.
    pub fn said(&self, uuid: Option<&str>, name: &Name) -> Vec<(Key, String)> {
        let is_uuid = |place: &Place| matches!(place, Place::Uuid(of) if uuid.is_some_and(|uuid| of.eq_ignore_ascii_case(uuid)));
        let is_name = |place: &Place| matches!(place, Place::Name(of) if of.as_bytes() == name.0);
        let is_default = |place: &Place| *place == Place::Default;
        let of = |is: &dyn Fn(&Place) -> bool, key: Key| {
            let tables = self.tables.iter().filter(|(place, _)| is(place));
            let mut values = tables.flat_map(|(_, said)| said);
            let value = values.find(|(of, _)| *of == key);
            value.map(|(_, value)| value.clone())
        };
        let value = |key: Key| {
            let value = of(&is_uuid, key)
                .or_else(|| of(&is_name, key))
                .or_else(|| of(&is_default, key))?;
            Some((key, value))
        };
        Key::LIST.into_iter().filter_map(value).collect()
    }

    /// Whether it has a table for a domain of that UUID.
    pub fn has_uuid(&self, uuid: &str) -> bool {
        let is = |(place, _): &(Place, Said)| *place == Place::Uuid(uuid.into());
        self.tables.iter().any(is)
    }
}

/// What a table says, each key with a value that fits.
fn said(table: &dyn TableLike) -> Result<Said, Wrong> {
    let mut said = Vec::new();
    for (name, item) in table.iter() {
        let wrong = |error: anyhow::Error| Wrong::of_key(table, name, format!("{error:#}"));
        let key = value::key(name).map_err(wrong)?;
        let text = match item.as_value() {
            Some(Value::String(text)) => text.value().clone(),
            Some(Value::Integer(number)) => number.value().to_string(),
            _ => {
                let what = format!("`{name}` is neither a text nor a number");
                return Err(Wrong::of(item, table.key(name), what));
            }
        };
        let value = value::value(key, &text).with_context(|| format!("`{name}`"));
        let value =
            value.map_err(|error| Wrong::of(item, table.key(name), format!("{error:#}")))?;
        said.push((key, value));
    }
    Ok(said)
}

/// The text with changes in one of its tables, all else as it was.
pub fn edit(text: &str, place: &Place, changes: &[Change]) -> Result<String> {
    File::parse(text)?;
    let mut document: DocumentMut = text.parse()?;
    let root = document.as_table_mut();
    let table = match place {
        Place::Default => table_in(root, DEFAULT, false)?,
        Place::Uuid(uuid) => {
            let uuids = table_in(root, UUID, true)?;
            let known = uuids.iter().find(|(of, _)| of.eq_ignore_ascii_case(uuid));
            let known = known.map_or(uuid.clone(), |(of, _)| of.into());
            table_in(uuids, &known, false)?
        }
        Place::Name(name) => table_in(table_in(root, NAME, true)?, name, false)?,
    };
    for (key, change) in changes {
        let name = key.name();
        let Some(change) = change else {
            table.remove(name);
            continue;
        };
        let mut new = match change.parse::<i64>() {
            Ok(number) if key.range().is_some() && value::shown(*key, change) == *change => {
                Value::from(number)
            }
            _ => Value::from(value::shown(*key, change)),
        };
        match table.get_mut(name).and_then(Item::as_value_mut) {
            Some(old) => {
                // With the comment behind it.
                *new.decor_mut() = old.decor().clone();
                *old = new;
            }
            None => drop(table.insert(name, Item::Value(new))),
        }
    }
    let text = written_as(text, &document.to_string());
    File::parse(&text).context("the changes do not fit")?;
    Ok(text)
}

/// A new text as the editor of the old one writes: with a byte order mark, with lines that end
/// with CR and LF, as the old one has them. The parser drops both.
fn written_as(old: &str, new: &str) -> String {
    const MARK: char = '\u{feff}';
    let lines = old.matches('\n').count();
    let crlf = lines > 0 && old.matches("\r\n").count() == lines;
    let mut text = new.trim_start_matches(MARK).replace("\r\n", "\n");
    if crlf {
        text = text.replace('\n', "\r\n");
    }
    if old.starts_with(MARK) {
        text.insert(0, MARK);
    }
    text
}

/// The table of that name, made if it is not there; `is_implicit` if it has nothing
/// but tables.
fn table_in<'a>(
    parent: &'a mut dyn TableLike,
    name: &str,
    is_implicit: bool,
) -> Result<&'a mut dyn TableLike> {
    if parent.get(name).is_none() {
        let mut table = Table::new();
        table.set_implicit(is_implicit);
        parent.insert(name, Item::Table(table));
    }
    let table = parent.get_mut(name).and_then(Item::as_table_like_mut);
    match table {
        Some(table) => Ok(table),
        None => bail!("`{name}` is not a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# what guests may do
[default]
connect = "none" # nobody by himself
rate = "100M"

[name."web 1"]
connect = "dom0,db:5432"
weight = 4

[uuid."6AF0c1e2-0000-0000-0000-000000000001"]
rate = 0
"#;

    #[test]
    fn the_nearest_table_counts_key_by_key() {
        let file = File::parse(TEXT).unwrap();
        let said = |uuid: Option<&str>, name: &str| -> Vec<String> {
            let said = file.said(uuid, &Name(name.into()));
            let text = |(key, value): (Key, String)| format!("{}={value}", key.name());
            said.into_iter().map(text).collect()
        };
        let uuid = Some("6af0c1e2-0000-0000-0000-000000000001");
        let upper = Some("6AF0C1E2-0000-0000-0000-000000000001");
        assert_eq!(said(None, "u1"), ["rate=104857600", "connect=none"]);
        let web = ["weight=4", "rate=104857600", "connect=dom0,db:5432"];
        assert_eq!(said(None, "web 1"), web);
        let web = ["weight=4", "rate=0", "connect=dom0,db:5432"];
        assert_eq!(said(uuid, "web 1"), web);
        assert_eq!(said(upper, "web 1"), web);
        assert!(File::parse("")
            .unwrap()
            .said(uuid, &Name("u1".into()))
            .is_empty());
    }

    #[test]
    fn says_where_it_is_wrong() {
        for (text, expected) in [
            ("[default]\nweight = ", "line 2, column 1"),
            (
                "[default]\nrate = 5\n wait = 3",
                "line 3, column 2: there is no key `wait`",
            ),
            (
                "[default]\nweight = 5000\n",
                "line 2, column 10: `weight`: not number",
            ),
            (
                "[default]\nweight = 1.5\n",
                "line 2, column 10: `weight` is neither",
            ),
            (
                "[default]\nalias = \"a\"\n",
                "line 2, column 1: an alias is",
            ),
            (
                "[domain.u1]\n",
                "line 1, column 2: there is no table `domain`",
            ),
            ("name = 3\n", "line 1, column 8: `name` is not a table"),
            (
                "[name]\nu1 = 3\n",
                "line 2, column 6: `name.u1` is not a table",
            ),
            ("é = 3\n[default]\n", "line 1, column 1"),
            ("[default]\n[default]\n", "line 2, column 2"),
        ] {
            let error = File::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error} for {text}");
        }
    }

    #[test]
    fn edits_are_written_as_the_text_is() {
        let changes = [(Key::Weight, Some("7".to_string()))];
        for (old, new) in [
            ("[default]\r\n", "[default]\r\nweight = 7\r\n"),
            ("\u{feff}[default]\n", "\u{feff}[default]\nweight = 7\n"),
            ("[default]\r\n#\n", "[default]\nweight = 7\n#\n"),
            ("\u{feff}", "\u{feff}[default]\nweight = 7\n"),
        ] {
            let edited = edit(old, &Place::Default, &changes).unwrap();
            assert_eq!(edited, new, "{old:?}");
        }
    }

    #[test]
    fn edits_leave_all_else_as_it_was() {
        let set = |key, value: &str| (key, Some(value.to_string()));
        let changes = [set(Key::Connect, "all"), (Key::Rate, None)];
        let text = edit(TEXT, &Place::Default, &changes).unwrap();
        let expected = TEXT
            .replace("connect = \"none\" #", "connect = \"all\" #")
            .replace("rate = \"100M\"\n", "");
        assert_eq!(text, expected);
        let changes = [set(Key::Rate, "1048576"), set(Key::Weight, "7")];
        let uuid = Place::Uuid("6af0c1e2-0000-0000-0000-000000000001".into());
        let text = edit(TEXT, &uuid, &changes).unwrap();
        assert_eq!(
            text,
            TEXT.replace("rate = 0\n", "rate = \"1M\"\nweight = 7\n")
        );
        let web = Place::Name("a \"b\"\\".into());
        let text = edit(TEXT, &web, &changes).unwrap();
        let added = "[name.'a \"b\"\\']\nrate = \"1M\"\nweight = 7\n\n";
        assert_eq!(text.replace(added, ""), TEXT);
        let said = File::parse(&text)
            .unwrap()
            .said(None, &Name("a \"b\"\\".into()));
        assert_eq!(said[0], (Key::Weight, "7".into()));
        let text = edit("", &web, &changes).unwrap();
        assert!(text.starts_with("[name."), "{text}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The table of floors, as people read and write it.
//!
//! A line is one of these; `#` begins a comment, and what is indented goes on with the line
//! before:
//!
//! ```text
//! held NAME FILE           a crate whose circles are failures; FILE is its first
//! floor NAME: PATH...      a floor above those before: folders end with /, or files
//! beside NAME: PATH...     another room on the same floor
//! up FILE -> FILE          an import that runs up, for now
//! circle FILE -> FILE      an import that closes a circle, for now
//! parted FILE NAME: FOLDER...  a type whose own `impl`s are in these folders, for now
//! astray FILE: TRAIT for TYPE  an `impl` that stands at the wrong place, for now
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, Context, Result};

use crate::house::Arrow;

/// A room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its name.
    pub name: String,
    /// Its floor; 0 is the lowest.
    pub floor: usize,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    /// Crates: name and first file.
    pub held: Vec<(String, String)>,
    /// All rooms, lowest floor first.
    pub rooms: Vec<Room>,
    /// Folders and files, each with the index of its room.
    pub places: BTreeMap<String, usize>,
    /// Imports that run up.
    pub up: BTreeSet<Arrow>,
    /// Imports that close a circle.
    pub circle: BTreeSet<Arrow>,
    /// Folders of the inherent `impl`s of a type: its file and its name.
    pub parted: BTreeMap<(String, String), BTreeSet<String>>,
    /// `impl`s at the wrong place: file, and what it is.
    pub astray: BTreeSet<(String, String)>,
}

impl Table {
    /// Reads the table.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table = Self::default();
        for line in lines(text) {
            table.line(&line).with_context(|| format!("'{line}'"))?;
        }
        Ok(table)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "held" => {
                let (name, file) = rest.split_once(' ').context("a name and a file")?;
                self.held.push((name.to_owned(), file.to_owned()));
            }
            "floor" | "beside" => {
                let (name, places) = rest.split_once(':').context("no colon")?;
                let floor = match (self.rooms.last(), kind) {
                    (None, "floor") => 0,
                    (None, _) => bail!("beside nothing"),
                    (Some(last), "floor") => last.floor + 1,
                    (Some(last), _) => last.floor,
                };
                let name = name.to_owned();
                self.rooms.push(Room { name, floor });
                for place in places.split_whitespace() {
                    let room = self.rooms.len() - 1;
                    if self.places.insert(place.to_owned(), room).is_some() {
                        bail!("{place} is there twice");
                    }
                }
            }
            "up" => insert(&mut self.up, arrow(rest)?)?,
            "circle" => insert(&mut self.circle, arrow(rest)?)?,
            "parted" => {
                let (of, folders) = rest.split_once(':').context("no colon")?;
                let (file, name) = of.split_once(' ').context("a file and a type")?;
                let folders = folders.split_whitespace().map(str::to_owned).collect();
                let key = (file.to_owned(), name.to_owned());
                if self.parted.insert(key, folders).is_some() {
                    bail!("there twice");
                }
            }
            "astray" => {
                let (file, what) = rest.split_once(": ").context("no colon")?;
                insert(&mut self.astray, (file.to_owned(), what.to_owned()))?;
            }
            _ => bail!("nothing begins so"),
        }
        Ok(())
    }

    /// The room of a file: what is longest of the places that hold it.
    pub fn room(&self, file: &str) -> Option<&Room> {
        let fits = |place: &&String| {
            place.as_str() == file || place.ends_with('/') && file.starts_with(place.as_str())
        };
        let place = self.places.keys().filter(fits).max_by_key(|p| p.len())?;
        self.rooms.get(*self.places.get(place)?)
    }
}

/// Lines without comments, with those that go on joined to the ones before.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim_end();
        match (line.starts_with(' '), lines.last_mut()) {
            _ if line.is_empty() => {}
            (true, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn arrow(text: &str) -> Result<Arrow> {
    let (from, to) = text.split_once(" -> ").context("no arrow")?;
    Ok((from.to_owned(), to.to_owned()))
}

fn insert<T: Ord>(set: &mut BTreeSet<T>, value: T) -> Result<()> {
    match set.insert(value) {
        true => Ok(()),
        false => bail!("there twice"),
    }
}

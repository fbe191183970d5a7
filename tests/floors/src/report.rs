// SPDX-License-Identifier: GPL-2.0

//! Figures of the house for people: floors with their files and lines, how much of it is
//! documentation, the longest files and functions, and what is not as it should be yet.

use std::collections::BTreeMap;
use std::fmt::Write;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::house::House;
use crate::table::Table;

/// How many of the longest are named.
const LONGEST: usize = 8;

/// Lines of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// Files.
    pub files: usize,
    /// All lines.
    pub all: usize,
    /// Lines of code: neither empty nor a comment alone.
    pub code: usize,
    /// Lines of documentation.
    pub doc: usize,
}

impl Lines {
    /// Counts a text.
    pub fn of(text: &str) -> Self {
        let mut lines = Self {
            files: 1,
            ..Self::default()
        };
        for line in text.lines().map(str::trim) {
            lines.all += 1;
            if line.starts_with("///") || line.starts_with("//!") {
                lines.doc += 1;
            } else if !line.is_empty() && !line.starts_with("//") {
                lines.code += 1;
            }
        }
        lines
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.all += other.all;
        self.code += other.code;
        self.doc += other.doc;
    }

    fn show(&self) -> String {
        let ratio = self.doc as f64 / self.code.max(1) as f64;
        let Self { files, all, .. } = self;
        format!("{files:3} files {all:6} lines, {ratio:.2} lines of documentation for one of code")
    }
}

/// Finds functions, with their lines.
struct Functions<'a> {
    file: &'a str,
    found: Vec<(usize, String)>,
}

impl Functions<'_> {
    fn note(&mut self, name: &syn::Ident, block: &syn::Block) {
        let span = block.span();
        let lines = span.end().line - span.start().line + 1;
        self.found.push((lines, format!("{name} ({})", self.file)));
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

fn longest(title: &str, mut all: Vec<(usize, String)>, text: &mut String) {
    all.sort_by(|a, b| b.cmp(a));
    let _ = writeln!(text, "\nlongest {title}:");
    for (lines, name) in all.iter().take(LONGEST) {
        let _ = writeln!(text, "{lines:5} {name}");
    }
}

/// The report.
pub fn report(house: &House, table: &Table) -> String {
    let mut text = String::new();
    let mut crates: BTreeMap<&str, Lines> = BTreeMap::new();
    let mut rooms: BTreeMap<&str, Lines> = BTreeMap::new();
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for (file, source) in &house.sources {
        let Some(krate) = house.crate_of(file).filter(|krate| krate.is_held) else {
            continue;
        };
        let lines = Lines::of(source);
        crates.entry(&krate.name).or_default().add(lines);
        let Some(room) = table.room(file) else {
            continue;
        };
        rooms.entry(&room.name).or_default().add(lines);
        files.push((lines.all, file.clone()));
        if let Ok(parsed) = syn::parse_file(source) {
            let mut found = Functions {
                file,
                found: Vec::new(),
            };
            found.visit_file(&parsed);
            functions.append(&mut found.found);
        }
    }
    text.push_str("floors, highest first:\n");
    for room in table.rooms.iter().rev() {
        let lines = rooms.get(room.name.as_str()).copied().unwrap_or_default();
        let _ = writeln!(text, "{:2} {:9} {}", room.floor, room.name, lines.show());
    }
    text.push_str("\ncrates:\n");
    for (name, lines) in &crates {
        let _ = writeln!(text, "{name:13} {}", lines.show());
    }
    longest("files", files, &mut text);
    longest("functions", functions, &mut text);
    let (up, circle) = (table.up.len(), table.circle.len());
    let (parted, astray) = (table.parted.len(), table.astray.len());
    let _ = writeln!(
        text,
        "\nexceptions: {up} imports run up, {circle} close a circle, {parted} types are parted, \
         {astray} impls stand elsewhere"
    );
    text
}

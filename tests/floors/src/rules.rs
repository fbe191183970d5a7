// SPDX-License-Identifier: GPL-2.0

//! What the house is held to. Each rule returns what is wrong, a line each, and also names the
//! exceptions that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graphmap::DiGraphMap;

use crate::files;
use crate::house::{Arrow, House};
use crate::resolve::End;
use crate::scope::Impl;
use crate::table::{Room, Table};

/// The crate that knows no other.
pub const PURE: &str = "idts_core";
/// What it may name.
const PURE_NAMES: [&str; 2] = ["core", "zerocopy_derive"];
/// Rust's own types, in whose names paths begin.
const PRIMITIVES: [&str; 16] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64",
    "i128", "isize", "f64",
];

fn show(house: &House, arrow: &Arrow) -> String {
    let why = house.arrows.get(arrow).and_then(|why| why.first());
    let why = why.map(String::as_str).unwrap_or("");
    format!("{} -> {}   ({why})", arrow.0, arrow.1)
}

/// Files that belong to no crate, so that nothing holds them to anything.
pub fn stray(house: &House) -> Vec<String> {
    let lines = house.stray.iter();
    lines
        .map(|f| format!("no crate has the file {f}"))
        .collect()
}

/// Files without an opening comment.
pub fn undocumented(house: &House) -> Vec<String> {
    let lines = house.undocumented.iter();
    lines
        .map(|f| format!("{f} does not open with a comment (//!)"))
        .collect()
}

/// Files of the table that are not there, and files on no floor.
pub fn places(house: &House, table: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    // A room may have its folder, and the file that opens it, before there is anything in it.
    let is_folder = |place: &String| {
        place.ends_with('/') || table.places.contains_key(&place.replace(".rs", "/"))
    };
    for place in table.places.keys().filter(|place| !is_folder(place)) {
        if !house.sources.contains_key(place) {
            wrong.push(format!("the table names {place}, which is not there"));
        }
    }
    let tops: BTreeSet<&str> = table.places.keys().map(|p| top(p)).collect();
    for file in house.sources.keys() {
        let is_held = house.crate_of(file).is_some_and(|krate| krate.is_held);
        if is_held && tops.contains(top(file)) && table.room(file).is_none() {
            wrong.push(format!("{file} is on no floor"));
        }
    }
    wrong
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn rooms<'a>(table: &'a Table, arrow: &Arrow) -> Option<(&'a Room, &'a Room)> {
    Some((table.room(&arrow.0)?, table.room(&arrow.1)?))
}

fn runs_up(table: &Table, arrow: &Arrow) -> bool {
    rooms(table, arrow).is_some_and(|(from, to)| from.floor < to.floor)
}

/// Imports that run up, or both ways between two rooms of one floor.
pub fn upward(house: &House, table: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sideways: BTreeMap<(&str, &str), &Arrow> = BTreeMap::new();
    for arrow in house.arrows.keys() {
        let Some((from, to)) = rooms(table, arrow) else {
            continue;
        };
        if from.floor < to.floor && !table.up.contains(arrow) {
            let (from, to) = (&from.name, &to.name);
            wrong.push(format!("up from {from} to {to}: {}", show(house, arrow)));
        }
        if from.floor == to.floor && from.name != to.name {
            sideways.insert((&from.name, &to.name), arrow);
        }
    }
    for ((from, to), arrow) in &sideways {
        if sideways.contains_key(&(*to, *from)) {
            let line = show(house, arrow);
            wrong.push(format!("{from} and {to} import each other: {line}"));
        }
    }
    for arrow in &table.up {
        if !house.arrows.contains_key(arrow) || !runs_up(table, arrow) {
            wrong.push(format!("not needed: up {} -> {}", arrow.0, arrow.1));
        }
    }
    wrong
}

/// The files that import each other in circles, without the arrows that `skip` names.
fn circles(house: &House, skip: impl Fn(&Arrow) -> bool) -> Vec<Vec<&str>> {
    let mut graph: DiGraphMap<&str, ()> = DiGraphMap::new();
    for arrow in house.arrows.keys().filter(|arrow| !skip(arrow)) {
        graph.add_edge(&arrow.0, &arrow.1, ());
    }
    let parts = tarjan_scc(&graph).into_iter();
    let mut circles: Vec<Vec<&str>> = parts.filter(|part| part.len() > 1).collect();
    for circle in &mut circles {
        circle.sort_unstable();
    }
    circles.sort();
    circles
}

fn describe(house: &House, circle: &[&str], skip: impl Fn(&Arrow) -> bool) -> String {
    let mut text = format!("a circle of {} files:", circle.len());
    for arrow in house.arrows.keys().filter(|arrow| !skip(arrow)) {
        let inside = |file: &str| circle.contains(&file);
        if inside(&arrow.0) && inside(&arrow.1) {
            text.push_str("\n    ");
            text.push_str(&show(house, arrow));
        }
    }
    text
}

fn is_held(house: &House, circle: &[&str]) -> bool {
    let held = |file: &&str| house.crate_of(file).is_some_and(|krate| krate.is_held);
    circle.iter().any(held)
}

/// Circles of files in what is held. An import that runs up is told by [`upward`] already, so
/// that the exceptions there do not count here.
pub fn circular(house: &House, table: &Table) -> Vec<String> {
    let skip = |arrow: &Arrow| table.up.contains(arrow) || table.circle.contains(arrow);
    let found = circles(house, skip).into_iter();
    let held = found.filter(|circle| is_held(house, circle));
    let mut wrong: Vec<String> = held.map(|c| describe(house, &c, skip)).collect();
    let mut graph: DiGraphMap<&str, ()> = DiGraphMap::new();
    for arrow in house.arrows.keys().filter(|arrow| !skip(arrow)) {
        graph.add_edge(&arrow.0, &arrow.1, ());
    }
    for arrow in &table.circle {
        let (from, to) = (arrow.0.as_str(), arrow.1.as_str());
        let closes = house.arrows.contains_key(arrow)
            && graph.contains_node(from)
            && graph.contains_node(to)
            && has_path_connecting(&graph, to, from, None);
        if !closes {
            wrong.push(format!("not needed: circle {from} -> {to}"));
        }
    }
    wrong
}

/// Circles of files in what is only told.
pub fn told(house: &House) -> Vec<String> {
    let found = circles(house, |_| false).into_iter();
    let told = found.filter(|circle| !is_held(house, circle));
    told.map(|c| format!("a circle of {} files: {}", c.len(), c.join(" ")))
        .collect()
}

/// The file and the name of the type or trait that a path of an `impl` means, if it is ours.
fn meant(house: &House, at: &Impl, path: &[String]) -> Option<(String, String)> {
    let krate = house.all.modules[at.module].krate;
    let led = house.all.resolve(at.module, path, krate);
    let items = led.ends.into_iter().find_map(|end| match end {
        End::Item(module, name) => Some((house.file(module).to_owned(), name)),
        _ => None,
    });
    // What a macro made in this file has no other mark.
    items
}

/// Types whose own `impl`s stand in two folders.
pub fn parted(house: &House, table: &Table) -> Vec<String> {
    let mut folders: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for at in house.impls.iter().filter(|at| at.of.is_none()) {
        let Some(path) = &at.on else { continue };
        if let Some(on) = meant(house, at, path) {
            let room = files::room(&house.sources, house.file(at.module));
            folders.entry(on).or_default().insert(room);
        }
    }
    folders.retain(|(file, _), folders| {
        folders.len() > 1 && house.crate_of(file).is_some_and(|krate| krate.is_held)
    });
    let line = |(file, name): &(String, String), folders: &BTreeSet<String>| {
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        format!("parted {file} {name}: {}", folders.join(" "))
    };
    let mut wrong = Vec::new();
    for (on, found) in &folders {
        if table.parted.get(on) != Some(found) {
            wrong.push(format!("in several folders: {}", line(on, found)));
        }
    }
    for (on, known) in &table.parted {
        if folders.get(on) != Some(known) {
            wrong.push(format!("not needed: {}", line(on, known)));
        }
    }
    wrong
}

/// `impl`s of traits that stand neither with the type nor with the trait, or not with the
/// one on the upper floor.
pub fn astray(house: &House, table: &Table) -> Vec<String> {
    let mut found = BTreeSet::new();
    for at in &house.impls {
        let (Some(of), Some(on)) = (&at.of, &at.on) else {
            continue;
        };
        let file = house.file(at.module);
        if !house.crate_of(file).is_some_and(|krate| krate.is_held) {
            continue;
        }
        let mut ours: Vec<String> = [of, on]
            .into_iter()
            .chain(&at.given)
            .filter_map(|path| meant(house, at, path).map(|(file, _)| file))
            .collect();
        let floor = |file: &String| table.room(file).map(|room| room.floor);
        let highest = ours.iter().map(floor).max().flatten();
        ours.retain(|file| floor(file) == highest);
        let place = |file: &str| {
            let room = table.room(file).map(|room| room.name.clone());
            (room, files::room(&house.sources, file))
        };
        if !ours.is_empty() && !ours.iter().any(|with| place(with) == place(file)) {
            let what = format!("{} for {}", of.join("::"), on.join("::"));
            found.insert((file.to_owned(), what));
        }
    }
    let mut wrong = Vec::new();
    for (file, what) in found.difference(&table.astray) {
        wrong.push(format!("at the wrong place: astray {file}: {what}"));
    }
    for (file, what) in table.astray.difference(&found) {
        wrong.push(format!("not needed: astray {file}: {what}"));
    }
    wrong
}

/// What the pure crate names of others.
pub fn impure(house: &House) -> Vec<String> {
    let mut wrong = Vec::new();
    let pure = house.all.crates.iter().position(|krate| krate.name == PURE);
    let of = |file: &str| {
        house
            .all
            .modules
            .iter()
            .find(|m| m.file == file)
            .map(|m| m.krate)
    };
    for (file, names) in &house.foreign {
        if of(file) != pure {
            continue;
        }
        for name in names {
            let is_crate = name.starts_with(char::is_lowercase)
                && !PURE_NAMES.contains(&name.as_str())
                && !PRIMITIVES.contains(&name.as_str());
            if is_crate {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    for arrow in house.arrows.keys() {
        if of(&arrow.0) == pure && of(&arrow.1) != pure {
            wrong.push(format!("out of {PURE}: {}", show(house, arrow)));
        }
    }
    wrong
}

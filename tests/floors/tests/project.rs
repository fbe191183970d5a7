// SPDX-License-Identifier: GPL-2.0

//! Holds the project against `idts-common/floors.txt`. What to do about a failure: import
//! what stands below, or move what is shared down; never a new exception.

use std::fs;
use std::io::{stderr, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use idts_floors::files;
use idts_floors::house::House;
use idts_floors::rules;
use idts_floors::table::Table;

fn project() -> &'static (House, Table) {
    static READ: OnceLock<(House, Table)> = OnceLock::new();
    READ.get_or_init(|| {
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = fs::read_to_string(top.join("idts-common/floors.txt")).expect("the table");
        let table = Table::parse(&text).expect("the table can be read");
        let sources = files::sources(&top).expect("the sources");
        let house = House::read(sources, &table.held).expect("the sources can be read");
        (house, table)
    })
}

#[track_caller]
fn none(wrong: Vec<String>) {
    assert!(
        wrong.is_empty(),
        "{} findings:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_file_has_a_crate_and_a_floor() {
    let (house, table) = project();
    none(rules::stray(house));
    none(rules::places(house, table));
}

#[test]
fn every_file_opens_with_a_comment() {
    none(rules::undocumented(&project().0));
}

#[test]
fn no_import_runs_up() {
    let (house, table) = project();
    none(rules::upward(house, table));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let (house, table) = project();
    for circle in rules::told(house) {
        // Past libtest, which keeps what a test prints that passes.
        let _ = writeln!(stderr(), "told, not failed: {circle}");
    }
    none(rules::circular(house, table));
}

#[test]
fn impls_of_a_type_stand_in_one_folder() {
    let (house, table) = project();
    none(rules::parted(house, table));
}

#[test]
fn impls_of_a_trait_stand_with_the_upper_of_trait_and_type() {
    let (house, table) = project();
    none(rules::astray(house, table));
}

#[test]
fn the_core_names_nothing_of_the_kernel() {
    none(rules::impure(&project().0));
}

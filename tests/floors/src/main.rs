// SPDX-License-Identifier: GPL-2.0

//! Prints figures of the house: `cargo run -p idts-floors`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use idts_floors::house::House;
use idts_floors::table::Table;
use idts_floors::{files, report, rules};

fn main() -> Result<()> {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(top.join("idts-common/floors.txt")).context("floors.txt")?;
    let table = Table::parse(&table)?;
    let house = House::read(files::sources(&top)?, &table.held)?;
    print!("{}", report::report(&house, &table));
    println!("\ncircles in programs:");
    for circle in rules::told(&house) {
        println!("{circle}");
    }
    Ok(())
}

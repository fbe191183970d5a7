// SPDX-License-Identifier: GPL-2.0
//! The bench's command line.

use std::path::PathBuf;

use clap::Parser;
use testbed::GuestType;

use crate::figure::{Case, Name};

/// How fast IDTS is, and against what: all systems side by side, counted in instructions.
/// tests/BENCH.md says how.
#[derive(Parser)]
#[command(name = "bench")]
pub struct Cli {
    /// Round trip of 1 byte and writes of 64 KiB, with a PV guest: under ten minutes
    #[arg(long)]
    pub quick: bool,
    /// Only these cases
    #[arg(long = "case", value_name = "NAME", num_args = 1..)]
    pub cases: Vec<Case>,
    /// Only these systems, beside the limit
    #[arg(long = "system", value_name = "NAME", num_args = 1..)]
    pub systems: Vec<Name>,
    /// Only guests of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<GuestType>,
    /// Instead of all that: what the instructions of IDTS go to, by function and by domain
    #[arg(long, conflicts_with_all = ["quick", "cases", "systems", "json", "html", "compare"])]
    pub profile: bool,
    /// Leaves the machine up at the end, and takes one of its kind that is up
    #[arg(long)]
    pub keep: bool,
    /// Writes the figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes a page with plots to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Fails where a figure is not within 2 % of that in this file, of an earlier run
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

impl Cli {
    /// Whether a system is to be measured.
    pub fn wants_system(&self, name: Name) -> bool {
        self.systems.is_empty() || self.systems.contains(&name)
    }

    /// Whether a case is to be run.
    pub fn wants(&self, case: Case) -> bool {
        match self.cases.as_slice() {
            [] => !self.quick || matches!(case, Case::Rtt | Case::Bulk),
            some => some.contains(&case),
        }
    }
}

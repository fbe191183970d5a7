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
    /// What must never get worse: of IDTS alone the cases of --quick, and setup, messages, relay-rtt,
    /// relay-bulk and fanout as quickly. Then --compare fails only where a figure is worse, by more
    /// than 2 %; one that seems so is measured twice more, and the median counts
    #[arg(long)]
    pub worse: bool,
    /// Measures version 0.1.0, not what is built
    #[arg(long)]
    pub earlier: bool,
    /// Instead of all that: what the instructions of IDTS go to, by function and by domain, in rtt, bulk,
    /// messages and setup, or only the cases that are named
    #[arg(long, conflicts_with_all = ["quick", "systems", "worse", "json", "html", "compare"])]
    pub profile: bool,
    /// Leaves the machine up at the end, and takes one of its kind that is up
    #[arg(long)]
    pub keep: bool,
    /// Writes the figures to this file
    #[arg(long, value_name = "FILE", overrides_with = "json")]
    pub json: Option<PathBuf>,
    /// Writes a page with plots to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Fails where a figure is not within 2 % of that in this file, of an earlier run
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// The cases of `--worse`.
const WORSE: [Case; 7] = [
    Case::Rtt,
    Case::Bulk,
    Case::Messages,
    Case::RelayRtt,
    Case::RelayBulk,
    Case::Fanout,
    Case::Setup,
];

impl Cli {
    /// Whether a system is to be measured.
    pub fn wants_system(&self, name: Name) -> bool {
        match self.systems.as_slice() {
            [] => !self.worse || name == Name::Idts,
            some => some.contains(&name),
        }
    }

    /// Whether sizes and settings are few.
    pub fn is_quick(&self) -> bool {
        self.quick || self.worse
    }

    /// Whether a case is to be run.
    pub fn wants(&self, case: Case) -> bool {
        match self.cases.as_slice() {
            [] if self.worse => WORSE.contains(&case),
            [] => !self.quick || matches!(case, Case::Rtt | Case::Bulk),
            some => some.contains(&case),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What nothing can beat: bare copies, and paths that are made of nothing else.

use anyhow::{ensure, Result};
use testbed::GuestType;

use super::{Run, Series};
use crate::bed::Bed;
use crate::figure::{chained, gbits, Better, Case, Figure, Name};

/// Below this rate of two copies the machine is not the one that the figures are for.
const LEAST: f64 = 24.0;
/// What the bare copies are measured with.
const BYTES: u64 = 64 << 10;
const COUNT: u64 = 1024;
/// The copies, as the load and as variants name them.
const COPIES: [(&str, &str); 3] = [
    ("in", "user-to-ring"),
    ("out", "ring-to-user"),
    ("across", "ring-to-ring"),
];

/// Bare copies in dom0 and in a guest, and the limits of the paths that are made of them.
pub fn limit(bed: &Bed, run: &mut Run) -> Result<()> {
    let dom0 = copies(bed, run, "dom0", "dom0")?;
    let guest = copies(bed, run, "u1", "guest")?;
    for (case, variant, rates) in [
        (Case::Bulk, "dom0-to-guest", vec![dom0[0], guest[1]]),
        (Case::Bulk, "guest-to-dom0", vec![guest[0], dom0[1]]),
        (
            Case::RelayBulk,
            "guest-to-guest",
            vec![guest[0], dom0[2], guest[1]],
        ),
    ] {
        let value = (chained(&rates), "Gb/s", Better::Higher);
        run.add(case, series(bed.kind, variant), (BYTES, COUNT), value);
    }
    Ok(())
}

/// The rates of the copies in a domain.
fn copies(bed: &Bed, run: &mut Run, domain: &str, role: &str) -> Result<Vec<f64>> {
    let cases = COPIES.map(|(name, _)| format!("{name}:{BYTES}:{COUNT}"));
    let times = bed.limit(domain, run.rounds(), &cases)?;
    for ((_, what), ns) in COPIES.iter().zip(&times) {
        let variant = format!("{what} {role}");
        run.gbits(Case::Bulk, series(bed.kind, &variant), BYTES, COUNT, *ns);
    }
    Ok(times.iter().map(|ns| gbits(BYTES * COUNT, *ns)).collect())
}

fn series(guest: GuestType, variant: &str) -> Series<'_> {
    Series {
        system: Name::Limit,
        variant,
        guest,
    }
}

/// Refuses a run whose machine copies too slowly.
pub fn check_limit(figures: &[Figure]) -> Result<()> {
    let two = |figure: &&Figure| {
        figure.system == Name::Limit
            && (figure.is(&["dom0-to-guest"]) || figure.is(&["guest-to-dom0"]))
    };
    for figure in figures.iter().filter(two) {
        let value = figure.value;
        ensure!(
            value >= LEAST,
            "the run is invalid: two copies {} go at {value:.1} Gb/s, below {LEAST}",
            figure.variant
        );
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! The cases: what is run on a machine, and the figures that come of it.

mod pair;
mod tcp;

use anyhow::{ensure, Result};
use testbed::GuestType;

use crate::bed::Bed;
use crate::cli::Cli;
use crate::figure::{chained, gbits, Better, Case, Figure, Name};
use crate::system::System;

/// A run: its figures, and what is to be said beside them.
pub struct Run {
    pub figures: Vec<Figure>,
    pub notes: Vec<String>,
    /// Fewer sizes and settings.
    pub quick: bool,
}

/// How IDTS waits.
pub struct Mode {
    pub name: &'static str,
    /// What both modules are loaded with.
    pub poll_us: u32,
}

/// Never spinning, and the drivers' own default.
pub const MODES: [Mode; 2] = [
    Mode {
        name: "sleeping",
        poll_us: 0,
    },
    Mode {
        name: "polling",
        poll_us: 50,
    },
];

/// Below this rate of two copies the machine is not the one that the figures are for.
const LIMIT_LEAST: f64 = 24.0;
/// What the bare copies are measured with.
const LIMIT_BYTES: u64 = 64 << 10;
const LIMIT_COUNT: u64 = 1024;

/// A figure before it is one: what all of a series have in common.
pub struct Series<'a> {
    pub system: Name,
    pub variant: &'a str,
    pub guest: GuestType,
}

impl Run {
    /// Nothing measured yet.
    pub fn new(quick: bool) -> Run {
        Run {
            figures: Vec::new(),
            notes: Vec::new(),
            quick,
        }
    }

    /// Keeps a time in microseconds.
    pub fn micros(&mut self, case: Case, series: &Series<'_>, bytes: u64, n: u64, ns: u64) {
        let value = crate::figure::micros(ns, n);
        self.add(case, series, (bytes, n), (value, "us", Better::Lower));
    }

    /// Keeps a rate of bytes.
    pub fn gbits(&mut self, case: Case, series: &Series<'_>, bytes: u64, n: u64, ns: u64) {
        let value = gbits(bytes * n, ns);
        self.add(case, series, (bytes, n), (value, "Gb/s", Better::Higher));
    }

    fn add(
        &mut self,
        case: Case,
        series: &Series<'_>,
        (bytes, n): (u64, u64),
        (value, unit, better): (f64, &str, Better),
    ) {
        let figure = Figure {
            case,
            system: series.system,
            variant: series.variant.into(),
            guest: series.guest,
            bytes,
            n,
            value,
            unit: unit.into(),
            better,
        };
        eprintln!(
            "bench: {case} {} {} {} {bytes} B: {value:.3} {unit}",
            series.system, series.guest, series.variant
        );
        self.figures.push(figure);
    }

    /// Says something beside the figures, once.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            eprintln!("bench: {text}");
            self.notes.push(text);
        }
    }

    /// Notes what is measured.
    pub fn note_versions(&mut self, bed: &Bed) -> Result<()> {
        let kernel = bed.tb.sh("dom0", "uname -r")?.stdout_text();
        let major = bed.tb.sh("dom0", "cat /sys/hypervisor/version/major")?;
        let minor = bed.tb.sh("dom0", "cat /sys/hypervisor/version/minor")?;
        let (major, minor) = (major.stdout_text(), minor.stdout_text());
        let config = bed.tb.config();
        self.note(format!(
            "kernel {}, Xen {}.{}, guests {}, emulated CPU {}",
            kernel.trim(),
            major.trim(),
            minor.trim(),
            bed.kind,
            config.cpu_model()
        ));
        Ok(())
    }
}

/// Bare copies in dom0 and in a guest, and the limits of the paths that are made of them.
pub fn limit(bed: &Bed, run: &mut Run) -> Result<()> {
    let names = ["in", "out", "across"];
    let cases = names.map(|name| format!("{name}:{LIMIT_BYTES}:{LIMIT_COUNT}"));
    let mut measure = |domain: &str, role: &str| -> Result<[f64; 3]> {
        let times = bed.limit(domain, &cases)?;
        let mut rates = [0.0; 3];
        for (index, what) in ["user-to-ring", "ring-to-user", "ring-to-ring"]
            .iter()
            .enumerate()
        {
            let variant = format!("{what} {role}");
            let series = limit_series(bed.kind, &variant);
            run.gbits(Case::Bulk, &series, LIMIT_BYTES, LIMIT_COUNT, times[index]);
            rates[index] = gbits(LIMIT_BYTES * LIMIT_COUNT, times[index]);
        }
        Ok(rates)
    };
    let dom0 = measure("dom0", "dom0")?;
    let guest = measure("u1", "guest")?;
    for (case, variant, rates) in [
        (Case::Bulk, "dom0-to-guest", vec![dom0[0], guest[1]]),
        (Case::Bulk, "guest-to-dom0", vec![guest[0], dom0[1]]),
        (
            Case::RelayBulk,
            "guest-to-guest",
            vec![guest[0], dom0[2], guest[1]],
        ),
    ] {
        let value = chained(&rates);
        let size = (LIMIT_BYTES, LIMIT_COUNT);
        let series = limit_series(bed.kind, variant);
        run.add(case, &series, size, (value, "Gb/s", Better::Higher));
    }
    Ok(())
}

fn limit_series(guest: GuestType, variant: &str) -> Series<'_> {
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
            value >= LIMIT_LEAST,
            "the run is invalid: two copies {} go at {value:.1} Gb/s, below {LIMIT_LEAST}",
            figure.variant
        );
    }
    Ok(())
}

/// The cases of the peers: TCP and libvchan.
pub fn peers(cli: &Cli, bed: &Bed, run: &mut Run) -> Result<()> {
    tcp::note_settings(bed, run)?;
    for nodelay in [true, false] {
        let system = System::Tcp { nodelay };
        tcp::with_few_retransmits(bed, run, |run| pair::all(cli, bed, run, &system, ""))?;
    }
    for ring in [1 << 20, 64 << 10] {
        pair::all(cli, bed, run, &System::Vchan { ring }, "")?;
    }
    Ok(())
}

/// The cases of IDTS, with modules that wait in this mode.
pub fn idts(cli: &Cli, bed: &Bed, run: &mut Run, mode: &Mode) -> Result<()> {
    for ring in [1 << 20, 64 << 10, 0] {
        pair::all(cli, bed, run, &System::Idts { ring }, mode.name)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! The cases: what is run on which machine, and the figures that come of it.

mod fanout;
mod iperf3;
mod limit;
mod memory;
mod pair;
mod pollcost;
mod scale;
mod setup;
mod tcp;
mod wall;

use std::fmt;

use anyhow::Result;
use testbed::GuestType;

use crate::bed::{Bed, Plan};
use crate::cli::Cli;
use crate::figure::{gbits, micros, Better, Case, Figure, Name};
use crate::system::System;

pub use limit::{check_limit, limit};

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
    /// What both modules are loaded with: how long they look, whether they then halt in place.
    poll_us: u32,
    halt: u32,
}

/// Plain sleep; halting the virtual CPU in place; the drivers' own defaults.
pub const MODES: [Mode; 3] = [
    Mode {
        name: "sleeping",
        poll_us: 0,
        halt: 0,
    },
    Mode {
        name: "halting",
        poll_us: 0,
        halt: 1,
    },
    Mode {
        name: "polling",
        poll_us: 100,
        halt: 1,
    },
];

/// Two guests and dom0, or one where that will do.
const PAIR: [Case; 7] = [
    Case::Rtt,
    Case::Bulk,
    Case::Messages,
    Case::RelayRtt,
    Case::RelayBulk,
    Case::Setup,
    Case::Pollcost,
];
/// Many guests.
const CROWD: [Case; 3] = [Case::Fanout, Case::Scale, Case::Memory];
/// How many of them take part.
const STEPS: [u32; 4] = [1, 2, 4, 8];

/// Bytes of the rings of vchan and IDTS where it is not the ring that is looked at.
const RING: u32 = 1 << 20;

/// The longest ring of IDTS; a vchan has none that is longer than `RING`.
const RING_MAX: u32 = 4 << 20;

/// A figure before it is one: what all of a series have in common.
#[derive(Clone, Copy)]
pub struct Series<'a> {
    pub system: Name,
    pub variant: &'a str,
    pub guest: GuestType,
}

/// A number, its unit, and which way it improves.
pub type Value<'a> = (f64, &'a str, Better);

impl Mode {
    /// Whether it is what the drivers do by themselves.
    fn is_default(&self) -> bool {
        self.poll_us > 0
    }

    /// Whether a case is measured in this mode. Halting is for round trips, and what idle things hold
    /// does not depend on how they wait.
    fn matters_for(&self, case: Case) -> bool {
        match case {
            Case::Memory => self.is_default(),
            Case::Fanout | Case::Scale => self.name != "halting",
            _ => true,
        }
    }

    /// For the modules.
    pub fn parameters(&self) -> String {
        format!("poll_us={} halt={}", self.poll_us, self.halt)
    }
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

    /// How many times a case is run, on a new connection each time; the mean counts, but of the least and
    /// the most. Whatever else a domain does has another pace for a while now and then.
    fn rounds(&self) -> usize {
        match self.quick {
            true => 5,
            false => 3,
        }
    }

    /// Keeps a time in microseconds.
    pub fn micros(&mut self, case: Case, series: Series<'_>, bytes: u64, n: u64, ns: u64) {
        self.add(
            case,
            series,
            (bytes, n),
            (micros(ns, n), "us", Better::Lower),
        );
    }

    /// Keeps a rate of bytes.
    pub fn gbits(&mut self, case: Case, series: Series<'_>, bytes: u64, n: u64, ns: u64) {
        let value = gbits(bytes * n, ns);
        self.add(case, series, (bytes, n), (value, "Gb/s", Better::Higher));
    }

    /// Keeps a figure.
    pub fn add(
        &mut self,
        case: Case,
        series: Series<'_>,
        (bytes, n): (u64, u64),
        (value, unit, better): Value<'_>,
    ) {
        let Series {
            system,
            variant,
            guest,
        } = series;
        eprintln!("bench: {case} {system} {guest} {variant} {bytes} B: {value:.3} {unit}");
        self.figures.push(Figure {
            case,
            system,
            variant: variant.into(),
            guest,
            bytes,
            n,
            value,
            unit: unit.into(),
            better,
        });
    }

    /// Says something beside the figures, once.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            eprintln!("bench: {text}");
            self.notes.push(text);
        }
    }

    /// Whether the limits are known for guests of this type.
    fn has_limit(&self, kind: GuestType) -> bool {
        let is = |f: &Figure| f.system == Name::Limit && f.guest == kind;
        self.figures.iter().any(is)
    }

    /// Notes what is measured.
    pub fn note_machine(&mut self, bed: &Bed) -> Result<()> {
        self.note_versions(bed)?;
        tcp::note_settings(bed, self)
    }

    fn note_versions(&mut self, bed: &Bed) -> Result<()> {
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

/// Whether it is the setting of its system in cases that do not compare settings.
fn is_usual(system: &System) -> bool {
    match *system {
        System::Tcp { nodelay } => nodelay,
        System::Vchan { ring } | System::Idts { ring } => ring == RING,
    }
}

/// Words of a variant, without those that are empty.
fn words(words: &[&str]) -> String {
    let some: Vec<_> = words
        .iter()
        .filter(|word| !word.is_empty())
        .copied()
        .collect();
    some.join(" ")
}

/// How many guests are many. The emulator loses PVH guests when it counts (see tests/BENCH.md), and of
/// eight there is always one lost.
fn crowd(kind: GuestType) -> u32 {
    match kind {
        GuestType::Pv => 8,
        GuestType::Pvh => 4,
    }
}

/// The machines that the cases want, and what is run on each.
pub fn machines(cli: &Cli, kind: GuestType) -> Vec<(Plan, &'static [Case])> {
    let pair = match cli.wants(Case::RelayRtt) || cli.wants(Case::RelayBulk) {
        true => 2,
        false => 1,
    };
    let plan = |guests, counted| Plan {
        kind,
        guests,
        counted,
        earlier: cli.earlier,
    };
    let all: [(Plan, &'static [Case]); 3] = [
        (plan(pair, true), &PAIR),
        (plan(crowd(kind), true), &CROWD),
        (plan(1, false), &[Case::Wall]),
    ];
    let wanted = |(_, cases): &(Plan, &'static [Case])| cases.iter().any(|case| cli.wants(*case));
    all.into_iter().filter(wanted).collect()
}

/// What is measured in one go: a case of a system, or what goes with it.
#[derive(Clone, Copy)]
pub enum Unit {
    /// The limits of the machine.
    Limit,
    /// A case of a peer.
    Peer(System, Part),
    /// TCP once more.
    Iperf3,
    /// A case of IDTS with all its rings, waiting in a certain way.
    Idts(&'static Mode, Part),
}

/// A case, with so many guests where it is measured with ever more of them.
#[derive(Clone, Copy)]
pub enum Part {
    Whole(Case),
    With(Case, u32),
}

impl Part {
    fn case(self) -> Case {
        match self {
            Part::Whole(case) | Part::With(case, _) => case,
        }
    }

    /// The parts of a case on a machine with so many guests.
    fn all(case: Case, guests: u32) -> Vec<Part> {
        let steps = STEPS.into_iter().filter(|step| *step <= guests);
        match case {
            Case::Fanout | Case::Scale => steps.map(|step| Part::With(case, step)).collect(),
            _ => vec![Part::Whole(case)],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Whole(case) => write!(f, "{case}"),
            Part::With(case, guests) => write!(f, "{case} {guests}"),
        }
    }
}

/// All that the cases want of a machine. The peers come first: they want no module of ours.
pub fn units(cli: &Cli, plan: &Plan, run: &Run, cases: &[Case]) -> Vec<Unit> {
    let wanted: Vec<_> = cases
        .iter()
        .copied()
        .filter(|&case| cli.wants(case))
        .flat_map(|case| Part::all(case, plan.guests))
        .collect();
    let peers = [
        System::Tcp { nodelay: true },
        System::Tcp { nodelay: false },
        System::Vchan { ring: RING },
        System::Vchan { ring: 64 << 10 },
    ];
    let mut units = Vec::new();
    if plan.counted && !run.has_limit(plan.kind) {
        units.push(Unit::Limit);
    }
    for peer in peers
        .into_iter()
        .filter(|peer| cli.wants_system(peer.name()))
    {
        units.extend(wanted.iter().map(|&part| Unit::Peer(peer, part)));
        let bulk = wanted.iter().any(|part| part.case() == Case::Bulk);
        if matches!(peer, System::Tcp { nodelay: false }) && bulk {
            units.push(Unit::Iperf3);
        }
    }
    if cli.wants_system(Name::Idts) {
        for mode in &MODES {
            let matters = wanted.iter().filter(|part| mode.matters_for(part.case()));
            units.extend(matters.map(|&part| Unit::Idts(mode, part)));
        }
    }
    units
}

impl Unit {
    /// Measures it.
    pub fn measure(self, cli: &Cli, bed: &Bed, run: &mut Run) -> Result<()> {
        match self {
            Unit::Limit => limit(bed, run),
            Unit::Peer(system, part) => one(bed, run, part, &system, ""),
            Unit::Iperf3 => iperf3::all(bed, run, cli.wants(Case::RelayBulk)),
            Unit::Idts(mode, part) => {
                bed.load_modules(mode)?;
                for ring in rings(mode, part.case(), run.quick) {
                    one(bed, run, part, &System::Idts { ring }, mode.name)?;
                }
                bed.check_delays()?;
                if part.case() == Case::Memory {
                    memory::tunnels(bed, run)?;
                }
                bed.unload_modules()
            }
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Limit => write!(f, "limit"),
            Unit::Peer(system, part) => {
                write!(f, "{} {}, {part}", system.name(), system.setting())
            }
            Unit::Iperf3 => write!(f, "iperf3"),
            Unit::Idts(mode, part) => write!(f, "idts {}, {part}", mode.name),
        }
    }
}

/// The rings that IDTS is measured with; 0 is what it takes by itself.
fn rings(mode: &Mode, case: Case, quick: bool) -> Vec<u32> {
    let mut rings = vec![RING];
    // Where nobody spins, it is the round trip that the way of sleeping matters for.
    if mode.name != "halting" {
        rings.extend([64 << 10, 0]);
    }
    if matches!(case, Case::Bulk | Case::RelayBulk) && !quick {
        rings.push(RING_MAX);
    }
    rings
}

/// A case of one system. `mode` is how IDTS waits, else empty.
fn one(bed: &Bed, run: &mut Run, part: Part, system: &System, mode: &str) -> Result<()> {
    match part {
        Part::With(Case::Fanout, guests) => fanout::to(bed, run, system, mode, guests as usize),
        Part::With(_, guests) => scale::with(bed, run, system, mode, guests as usize),
        Part::Whole(Case::Setup) => setup::all(bed, run, system, mode),
        Part::Whole(Case::Pollcost) => pollcost::all(bed, run, system, mode),
        Part::Whole(Case::Memory) => memory::channels(bed, run, system, mode),
        Part::Whole(Case::Wall) => wall::all(bed, run, system, mode),
        Part::Whole(case) => pair::all(bed, run, case, system, mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn names(args: &[&str], kind: GuestType) -> Vec<String> {
        let cli = Cli::parse_from([&["bench"], args].concat());
        let run = Run::new(cli.is_quick());
        let machines = machines(&cli, kind);
        let units = |(plan, cases): &(Plan, &[Case])| units(&cli, plan, &run, cases);
        let all = machines.iter().flat_map(units);
        all.map(|unit| unit.to_string()).collect()
    }

    #[test]
    fn peers_are_measured_before_our_modules_are_there() {
        let quick = names(&["--quick"], GuestType::Pv);
        let first_of_ours = quick.iter().position(|name| name.starts_with("idts"));
        let last_peer = quick.iter().rposition(|name| !name.starts_with("idts"));
        assert_eq!(quick.first().map(String::as_str), Some("limit"));
        assert!(last_peer < first_of_ours);
        assert!(quick.contains(&"iperf3".into()));
        assert_eq!(quick.len(), 1 + 4 * 2 + 1 + 3 * 2);
    }

    #[test]
    fn what_must_not_get_worse_is_ours() {
        let all = names(&["--worse"], GuestType::Pv);
        assert!(all
            .iter()
            .all(|name| name == "limit" || name.starts_with("idts")));
        for name in ["idts polling, setup", "idts sleeping, fanout 8"] {
            assert!(all.contains(&name.to_string()), "no {name} in {all:?}");
        }
    }

    #[test]
    fn only_bulk_has_the_longest_ring() {
        let [sleeping, halting, _] = &MODES;
        assert_eq!(rings(sleeping, Case::Rtt, false), [RING, 64 << 10, 0]);
        assert_eq!(rings(halting, Case::Bulk, false), [RING, RING_MAX]);
        assert_eq!(rings(halting, Case::Bulk, true), [RING]);
    }

    #[test]
    fn only_what_is_wanted_is_measured() {
        let crowd = names(&["--case", "fanout", "--system", "idts"], GuestType::Pvh);
        assert_eq!(
            crowd,
            [
                "limit",
                "idts sleeping, fanout 1",
                "idts sleeping, fanout 2",
                "idts sleeping, fanout 4",
                "idts polling, fanout 1",
                "idts polling, fanout 2",
                "idts polling, fanout 4",
            ]
        );
        let many = names(&["--case", "scale", "--system", "vchan"], GuestType::Pv);
        assert_eq!(
            many.last().map(String::as_str),
            Some("vchan ring-64K, scale 8")
        );
        let wall = names(&["--case", "wall", "--system", "vchan"], GuestType::Pv);
        assert_eq!(wall, ["vchan ring-1M, wall", "vchan ring-64K, wall"]);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The marks: what IDTS is meant to reach against its peers and the limit of the same run, with a
//! PV guest.

use testbed::GuestType;

use crate::figure::{Better, Case, Figure, Name};
use crate::table::digits;

/// One mark and what was reached.
pub struct Mark {
    pub what: String,
    /// What is to be reached, and from what that follows.
    pub wanted: f64,
    pub why: String,
    pub got: f64,
    pub unit: &'static str,
    pub better: Better,
}

impl Mark {
    /// Whether it is met.
    pub fn met(&self) -> bool {
        match self.better {
            Better::Lower => self.got <= self.wanted,
            Better::Higher => self.got >= self.wanted,
        }
    }
}

/// The best figure of a system in a case, among the variants with these words.
struct Best<'a>(&'a [Figure]);

impl Best<'_> {
    fn of(&self, case: Case, system: Name, bytes: u64, words: &[&str]) -> Option<f64> {
        let fits = |f: &&Figure| {
            (f.case, f.system, f.bytes) == (case, system, bytes)
                && f.guest == GuestType::Pv
                && f.is(words)
        };
        let figures: Vec<_> = self.0.iter().filter(fits).collect();
        let values = figures.iter().map(|f| f.value);
        match figures.first()?.better {
            Better::Lower => values.reduce(f64::min),
            Better::Higher => values.reduce(f64::max),
        }
    }
}

/// Marks of what was measured.
pub fn marks(figures: &[Figure]) -> Vec<Mark> {
    let best = Best(figures);
    let mut marks = Vec::new();
    marks.extend(round_trips(&best).into_iter().flatten());
    for way in ["dom0-to-guest", "guest-to-dom0"] {
        marks.extend(bulk(&best, way).into_iter().flatten());
        marks.extend(messages(&best, way).into_iter().flatten());
    }
    marks.extend(relay(&best).into_iter().flatten());
    marks
}

fn lower(what: &str, got: f64, wanted: f64, why: String) -> Option<Mark> {
    Some(Mark {
        what: what.into(),
        wanted,
        why,
        got,
        unit: "us",
        better: Better::Lower,
    })
}

fn higher(what: String, got: f64, wanted: f64, why: String) -> Option<Mark> {
    Some(Mark {
        what,
        wanted,
        why,
        got,
        unit: "Gb/s",
        better: Better::Higher,
    })
}

fn round_trips(best: &Best<'_>) -> [Option<Mark>; 4] {
    let idts = |mode| best.of(Case::Rtt, Name::Idts, 1, &[mode]);
    let tcp = best.of(Case::Rtt, Name::Tcp, 1, &[]);
    let vchan = best.of(Case::Rtt, Name::Vchan, 1, &[]);
    let against = |mode: &str, got: Option<f64>, peer: &str, of: Option<f64>, share: f64| {
        let (got, of) = got.zip(of)?;
        let what = format!("round trip 1 B, {mode}");
        lower(
            &what,
            got,
            of * share,
            format!("{peer} {of:.1} x {share:.3}"),
        )
    };
    [
        against("polling", idts("polling"), "TCP", tcp, 1.0 / 18.0),
        against("sleeping", idts("sleeping"), "TCP", tcp, 0.5),
        against("sleeping", idts("sleeping"), "vchan", vchan, 0.87),
        against("halting", idts("halting"), "TCP", tcp, 1.0 / 2.8),
    ]
}

fn bulk(best: &Best<'_>, way: &str) -> [Option<Mark>; 2] {
    let limit = best.of(Case::Bulk, Name::Limit, 65536, &[way]);
    let mark = |mode: &str, share: f64| {
        let words = [mode, way, "ring-1M"];
        let got = best.of(Case::Bulk, Name::Idts, 65536, &words)?;
        let limit = limit?;
        let what = format!("bulk 64 KiB {way}, {mode}, rings of 1 MiB");
        higher(
            what,
            got,
            limit * share,
            format!("limit {limit:.1} x {share}"),
        )
    };
    [mark("polling", 0.92), mark("sleeping", 0.84)]
}

fn messages(best: &Best<'_>, way: &str) -> [Option<Mark>; 2] {
    let got = best.of(Case::Messages, Name::Idts, 64, &[way]);
    let mark = |words: &[&str], name: &str, times: f64| {
        let tcp = best.of(Case::Messages, Name::Tcp, 64, words)?;
        let what = format!("messages of 64 B {way}");
        lower(
            &what,
            got?,
            tcp / times,
            format!("{name} {tcp:.2} / {times}"),
        )
    };
    [
        mark(&[way, "nodelay"], "TCP with NODELAY", 5.0),
        mark(&[way], "TCP at its best", 1.5),
    ]
}

fn relay(best: &Best<'_>) -> [Option<Mark>; 3] {
    let limit = best.of(Case::RelayBulk, Name::Limit, 65536, &[]);
    let got = best.of(Case::RelayBulk, Name::Idts, 65536, &[]);
    let bulk = got.zip(limit).and_then(|(got, limit)| {
        let what = "guest to guest, bulk 64 KiB".to_string();
        higher(
            what,
            got,
            limit * 0.8,
            format!("three copies {limit:.1} x 0.8"),
        )
    });
    let trip = |mode: &str| {
        let got = best.of(Case::RelayRtt, Name::Idts, 1, &[mode])?;
        let one = best.of(Case::Rtt, Name::Idts, 1, &[mode])?;
        let what = format!("guest to guest, round trip 1 B, {mode}");
        lower(&what, got, one * 2.2, format!("with dom0 {one:.1} x 2.2"))
    };
    [bulk, trip("sleeping"), trip("polling")]
}

/// Prints the marks that the run has figures for.
pub fn print(figures: &[Figure]) {
    for mark in marks(figures) {
        let verdict = if mark.met() { "met" } else { "NOT met" };
        let show = |value: f64| format!("{value:.*}", digits(value));
        println!(
            "mark {:<48} {:>7} {:<4} wanted {:>7} ({}): {verdict}",
            mark.what,
            show(mark.got),
            mark.unit,
            show(mark.wanted),
            mark.why
        );
    }
}

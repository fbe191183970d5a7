// SPDX-License-Identifier: GPL-2.0
//! The marks: what IDTS is meant to reach against its peers and the limit of the same run, with PV
//! guests. A mark is there only if the run has all the figures that it is made of.

use testbed::GuestType;

use crate::figure::{Better, Case, Figure, Name};
use crate::table::digits;

/// One mark and what was reached.
pub struct Mark {
    pub what: String,
    pub got: f64,
    /// What is to be reached, and from what that follows.
    pub wanted: f64,
    pub why: String,
    pub unit: String,
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

/// Names of the ways of waiting, as in variants.
const MODES: [&str; 3] = ["sleeping", "halting", "polling"];
/// By which calls IDTS does a round trip, as a word of variants, and as a person says it.
const CALLS: [(&str, &str); 2] = [("!transact", "two calls"), ("transact", "one call")];
/// The ring that a mark of IDTS in bulk is about.
const RING: &str = "ring-1M";

/// A run's figures, by the best of those that have some words.
struct Best<'a>(&'a [Figure]);

impl Best<'_> {
    /// The best figure whose variant has all of these words, and none that is here with a `!`.
    fn figure(&self, case: Case, system: Name, bytes: u64, words: &[&str]) -> Option<&Figure> {
        let fits = |f: &&Figure| {
            (f.case, f.system, f.bytes, f.guest) == (case, system, bytes, GuestType::Pv)
                && words.iter().all(|word| match word.strip_prefix('!') {
                    Some(word) => !f.is(&[word]),
                    None => f.is(&[word]),
                })
        };
        self.0.iter().filter(fits).reduce(|best, next| {
            let better = match best.better {
                Better::Lower => next.value < best.value,
                Better::Higher => next.value > best.value,
            };
            if better {
                next
            } else {
                best
            }
        })
    }

    fn of(&self, case: Case, system: Name, bytes: u64, words: &[&str]) -> Option<f64> {
        Some(self.figure(case, system, bytes, words)?.value)
    }

    fn idts(&self, case: Case, bytes: u64, words: &[&str]) -> Option<&Figure> {
        self.figure(case, Name::Idts, bytes, words)
    }
}

/// A mark of a figure: it is to be so many times what `of` is.
fn mark(
    what: String,
    got: Option<&Figure>,
    times: f64,
    of: &str,
    value: Option<f64>,
) -> Option<Mark> {
    let (got, value) = got.zip(value)?;
    let show = format!("{value:.*}", digits(value));
    let why = match times {
        1.0 => of.to_string(),
        times if times < 0.7 => format!("{of}: {show} / {:.1}", 1.0 / times),
        times => format!("{of}: {show} x {times}"),
    };
    Some(Mark {
        what,
        got: got.value,
        wanted: value * times,
        why,
        unit: got.unit.clone(),
        better: got.better,
    })
}

/// Marks of what was measured.
pub fn marks(figures: &[Figure]) -> Vec<Mark> {
    let best = Best(figures);
    let all = [
        round_trips(&best),
        bulk(&best),
        relay(&best),
        messages(&best),
        fanout(&best),
        scale(&best),
        setup(&best),
        pollcost(&best),
        memory(&best),
    ];
    all.into_iter().flatten().flatten().collect()
}

fn round_trips(best: &Best<'_>) -> Vec<Option<Mark>> {
    let peer = |name, words: &[&str]| best.of(Case::Rtt, name, 1, words);
    let (tcp, vchan) = (peer(Name::Tcp, &[]), peer(Name::Vchan, &[]));
    let against = |(mode, share, name, value): (&str, f64, &str, _)| {
        CALLS.map(|(call, how)| {
            let what = format!("round trip 1 B, {mode}, {how}");
            let got = best.idts(Case::Rtt, 1, &[mode, call]);
            mark(what, got, share, name, value)
        })
    };
    [
        ("polling", 1.0 / 18.0, "TCP", tcp),
        ("sleeping", 1.0 / 2.0, "TCP", tcp),
        ("sleeping", 0.87, "vchan", vchan),
        ("halting", 1.0 / 2.8, "TCP", tcp),
    ]
    .into_iter()
    .flat_map(against)
    .collect()
}

fn bulk(best: &Best<'_>) -> Vec<Option<Mark>> {
    let mut marks = Vec::new();
    for way in ["dom0-to-guest", "guest-to-dom0"] {
        let limit = best.of(Case::Bulk, Name::Limit, 65536, &[way]);
        for (mode, share) in [("polling", 0.92), ("sleeping", 0.84)] {
            let what = format!("bulk 64 KiB {way}, {mode}, rings of 1 MiB");
            let got = best.idts(Case::Bulk, 65536, &[mode, way, RING]);
            marks.push(mark(what, got, share, "limit", limit));
        }
    }
    marks
}

fn relay(best: &Best<'_>) -> Vec<Option<Mark>> {
    let limit = best.of(Case::RelayBulk, Name::Limit, 65536, &[]);
    let bulk = |mode: &str| {
        let got = best.idts(Case::RelayBulk, 65536, &[mode]);
        let setting = got.and_then(|figure| figure.variant.split(' ').next_back());
        let setting = setting.unwrap_or_default();
        let what = format!("guest to guest, bulk 64 KiB, {mode}, {setting}");
        mark(what, got, 0.8, "limit of three copies", limit)
    };
    let trips = |mode: &'static str| {
        CALLS.map(|(call, how)| {
            let what = format!("guest to guest, round trip 1 B, {mode}, {how}");
            let one = best.of(Case::Rtt, Name::Idts, 1, &[mode, call]);
            let got = best.idts(Case::RelayRtt, 1, &[mode, call]);
            mark(what, got, 2.2, "with dom0", one)
        })
    };
    let bulks = ["polling", "sleeping"].map(bulk);
    bulks
        .into_iter()
        .chain(MODES.into_iter().flat_map(trips))
        .collect()
}

fn messages(best: &Best<'_>) -> Vec<Option<Mark>> {
    let mut marks = Vec::new();
    for way in ["dom0-to-guest", "guest-to-dom0"] {
        let got = best.idts(Case::Messages, 64, &[way]);
        let tcp = |words: &[&str]| best.of(Case::Messages, Name::Tcp, 64, words);
        let what = || format!("messages of 64 B {way}");
        let nodelay = tcp(&[way, "nodelay"]);
        marks.push(mark(what(), got, 1.0 / 5.0, "TCP with NODELAY", nodelay));
        marks.push(mark(what(), got, 1.0 / 1.5, "TCP at its best", tcp(&[way])));
    }
    marks
}

/// Work for each further subscriber, against that of its copies and of its waking. A wake-up is half
/// a round trip of a byte: an event, a process that wakes, a write and a read.
fn fanout(best: &Best<'_>) -> Vec<Option<Mark>> {
    let rate = |copy: &str, role: &str| best.of(Case::Bulk, Name::Limit, 65536, &[copy, role]);
    let one = |mode: &str, bytes: u64| {
        let at = |count: &str| best.idts(Case::Fanout, bytes, &[mode, count]);
        let (first, last) = (at("subscribers-1")?, at("subscribers-8")?);
        let further = Figure {
            value: (last.value - first.value) / 7.0,
            ..last.clone()
        };
        let micros = |gbits: f64| bytes as f64 * 8.0 / gbits / 1000.0;
        let copies = micros(rate("ring-to-ring", "dom0")?) + micros(rate("ring-to-user", "guest")?);
        let wake = best.of(Case::Rtt, Name::Idts, 1, &[mode, "!transact", RING])? / 2.0;
        let what = format!("each further subscriber, {bytes} B, {mode}");
        let why = format!("copies {copies:.2} + wake-up {wake:.2}");
        mark(what, Some(&further), 1.1, &why, Some(copies + wake))
    };
    let modes = MODES.iter();
    modes
        .flat_map(|mode| [1024, 65536].map(|bytes| one(mode, bytes)))
        .collect()
}

fn scale(best: &Best<'_>) -> Vec<Option<Mark>> {
    let mut marks = Vec::new();
    for mode in MODES {
        let with = |count: &str, way: &str| best.idts(Case::Scale, 65536, &[mode, count, way]);
        let one = with("guests-1", "guest-to-dom0").map(|f| f.value);
        let what = format!("work per KiB of 8 guests, {mode}");
        let got = with("guests-8", "guest-to-dom0");
        marks.push(mark(what, got, 1.05, "one guest", one));
        let what = format!("Jain's index of 8 relayed flows, {mode}");
        let got = with("guests-8", "guest-to-guest");
        marks.push(mark(what, got, 1.0, "as wanted", Some(0.99)));
    }
    marks
}

fn setup(best: &Best<'_>) -> Vec<Option<Mark>> {
    let tcp = best.of(Case::Setup, Name::Tcp, 0, &[]);
    let one = |mode: &str| {
        let what = format!("open and close a channel, {mode}");
        mark(
            what,
            best.idts(Case::Setup, 0, &[mode]),
            1.0 / 3.0,
            "TCP",
            tcp,
        )
    };
    MODES.map(one).into()
}

fn pollcost(best: &Best<'_>) -> Vec<Option<Mark>> {
    let of = |mode: &str| best.idts(Case::Pollcost, 64, &[mode]);
    let off = of("halting").map(|f| f.value);
    let what = "a message after each 10 ms, polling".into();
    vec![mark(what, of("polling"), 1.1, "polling off", off)]
}

fn memory(best: &Best<'_>) -> Vec<Option<Mark>> {
    let tunnel = |what: &str, role: &str, most: f64| {
        let got = best.idts(Case::Memory, 0, &["tunnel", role]);
        mark(what.into(), got, 1.0, "as wanted", Some(most))
    };
    vec![
        tunnel("an idle tunnel, of the guest's memory", "guest", 300.0),
        tunnel("an idle tunnel, of dom0's beyond mappings", "dom0", 64.0),
    ]
}

/// Prints the marks that the run has figures for.
pub fn print(figures: &[Figure]) {
    for mark in marks(figures) {
        let verdict = if mark.met() { "met" } else { "NOT met" };
        let show = |value: f64| format!("{value:.*}", digits(value));
        println!(
            "mark {:<52} {:>7} {:<6} wanted {:>7} ({}): {verdict}",
            mark.what,
            show(mark.got),
            mark.unit,
            show(mark.wanted),
            mark.why
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: Case, system: Name, variant: &str, bytes: u64, value: f64) -> Figure {
        Figure {
            case,
            system,
            variant: variant.into(),
            guest: GuestType::Pv,
            bytes,
            n: 1,
            value,
            unit: "us".into(),
            better: Better::Lower,
        }
    }

    #[test]
    fn a_mark_compares_with_the_best_setting_of_a_peer() {
        let figures = [
            figure(Case::Rtt, Name::Tcp, "nagle", 1, 120.0),
            figure(Case::Rtt, Name::Tcp, "nodelay", 1, 100.0),
            figure(Case::Rtt, Name::Idts, "sleeping ring-1M", 1, 50.0),
        ];
        let marks = marks(&figures);
        assert_eq!(marks.len(), 1);
        assert!(marks[0].met());
        assert!((marks[0].wanted - 50.0).abs() < 1e-9);
    }

    #[test]
    fn further_subscribers_are_told_without_the_first() {
        let limit = |variant| Figure {
            better: Better::Higher,
            ..figure(Case::Bulk, Name::Limit, variant, 65536, 8.0)
        };
        let figures = [
            limit("ring-to-ring dom0"),
            limit("ring-to-user guest"),
            figure(Case::Rtt, Name::Idts, "sleeping ring-1M", 1, 20.0),
            figure(
                Case::Fanout,
                Name::Idts,
                "sleeping subscribers-1 ring-1M",
                1024,
                30.0,
            ),
            figure(
                Case::Fanout,
                Name::Idts,
                "sleeping subscribers-8 ring-1M",
                1024,
                100.0,
            ),
        ];
        let marks = marks(&figures);
        assert_eq!(marks.len(), 1);
        assert!((marks[0].got - 10.0).abs() < 1e-9);
        // 1024 bytes at 8 Gb/s take 1.024 us; half a round trip is 10 us.
        assert!((marks[0].wanted - 1.1 * 12.048).abs() < 1e-9);
    }

    #[test]
    fn no_mark_without_its_figures() {
        assert!(marks(&[figure(Case::Setup, Name::Idts, "polling ring-64K", 0, 1.0)]).is_empty());
    }
}

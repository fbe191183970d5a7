// SPDX-License-Identifier: GPL-2.0
//! The figures as one page that needs nothing else: marks, plots, then all of them.

use std::fmt::Write;

use testbed::GuestType;

use crate::cases::Run;
use crate::figure::{Case, Figure, Name};
use crate::marks::marks;
use crate::plot::{plot, Line};
use crate::table::digits;

const STYLE: &str = "body{font:14px/1.4 sans-serif;margin:2em auto;max-width:72em;padding:0 1em}\
table{border-collapse:collapse}td,th{padding:.15em .7em;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}h2{margin-top:2em}\
svg{display:block;width:100%}.no{color:#b00;white-space:nowrap}";

/// A plot: whose figures, of the variants with these words, over what.
struct Chart {
    title: &'static str,
    case: Case,
    words: &'static [&'static str],
    over: Over,
}

/// What a plot's lines run over.
#[derive(Clone, Copy)]
enum Over {
    Bytes,
    /// The number behind this beginning of a word, of figures of so many bytes.
    Count(&'static str, u64),
}

const CHARTS: [Chart; 10] = [
    bytes(
        "Rate by size of a write, dom0 to guest",
        Case::Bulk,
        &["dom0-to-guest"],
    ),
    bytes(
        "Rate by size of a write, guest to dom0",
        Case::Bulk,
        &["guest-to-dom0"],
    ),
    bytes("Round trip by size, dom0 and guest", Case::Rtt, &[]),
    bytes(
        "Rate by size of a write, guest to guest",
        Case::RelayBulk,
        &["guest-to-guest"],
    ),
    bytes("Round trip by size, guest to guest", Case::RelayRtt, &[]),
    bytes(
        "A message, dom0 to guest",
        Case::Messages,
        &["dom0-to-guest"],
    ),
    bytes(
        "A message, guest to dom0",
        Case::Messages,
        &["guest-to-dom0"],
    ),
    count(
        "A record of 64 KiB to so many guests",
        Case::Fanout,
        &[],
        "subscribers-",
        65536,
    ),
    count(
        "A record of 1 KiB to so many guests",
        Case::Fanout,
        &[],
        "subscribers-",
        1024,
    ),
    count(
        "Work for a KiB from so many guests",
        Case::Scale,
        &["guest-to-dom0"],
        "guests-",
        65536,
    ),
];

const fn bytes(title: &'static str, case: Case, words: &'static [&'static str]) -> Chart {
    Chart {
        title,
        case,
        words,
        over: Over::Bytes,
    }
}

const fn count(
    title: &'static str,
    case: Case,
    words: &'static [&'static str],
    beginning: &'static str,
    bytes: u64,
) -> Chart {
    Chart {
        title,
        case,
        words,
        over: Over::Count(beginning, bytes),
    }
}

impl Over {
    /// Where a figure is on the axis; `None`: it is not in this plot.
    fn of(self, figure: &Figure) -> Option<u64> {
        match self {
            Over::Bytes => Some(figure.bytes),
            Over::Count(beginning, bytes) => {
                let words = figure.variant.split(' ');
                let number = words.filter_map(|word| word.strip_prefix(beginning)).next();
                number?.parse().ok().filter(|_| figure.bytes == bytes)
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Over::Bytes => "bytes",
            Over::Count(..) => "guests",
        }
    }

    /// What is left of a variant's words for a line's name.
    fn tells(self, word: &str) -> bool {
        !matches!(self, Over::Count(beginning, _) if word.starts_with(beginning))
    }
}

/// The whole page.
pub fn page(run: &Run) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>IDTS bench</title>\
         <style>{STYLE}</style><h1>IDTS bench</h1><p>Time is instructions of the whole machine, \
         1 ns each: the total work of all domains and of Xen, not the latency of real CPUs. Only \
         the case wall is real time.</p><ul>"
    );
    for note in &run.notes {
        let _ = write!(out, "<li>{}</li>", escape(note));
    }
    out.push_str("</ul>");
    mark_table(&mut out, &run.figures);
    for kind in [GuestType::Pv, GuestType::Pvh] {
        for chart in &CHARTS {
            draw(&mut out, &run.figures, chart, kind);
        }
    }
    figure_table(&mut out, &run.figures);
    out.push_str("</html>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn draw(out: &mut String, figures: &[Figure], chart: &Chart, kind: GuestType) {
    let mut lines: Vec<Line> = Vec::new();
    let (mut unit, mut limit) = (None, None);
    let of_chart = |f: &&Figure| f.case == chart.case && f.guest == kind && f.is(chart.words);
    for f in figures.iter().filter(of_chart) {
        let Some(at) = chart.over.of(f) else {
            continue;
        };
        if f.system == Name::Limit {
            // A bare copy is no path.
            limit = limit.or(Some(f).filter(|f| !f.variant.contains(' ')));
            continue;
        }
        unit = unit.or(Some(&f.unit));
        let told = |word: &&str| !chart.words.contains(word) && chart.over.tells(word);
        let words: Vec<_> = f.variant.split(' ').filter(told).collect();
        let label = format!("{} {}", f.system, words.join(" "));
        match lines.iter_mut().find(|line| line.label == label) {
            Some(line) => line.points.push((at, f.value)),
            None => lines.push(line(f, label, vec![(at, f.value)])),
        }
    }
    // It is measured at one size, and holds for all.
    let sizes = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.0);
    if let (Some(limit), Some(low), Some(high)) = (limit, sizes.clone().min(), sizes.max()) {
        let points = vec![(low, limit.value), (high, limit.value)];
        lines.push(line(limit, "limit of the copies".into(), points));
    }
    let Some(unit) = unit else { return };
    let guest = kind.to_string().to_uppercase();
    let _ = write!(out, "<h2>{}, {guest} ({unit})</h2>", chart.title);
    plot(out, &lines, chart.over.name(), |at| match chart.over {
        Over::Bytes => crate::system::short(at as u32),
        Over::Count(..) => at.to_string(),
    });
}

fn line(figure: &Figure, label: String, points: Vec<(u64, f64)>) -> Line {
    let (colour, dash) = stroke(figure);
    Line {
        label,
        colour,
        dash,
        points,
    }
}

/// A colour for each system and way of waiting, a pattern for each setting.
fn stroke(figure: &Figure) -> (&'static str, &'static str) {
    let colour = match figure.system {
        Name::Idts if figure.is(&["polling"]) => "#064",
        Name::Idts if figure.is(&["halting"]) => "#0a6",
        Name::Idts => "#7c4",
        Name::Tcp => "#c40",
        Name::Vchan => "#25c",
        Name::Limit => "#333",
    };
    let dash = match () {
        () if figure.is(&["ring-64K"]) || figure.is(&["nagle"]) => "7 3",
        () if figure.is(&["ring-default"]) => "2 3",
        () if figure.is(&["ring-4M"]) => "12 4",
        () => "",
    };
    (colour, dash)
}

fn mark_table(out: &mut String, figures: &[Figure]) {
    let marks = marks(figures);
    if marks.is_empty() {
        return;
    }
    out.push_str("<h2>Marks</h2><table><tr><th>what<th>reached<th>wanted<th>from<th>");
    for mark in marks {
        let show = |value: f64| format!("{value:.*}", digits(value));
        let verdict = if mark.met() {
            "met"
        } else {
            "<b class=\"no\">not met</b>"
        };
        let _ = write!(
            out,
            "<tr><td>{}<td class=\"n\">{} {}<td class=\"n\">{}<td>{}<td>{verdict}",
            mark.what,
            show(mark.got),
            mark.unit,
            show(mark.wanted),
            mark.why
        );
    }
    out.push_str("</table>");
}

fn figure_table(out: &mut String, figures: &[Figure]) {
    out.push_str(
        "<h2>All figures</h2><table><tr><th>case<th>system<th>guest<th>variant<th>bytes<th>n<th>value<th>",
    );
    for f in figures {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{:.*}<td>{}",
            f.case,
            f.system,
            f.guest,
            f.variant,
            f.bytes,
            f.n,
            digits(f.value),
            f.value,
            f.unit
        );
    }
    out.push_str("</table>");
}

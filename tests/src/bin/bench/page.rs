// SPDX-License-Identifier: GPL-2.0
//! The figures as one page that needs nothing else: plots as SVG, then the tables.

use std::fmt::Write;

use testbed::GuestType;

use crate::cases::Run;
use crate::figure::{Case, Figure, Name};
use crate::marks::marks;
use crate::table::digits;

/// Size of a plot and the room for its labels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 36.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 16.0;

const STYLE: &str = "body{font:14px/1.4 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}\
table{border-collapse:collapse}td,th{padding:.15em .7em;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2em}.no{color:#b00}";

/// The whole page.
pub fn page(run: &Run) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>IDTS bench</title>\
         <style>{STYLE}</style><h1>IDTS bench</h1><p>Time is instructions of the whole machine, \
         1 ns each: the total work of all domains and of Xen, not the latency of real CPUs.</p><ul>"
    );
    for note in &run.notes {
        let _ = write!(out, "<li>{}</li>", escape(note));
    }
    out.push_str("</ul>");
    for kind in [GuestType::Pv, GuestType::Pvh] {
        for (case, title) in [
            (Case::Bulk, "Rate by size of a write"),
            (Case::Rtt, "Round trip by size"),
            (Case::RelayBulk, "Guest to guest: rate by size of a write"),
            (Case::RelayRtt, "Guest to guest: round trip by size"),
        ] {
            plot(&mut out, &run.figures, case, kind, title);
        }
    }
    mark_table(&mut out, &run.figures);
    figure_table(&mut out, &run.figures);
    out.push_str("</html>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The lines of a plot: label and points, a line for each system and variant.
fn lines(figures: &[Figure], case: Case, kind: GuestType) -> Vec<(String, Vec<&Figure>)> {
    let mut lines: Vec<(String, Vec<&Figure>)> = Vec::new();
    let bare = |f: &Figure| f.system == Name::Limit && f.variant.contains(' ');
    for f in figures {
        if f.case != case || f.guest != kind || bare(f) {
            continue;
        }
        let label = format!("{} {}", f.system, f.variant);
        match lines.iter_mut().find(|(known, _)| *known == label) {
            Some((_, points)) => points.push(f),
            None => lines.push((label, vec![f])),
        }
    }
    lines
}

/// Sizes go by powers of two, values by powers of ten.
fn plot(out: &mut String, figures: &[Figure], case: Case, kind: GuestType, title: &str) {
    let lines = lines(figures, case, kind);
    let all: Vec<_> = lines.iter().flat_map(|(_, points)| points.iter()).collect();
    let Some(first) = all.first() else { return };
    let unit = &first.unit;
    let bounds = |of: &dyn Fn(&Figure) -> f64| {
        let low = all.iter().map(|f| of(f)).fold(f64::MAX, f64::min).floor();
        let high = all.iter().map(|f| of(f)).fold(f64::MIN, f64::max).ceil();
        (low, if high > low { high } else { low + 1.0 })
    };
    let (x_of, y_of) = (
        |f: &Figure| (f.bytes as f64).log2(),
        |f: &Figure| f.value.log10(),
    );
    let ((x0, x1), (y0, y1)) = (bounds(&x_of), bounds(&y_of));
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP);
    let _ = write!(
        out,
        "<h2>{title}, {} guest ({unit})</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"11\">",
        kind.to_string().to_uppercase()
    );
    let mut tick = y0;
    while tick <= y1 {
        let at = y(tick);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            10f64.powf(tick)
        );
        tick += 1.0;
    }
    let mut sizes: Vec<u64> = all.iter().map(|f| f.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x((size as f64).log2()),
            HEIGHT - BOTTOM + 18.0,
            crate::system::short(size as u32)
        );
    }
    for (index, (label, points)) in lines.iter().enumerate() {
        let (colour, dash) = stroke(points[0].system, index);
        let path: Vec<_> = points
            .iter()
            .map(|f| format!("{:.1},{:.1}", x(x_of(f)), y(y_of(f))))
            .collect();
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\" points=\"{}\"/>",
            path.join(" ")
        );
        for point in &path {
            let (cx, cy) = point.split_once(',').unwrap_or_default();
            let _ = write!(
                out,
                "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"2.5\" fill=\"{colour}\"/>"
            );
        }
        let at = TOP + 15.0 * index as f64;
        let _ = write!(
            out,
            "<line x1=\"{0}\" x2=\"{1}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" \
             stroke-dasharray=\"{dash}\"/><text x=\"{2}\" y=\"{3}\">{label}</text>",
            WIDTH - RIGHT + 10.0,
            WIDTH - RIGHT + 34.0,
            WIDTH - RIGHT + 40.0,
            at + 4.0
        );
    }
    out.push_str("</svg>");
}

/// A colour for each system, a pattern for each of its lines.
fn stroke(system: Name, index: usize) -> (&'static str, &'static str) {
    let colour = match system {
        Name::Idts => "#0a6",
        Name::Tcp => "#c40",
        Name::Vchan => "#25c",
        Name::Limit => "#333",
    };
    (
        colour,
        ["", "6 3", "2 2", "8 3 2 3", "1 3", "10 4"][index % 6],
    )
}

fn mark_table(out: &mut String, figures: &[Figure]) {
    out.push_str("<h2>Marks</h2><table><tr><th>what<th>reached<th>wanted<th>from<th>");
    for mark in marks(figures) {
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

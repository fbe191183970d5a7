// SPDX-License-Identifier: GPL-2.0
//! A plot as SVG: lines over sizes or counts that double, both axes logarithmic.

use std::fmt::Write;

/// Size of a plot and the room for its labels.
const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 270.0;
const TOP: f64 = 16.0;
/// Between two lines of the legend.
const LEGEND: f64 = 18.0;

/// A line of a plot.
pub struct Line {
    pub label: String,
    pub colour: &'static str,
    /// Lengths of dashes and gaps; empty: a line without gaps.
    pub dash: &'static str,
    pub points: Vec<(u64, f64)>,
}

/// An axis: from the least to the most of some values, told as logarithms.
struct Axis {
    low: f64,
    high: f64,
    /// Where it begins and ends on the page.
    from: f64,
    to: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }
}

fn axis(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
    let low = values.clone().fold(f64::MAX, f64::min).ln();
    let high = values.fold(f64::MIN, f64::max).ln();
    // A single value is in the middle.
    let room = if high > low { 0.0 } else { 0.5 };
    Axis {
        low: low - room,
        high: high + room,
        from,
        to,
    }
}

/// The numbers 1, 2 and 5 with zeros, those next outside of the values included.
fn ticks(values: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let low = values.clone().fold(f64::MAX, f64::min);
    let high = values.fold(f64::MIN, f64::max);
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all: Vec<f64> = decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)))
        .collect();
    let first = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= high);
    all[first..=last.unwrap_or(all.len() - 1)].to_vec()
}

/// A tick without digits that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Writes a plot. `x_name` is what the lines run over, `label` how one of its values is told.
pub fn plot(out: &mut String, lines: &[Line], x_name: &str, label: impl Fn(u64) -> String) {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let ticks = ticks(points().map(|point| point.1));
    let x = axis(
        points().map(|point| point.0 as f64),
        LEFT + 14.0,
        WIDTH - RIGHT - 14.0,
    );
    let y = axis(ticks.iter().copied(), HEIGHT - BOTTOM, TOP);
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"12\">"
    );
    for tick in &ticks {
        let at = y.at(*tick);
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            number(*tick)
        );
    }
    let mut values: Vec<u64> = points().map(|point| point.0).collect();
    values.sort_unstable();
    values.dedup();
    for value in values {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x.at(value as f64),
            HEIGHT - BOTTOM + 18.0,
            label(value)
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{x_name}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0
    );
    for (index, line) in lines.iter().enumerate() {
        draw(out, line, &x, &y);
        legend(out, line, TOP + 4.0 + LEGEND * index as f64);
    }
    out.push_str("</svg>");
}

fn draw(out: &mut String, line: &Line, x: &Axis, y: &Axis) {
    let Line { colour, dash, .. } = line;
    let at = |(size, value): &(u64, f64)| (x.at(*size as f64), y.at(*value));
    let spots: Vec<_> = line.points.iter().map(at).collect();
    let path: Vec<_> = spots
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = write!(
        out,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
         stroke-dasharray=\"{dash}\" points=\"{}\"/>",
        path.join(" ")
    );
    for (x, y) in spots {
        let _ = write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"/>"
        );
    }
}

fn legend(out: &mut String, line: &Line, at: f64) {
    let Line {
        label,
        colour,
        dash,
        ..
    } = line;
    let (from, to) = (WIDTH - RIGHT + 14.0, WIDTH - RIGHT + 50.0);
    let _ = write!(
        out,
        "<line x1=\"{from}\" x2=\"{to}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" \
         stroke-width=\"2\" stroke-dasharray=\"{dash}\"/><text x=\"{}\" y=\"{}\">{label}</text>",
        to + 8.0,
        at + 4.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_enclose_the_values() {
        assert_eq!(
            ticks([7.0, 180.0].into_iter()),
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
        );
        assert_eq!(ticks([20.0].into_iter()), [20.0]);
        assert_eq!(number(0.05), "0.05");
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn a_plot_has_each_line_and_nothing_endless() {
        let line = Line {
            label: "one point".into(),
            colour: "#000",
            dash: "",
            points: vec![(64, 20.0)],
        };
        let mut out = String::new();
        plot(&mut out, &[line], "bytes", |bytes| bytes.to_string());
        assert!(out.contains("one point") && out.contains(">64<"));
        assert!(!out.contains("NaN") && !out.contains("inf"));
    }
}

// SPDX-License-Identifier: GPL-2.0
//! One measured figure, and all of a run. The names are those of the JSON that the bench writes.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use testbed::GuestType;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    Rtt,
    Bulk,
    Messages,
    RelayRtt,
    RelayBulk,
    Fanout,
    Scale,
    Setup,
    Memory,
    Pollcost,
    Wall,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    Idts,
    Tcp,
    Vchan,
    Limit,
}

/// Which way a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub case: Case,
    pub system: Name,
    /// How, in words with a space between: `polling dom0-to-guest ring-1M`.
    pub variant: String,
    pub guest: GuestType,
    /// Of one message, or of one write.
    pub bytes: u64,
    /// How many of them were counted.
    pub n: u64,
    pub value: f64,
    pub unit: String,
    pub better: Better,
}

impl Figure {
    /// Whether the variant has all of these words.
    pub fn is(&self, words: &[&str]) -> bool {
        let has = |word: &&str| self.variant.split(' ').any(|part| part == *word);
        words.iter().all(has)
    }

    fn is_worse_than(&self, value: f64) -> bool {
        match self.better {
            Better::Lower => self.value > value,
            Better::Higher => self.value < value,
        }
    }

    /// All but the value.
    pub fn same_thing(&self, other: &Figure) -> bool {
        let key = |f: &Figure| (f.case, f.system, f.guest, f.bytes, f.n);
        key(self) == key(other) && self.variant == other.variant
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Microseconds of each of `n` round trips.
pub fn micros(ns: u64, n: u64) -> f64 {
    ns as f64 / n as f64 / 1000.0
}

/// Gigabits a second.
pub fn gbits(bytes: u64, ns: u64) -> f64 {
    bytes as f64 * 8.0 / ns as f64
}

/// The rate of bytes that are copied at each of these rates, one copy after the other.
pub fn chained(rates: &[f64]) -> f64 {
    1.0 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// The mean of what was measured again and again but for the least and the most, which may be strays.
pub fn usual(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let inner = match values.as_slice() {
        [_, inner @ .., _] if !inner.is_empty() => inner,
        few => few,
    };
    inner.iter().sum::<f64>() / inner.len() as f64
}

/// Jain's index of these rates: 1 if all are the same, down to 1 / n if one has all.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    sum * sum / (rates.len() as f64 * squares)
}

/// Kibibytes by which the memory that a domain uses differs from look to look.
const MEMORY_BLUR: f64 = 64.0;

/// By how much a figure may be another one the next time.
fn slack(figure: &Figure, share: f64) -> f64 {
    let blur = match figure.case {
        Case::Memory => MEMORY_BLUR / figure.n as f64,
        _ => 0.0,
    };
    blur.max(share * figure.value.abs())
}

/// Where two runs of the same thing differ by more than `share`: what, before, now.
pub fn differences(before: &[Figure], now: &[Figure], share: f64) -> Vec<(Figure, f64)> {
    // Real time is another one in each run: that is what its range is told for.
    let counted = now.iter().filter(|figure| figure.case != Case::Wall);
    let strays = counted.filter_map(|figure| {
        let old = before.iter().find(|old| old.same_thing(figure))?;
        let stray = (figure.value - old.value).abs() > slack(old, share);
        stray.then(|| (figure.clone(), old.value))
    });
    strays.collect()
}

/// Where a run of IDTS is worse than an earlier one by more than `share`: what, before, now.
pub fn worse(before: &[Figure], now: &[Figure], share: f64) -> Vec<(Figure, f64)> {
    let mut strays = differences(before, now, share);
    strays.retain(|(figure, old)| figure.system == Name::Idts && figure.is_worse_than(*old));
    strays
}

/// The one in the middle of three.
pub fn median(mut values: [f64; 3]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Figure {
        Figure {
            case: Case::RelayRtt,
            system: Name::Idts,
            variant: "sleeping ring-1M".into(),
            guest: GuestType::Pv,
            bytes: 1,
            n: 300,
            value,
            unit: "us".into(),
            better: Better::Lower,
        }
    }

    #[test]
    fn strays_do_not_count() {
        assert_eq!(usual(vec![60.0, 44.7, 62.0, 61.0, 99.0]), 61.0);
        assert_eq!(usual(vec![3.0, 9.0, 1.0]), 3.0);
        assert_eq!(usual(vec![1.0, 2.0]), 1.5);
        assert_eq!(usual(vec![7.0]), 7.0);
    }

    #[test]
    fn json_has_the_names_that_are_documented() {
        let text = serde_json::to_string(&figure(1.5)).unwrap();
        assert_eq!(
            text,
            r#"{"case":"relay-rtt","system":"idts","variant":"sleeping ring-1M","guest":"pv","bytes":1,"n":300,"value":1.5,"unit":"us","better":"lower"}"#
        );
    }

    #[test]
    fn two_equal_copies_halve_the_rate() {
        assert!((chained(&[52.0, 52.0]) - 26.0).abs() < 1e-9);
        assert!((chained(&[30.0]) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn jain_tells_even_from_uneven() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn only_what_strays_is_told() {
        let before = [figure(100.0)];
        assert!(differences(&before, &[figure(101.9)], 0.02).is_empty());
        assert_eq!(differences(&before, &[figure(102.1)], 0.02).len(), 1);
        assert_eq!(differences(&before, &[figure(97.9)], 0.02).len(), 1);
    }

    #[test]
    fn only_ours_are_worse_and_only_on_the_worse_side() {
        let before = [figure(100.0)];
        assert_eq!(worse(&before, &[figure(102.1)], 0.02).len(), 1);
        assert!(worse(&before, &[figure(101.9)], 0.02).is_empty());
        assert!(worse(&before, &[figure(50.0)], 0.02).is_empty());
        let rate = |value| Figure {
            better: Better::Higher,
            ..figure(value)
        };
        assert_eq!(worse(&[rate(100.0)], &[rate(97.9)], 0.02).len(), 1);
        assert!(worse(&[rate(100.0)], &[rate(150.0)], 0.02).is_empty());
        let peer = |value| Figure {
            system: Name::Tcp,
            ..figure(value)
        };
        assert!(worse(&[peer(100.0)], &[peer(150.0)], 0.02).is_empty());
    }

    #[test]
    fn of_three_the_one_in_the_middle_counts() {
        assert_eq!(median([103.0, 99.0, 101.0]), 101.0);
    }

    #[test]
    fn memory_may_stray_by_what_blurs_it() {
        let of = |value| Figure {
            case: Case::Memory,
            n: 128,
            ..figure(value)
        };
        assert!(differences(&[of(1.0)], &[of(1.5)], 0.02).is_empty());
        assert_eq!(differences(&[of(1.0)], &[of(1.6)], 0.02).len(), 1);
    }

    #[test]
    fn words_of_a_variant() {
        assert!(figure(1.0).is(&["ring-1M"]));
        assert!(!figure(1.0).is(&["ring-1M", "polling"]));
    }
}

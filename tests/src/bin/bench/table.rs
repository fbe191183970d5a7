// SPDX-License-Identifier: GPL-2.0
//! The figures as a table on the terminal.

use crate::cases::Run;

/// Prints notes and figures.
pub fn print(run: &Run) {
    for note in &run.notes {
        println!("{note}");
    }
    println!(
        "{:<10} {:<6} {:<5} {:<40} {:>8} {:>7} {:>10}",
        "case", "system", "guest", "variant", "bytes", "n", "value"
    );
    for f in &run.figures {
        let value = format!("{:.*}", digits(f.value), f.value);
        println!(
            "{:<10} {:<6} {:<5} {:<40} {:>8} {:>7} {value:>10} {}",
            f.case,
            f.system,
            f.guest.to_string(),
            f.variant,
            f.bytes,
            f.n,
            f.unit
        );
    }
}

/// Digits behind the point, for three that say something.
pub fn digits(value: f64) -> usize {
    match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a transfer shows: a bar on a terminal while it runs, then one line on
//! stderr for people or one JSON object on stdout for machines.

use std::time::{Duration, Instant};

use idts::output::{print_account, say, Unwritten};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use crate::transfer::Outcome;

/// A bar of `length` bytes; shows nothing where stderr is no terminal.
pub fn bar(length: u64) -> ProgressBar {
    const FORM: &str =
        "{bar:32} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    let bar = ProgressBar::new(length);
    bar.set_style(
        ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

/// A finished transfer.
pub struct Transfer<'a> {
    /// `sent` or `received`.
    pub what: &'a str,
    pub file: String,
    pub peer: String,
    pub outcome: Outcome,
    pub started: Instant,
}

impl Transfer<'_> {
    /// Tells it, as JSON or to people.
    ///
    /// # Errors
    /// JSON that cannot be printed; people who cannot be told do not matter.
    pub fn print(&self, as_json: bool) -> Result<(), Unwritten> {
        let elapsed = self.started.elapsed();
        if as_json {
            print_account(self.to_json(elapsed))
        } else {
            say(self.to_line(elapsed));
            Ok(())
        }
    }

    fn to_json(&self, elapsed: Duration) -> Value {
        json!({
            "what": self.what,
            "file": self.file,
            "peer": self.peer,
            "bytes": self.outcome.bytes,
            "seconds": elapsed.as_secs_f64(),
            "bytes_per_second": rate(self.outcome.bytes, elapsed),
            "crc32": format!("{:08x}", self.outcome.crc32),
        })
    }

    fn to_line(&self, elapsed: Duration) -> String {
        let preposition = if self.what == "sent" { "to" } else { "from" };
        format!(
            "{} {}: {} bytes {preposition} {} in {:.3} s ({}/s), crc32 {:08x}",
            self.what,
            self.file,
            self.outcome.bytes,
            self.peer,
            elapsed.as_secs_f64(),
            HumanBytes(rate(self.outcome.bytes, elapsed) as u64),
            self.outcome.crc32,
        )
    }
}

/// Bytes in a second; finite even when no time was measured.
fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_the_facts() {
        let transfer = Transfer {
            what: "sent",
            file: "f".into(),
            peer: "3:7".into(),
            outcome: Outcome {
                bytes: 2048,
                crc32: 0xab,
            },
            started: Instant::now(),
        };
        let json = transfer.to_json(Duration::from_secs(2));
        assert_eq!(json["bytes"], 2048);
        assert_eq!(json["crc32"], "000000ab");
        assert_eq!(json["bytes_per_second"], 1024.0);
        assert_eq!(
            transfer.to_line(Duration::from_secs(2)),
            "sent f: 2048 bytes to 3:7 in 2.000 s (1.00 KiB/s), crc32 000000ab"
        );
        assert!(rate(0, Duration::ZERO).is_finite());
    }
}

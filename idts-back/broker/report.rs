// SPDX-License-Identifier: GPL-2.0

//! The debugfs file `scheduler`.

use kernel::debugfs::Writer;
use kernel::fmt;
use kernel::sync::Arc;

use super::worker::Worker;

/// The content of the file.
pub(super) struct SchedulerReport(pub(super) Arc<Worker>);

impl Writer for SchedulerReport {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (policy, rate, waiting, totals) = self
            .0
            .with(|s| (s.policy(), s.total_rate(), s.waiting(), s.totals()));
        writeln!(f, "policy {}", policy.name())?;
        writeln!(f, "rate {rate}")?;
        writeln!(f, "waiting {waiting}")?;
        for (name, value) in totals.named() {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0
//! One to many: dom0 publishes records that so many guests read. IDTS does it by a group, its peers
//! by a connection for each guest, with one write after the other.

use anyhow::Result;

use super::{is_usual, tcp, words, Run, Series};
use crate::bed::Bed;
use crate::figure::{Case, Name};
use crate::system::System;

/// Bytes of a record, and how many are counted.
const RECORDS: [(u64, u64); 2] = [(1024, 2000), (65536, 256)];

/// For one system, to so many guests.
pub fn to(bed: &Bed, run: &mut Run, system: &System, mode: &str, guests: usize) -> Result<()> {
    // NODELAY is what a peer's small records may go better or worse with.
    if !is_usual(system) && system.name() != Name::Tcp {
        return Ok(());
    }
    tcp::fairly(bed, run, system, |run| {
        publish(bed, run, system, mode, guests)
    })
}

fn publish(bed: &Bed, run: &mut Run, system: &System, mode: &str, guests: usize) -> Result<()> {
    let readers = bed.tb.guests().into_iter().take(guests);
    let services = readers
        .map(|reader| bed.serve("serve", system, &reader, "dom0"))
        .collect::<Result<Vec<_>>>()?;
    let op = if system.name() == Name::Idts {
        "group"
    } else {
        "send"
    };
    let cases = RECORDS.map(|(bytes, n)| format!("{op}:{bytes}:{n}"));
    let (name, count) = (system.name().to_string(), guests.to_string());
    let mut args = vec!["fan", &name, &count];
    args.extend(services.iter().map(|service| service.to.as_str()));
    let times = bed.load("dom0", &args, &cases)?;
    let variant = words(&[mode, &format!("subscribers-{guests}"), &system.setting()]);
    let series = Series {
        system: system.name(),
        variant: &variant,
        guest: bed.kind,
    };
    for ((bytes, n), ns) in RECORDS.into_iter().zip(times) {
        run.micros(Case::Fanout, series, bytes, n, ns);
    }
    Ok(())
}

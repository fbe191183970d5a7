// SPDX-License-Identifier: GPL-2.0
//! The cases between two domains, the same for every system: round trip, bulk and messages, between
//! dom0 and a guest and between two guests.

use anyhow::Result;

use super::{tcp, words, Run, Series};
use crate::bed::Bed;
use crate::figure::Case;
use crate::system::System;

/// Bytes of a round trip.
const RTT: [u64; 5] = [1, 64, 1024, 4096, 65536];
/// Bytes of a write.
const BULK: [u64; 8] = [64, 256, 1024, 4096, 16384, 65536, 262_144, 1_048_576];
/// Bytes of a message.
const MESSAGES: [u64; 2] = [64, 1024];
/// In the quick run.
const QUICK_RTT: [u64; 1] = [1];
const QUICK_BULK: [u64; 1] = [65536];

/// Round trips that are counted.
const TRIPS: u64 = 1000;
/// Bytes that are counted one way, and writes at most.
const VOLUME: u64 = 64 << 20;
const WRITES: u64 = 100_000;
/// Writes of TCP, which needs many times the work, most of all across the bridge. Of bytes as many as of
/// others: the one packet that netback drops where its queue is full is nothing beside them.
const TCP_WRITES: u64 = 20_000;

/// What a new TCP connection runs first, to find its pace: it differs from run to run.
const PACE: &str = "rtt:1:1000";

/// Domains at both ends, and the words for that.
struct Ends {
    client: &'static str,
    server: &'static str,
    /// When the client writes, and when it reads.
    there: &'static str,
    back: &'static str,
    rtt: Case,
    bulk: Case,
}

const WITH_DOM0: Ends = Ends {
    client: "dom0",
    server: "u1",
    there: "dom0-to-guest",
    back: "guest-to-dom0",
    rtt: Case::Rtt,
    bulk: Case::Bulk,
};

/// Guests are alike: one direction says all.
const GUESTS: Ends = Ends {
    client: "u1",
    server: "u2",
    there: "guest-to-guest",
    back: "guest-to-guest",
    rtt: Case::RelayRtt,
    bulk: Case::RelayBulk,
};

/// A round trip by one call at each end, which IDTS alone has, instead of a write and a read.
const TRANSACT: &str = "transact";

/// What is run on one connection, and how its time is kept.
struct Item {
    case: Case,
    /// As the load calls it.
    op: &'static str,
    /// Words of the variant: which way, or by which call.
    way: &'static str,
    bytes: u64,
    n: u64,
}

impl Item {
    fn text(&self) -> String {
        format!("{}:{}:{}", self.op, self.bytes, self.n)
    }
}

/// One of these cases for one system. `mode` is how IDTS waits, else empty.
pub fn all(bed: &Bed, run: &mut Run, case: Case, system: &System, mode: &str) -> Result<()> {
    for ends in [&WITH_DOM0, &GUESTS] {
        let items = items(case, run.quick, ends, system);
        if !items.is_empty() {
            tcp::fairly(bed, run, system, |run| {
                between(bed, run, &items, system, mode, ends)
            })?;
        }
    }
    Ok(())
}

fn between(
    bed: &Bed,
    run: &mut Run,
    items: &[Item],
    system: &System,
    mode: &str,
    ends: &Ends,
) -> Result<()> {
    let first = matches!(system, System::Tcp { .. }).then(|| PACE.to_string());
    let paces = usize::from(first.is_some());
    let cases: Vec<_> = first
        .into_iter()
        .chain(items.iter().map(Item::text))
        .collect();
    let domains = [ends.client, ends.server];
    let times = bed.run(system, domains, run.rounds(), &cases)?;
    for (item, ns) in items.iter().zip(times.into_iter().skip(paces)) {
        let variant = words(&[mode, item.way, &system.setting()]);
        let series = Series {
            system: system.name(),
            variant: &variant,
            guest: bed.kind,
        };
        match item.case {
            Case::Bulk | Case::RelayBulk => {
                run.gbits(item.case, series, item.bytes, item.n, ns);
            }
            // Of a message as of a round trip: the work of one.
            _ => run.micros(item.case, series, item.bytes, item.n, ns),
        }
    }
    Ok(())
}

fn items(wanted: Case, quick: bool, ends: &Ends, system: &System) -> Vec<Item> {
    let mut items = Vec::new();
    let writes = match system {
        System::Tcp { .. } => TCP_WRITES,
        _ => WRITES,
    };
    let mut add = |case, op, way, bytes, n| {
        if case == wanted {
            items.push(Item {
                case,
                op,
                way,
                bytes,
                n,
            });
        }
    };
    let (rtt, bulk) = match quick {
        true => (&QUICK_RTT[..], &QUICK_BULK[..]),
        false => (&RTT[..], &BULK[..]),
    };
    for &bytes in rtt {
        add(ends.rtt, "rtt", "", bytes, TRIPS);
        if matches!(system, System::Idts { .. }) {
            add(ends.rtt, "trip", TRANSACT, bytes, TRIPS);
        }
    }
    let ways = [("send", ends.there), ("recv", ends.back)];
    for &(op, way) in &ways[..if ends.there == ends.back { 1 } else { 2 }] {
        for &bytes in bulk {
            add(ends.bulk, op, way, bytes, (VOLUME / bytes).min(writes));
        }
        for bytes in MESSAGES.into_iter().filter(|_| ends.bulk == Case::Bulk) {
            add(Case::Messages, op, way, bytes, writes);
        }
    }
    items
}

// SPDX-License-Identifier: GPL-2.0
//! What TCP needs to be at its best: offloads on, and queues long enough that next to nothing is
//! sent twice. All of it is noted.

use anyhow::{Context, Result};

use super::Run;
use crate::bed::Bed;
use crate::figure::{Figure, Name};
use crate::system::System;

/// Share of segments that may be sent twice.
const RETRANSMITS: f64 = 0.001;
/// Lengths of a device's queue that are tried.
const QUEUES: [u32; 3] = [1000, 4000, 16_000];
const LONGEST: u32 = QUEUES[QUEUES.len() - 1];

/// Notes what the devices of the path offload.
pub fn note_settings(bed: &Bed, run: &mut Run) -> Result<()> {
    let guest = bed.device("u1", "eth0")?;
    let back = bed.device("dom0", &backend(bed, "u1")?)?;
    run.note(format!("tcp: netfront offloads {guest}, netback {back}"));
    Ok(())
}

/// The device in dom0 that leads to a guest.
fn backend(bed: &Bed, guest: &str) -> Result<String> {
    Ok(format!("vif{}.0", bed.domid(guest)?))
}

/// Measures; TCP once more with longer queues as long as too much was sent twice. They stay long.
pub fn fairly(
    bed: &Bed,
    run: &mut Run,
    system: &System,
    mut what: impl FnMut(&mut Run) -> Result<()>,
) -> Result<()> {
    if system.name() != Name::Tcp {
        return what(run);
    }
    for queue in QUEUES.into_iter().filter(|queue| *queue >= bed.queue.get()) {
        if bed.queue.replace(queue) != queue {
            set_queues(bed, queue)?;
        }
        let before = segments(bed)?;
        let kept = run.figures.len();
        what(run)?;
        let after = segments(bed)?;
        let (sent, twice) = (after.0 - before.0, after.1 - before.1);
        let share = twice as f64 / sent.max(1) as f64;
        let cases = cases_of(&run.figures[kept..]);
        run.note(format!(
            "tcp {} {}, {cases}: queues of {queue}, {twice} of {sent} segments sent twice",
            bed.kind,
            system.setting()
        ));
        if share < RETRANSMITS {
            return Ok(());
        }
        if queue == LONGEST {
            // The kernel takes no queue that is much longer: the note tells what this is worth.
            run.note(format!(
                "tcp {cases}: more than 0.1 % is sent twice, however long the queues"
            ));
            return Ok(());
        }
        run.figures.truncate(kept);
    }
    Ok(())
}

/// The cases that these are figures of.
fn cases_of(figures: &[Figure]) -> String {
    let mut names: Vec<_> = figures.iter().map(|f| f.case.to_string()).collect();
    names.dedup();
    names.join(" ")
}

fn set_queues(bed: &Bed, length: u32) -> Result<()> {
    for guest in bed.tb.guests() {
        let device = backend(bed, &guest)?;
        let set = |device: &str| format!("echo {length} >/sys/class/net/{device}/tx_queue_len");
        bed.tb.sh("dom0", &set(&device))?;
        bed.tb.sh(&guest, &set("eth0"))?;
    }
    Ok(())
}

/// Segments that all domains sent, and sent twice.
fn segments(bed: &Bed) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for domain in bed.domains() {
        let text = bed
            .tb
            .sh(&domain, "grep ^Tcp: /proc/net/snmp")?
            .stdout_text();
        let (sent, twice) = parse(&text).with_context(|| text.clone())?;
        sum = (sum.0 + sent, sum.1 + twice);
    }
    Ok(sum)
}

/// `OutSegs` and `RetransSegs` out of two lines, of names and of numbers.
fn parse(text: &str) -> Option<(u64, u64)> {
    let (names, numbers) = text.trim().split_once('\n')?;
    let find = |wanted: &str| {
        let index = names.split_whitespace().position(|name| name == wanted)?;
        numbers.split_whitespace().nth(index)?.parse().ok()
    };
    Some((find("OutSegs")?, find("RetransSegs")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_under_their_names() {
        let text = "Tcp: MaxConn OutSegs RetransSegs\nTcp: -1 17 2\n";
        assert_eq!(super::parse(text), Some((17, 2)));
        assert_eq!(super::parse("Tcp: nothing"), None);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! A hostile peer on real Xen: u3 without its module plays the front, or dom0 plays the back of
//! u3's device, by `idts-hostile`. Every cell of the matrix that PROTOCOL.md's tables give is
//! attacked; what must come of it is held against what came and against what the honest kernel
//! counted, and once against what it said. Meanwhile u1 and u2 move data with dom0, and lose nothing.
//!
//! The report lies in target/test-logs: `hostile-SIDE.txt` and `.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::domains::set;
use crate::lab::{Guest, Lab, GUESTS};
use crate::run::{expect, Run};
use crate::skips;

pub const HOSTILE: &str = env!("CARGO_BIN_EXE_idts-hostile");
pub const HOSTILE_THERE: &str = "/tmp/idts-hostile";
/// Attacks of the default lane, with a PV guest, and of the long lane, with each type.
const ATTACKS: u64 = 300;
const ATTACKS_LONG: u64 = 5_000;
/// Where IDTS_HOSTILE_ONLY names rows: enough for each way to break a rule.
const ATTACKS_ONLY: u64 = 16;
/// Bytes that each honest pair moves in rounds until all is over.
const ROUND: u64 = 2 << 20;
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(15);
/// What the honest kernel says of the first attack, and when of others, in microseconds.
const FIRST_LINE: &str = "tunnel broken by the peer: message-code";
const LINES_APART: u64 = 60_000_000;
/// Channels that a tunnel bears.
const BROKEN_MAX: u64 = 64;

/// u3 plays the front; the honest side is dom0.
pub fn front(lab: &Lab, guest: &Guest) -> Result<()> {
    with_hostile_guest(lab, guest, |id| {
        set(lab, guest.name, "subscribe=hostile")?;
        let victim = lab.start("dom0", &[HOSTILE_THERE, "victim", "--listen", "7000"])?;
        play(lab, guest, &Sides::new(true, guest, id), victim)
    })
}

/// dom0 plays the back of u3's device; the honest side is u3.
pub fn back(lab: &Lab, guest: &Guest) -> Result<()> {
    with_hostile_guest(lab, guest, |id| {
        let victim = [HOSTILE_THERE, "victim", "--connect", "0:7000"];
        lab.insmod(guest.name)?;
        lab.sysfs("unbind", "dom0", guest.name)?;
        let victim = lab.start(guest.name, &victim)?;
        play(lab, guest, &Sides::new(false, guest, id), victim)?;
        lab.sysfs("bind", "dom0", guest.name)?;
        lab.tb.wait_connected(guest.name)
    })
}

/// Who does what.
struct Sides {
    verb: &'static str,
    hostile: &'static str,
    honest: &'static str,
    /// The guest's id, and that of the honest side's peer.
    guest: u32,
    peer: u32,
}

impl Sides {
    fn new(front: bool, guest: &Guest, id: u32) -> Self {
        let (verb, hostile, honest, peer) = match front {
            true => ("front", guest.name, "dom0", id),
            false => ("back", "dom0", guest.name, 0),
        };
        Self {
            verb,
            hostile,
            honest,
            guest: id,
            peer,
        }
    }
}

/// A guest of two CPUs, attached, without a module; afterwards nothing of it may be left.
pub fn with_hostile_guest(
    lab: &Lab,
    guest: &Guest,
    steps: impl FnOnce(u32) -> Result<()>,
) -> Result<()> {
    let before = lab.tb.tables()?;
    let mut new = lab.new_guest(guest);
    new.cpus = 2;
    lab.tb.create(&new)?;
    lab.tb.wait_answers(guest.name)?;
    for domain in ["dom0", guest.name] {
        lab.tb.push(Path::new(HOSTILE), domain, HOSTILE_THERE)?;
    }
    let attach = ["tunnel-mgr", "attach", guest.name, "--wait", "0"];
    lab.tb.exec("dom0", &attach)?.check("attach")?;
    steps(lab.id(guest.name)?)?;
    lab.drop_guest(guest)?;
    lab.tb.wait_tables(&before)
}

/// Runs the attacks between honest traffic, and judges.
fn play(lab: &Lab, guest: &Guest, sides: &Sides, mut victim: Run) -> Result<()> {
    victim.wait_line("ready")?;
    let (id, peer) = (sides.guest.to_string(), sides.peer.to_string());
    let witness = [HOSTILE_THERE, "witness", &peer, &id];
    let witness = lab.start(sides.honest, &witness)?;
    witness.wait_line("ready")?;
    let only = std::env::var("IDTS_HOSTILE_ONLY").unwrap_or_default();
    let attacks = match (only.is_empty(), lab.times > 1) {
        (false, _) => ATTACKS_ONLY,
        (true, true) => ATTACKS_LONG,
        (true, false) => ATTACKS,
    };
    let (attacks, seed) = (attacks.to_string(), lab.seed.to_string());
    let player = [
        HOSTILE_THERE,
        sides.verb,
        &id,
        "--attacks",
        &attacks,
        "--seed",
        &seed,
        "--only",
        &only,
    ];
    let player = lab.start(sides.hostile, &player)?;
    let rounds = traffic(lab, &player)?;
    let report = player.report()?;
    let heard = witness.report()?;
    victim.tell("enough")?;
    let ends = victim.report()?;
    let mut judged = judge(&report, &heard, &ends)?;
    if only.is_empty() {
        judged.complete(sides.verb == "front", lab.times > 1)?;
    }
    let name = format!("hostile-{}-{}", sides.verb, guest.kind);
    write_report(&name, &report, &judged)?;
    eprintln!(
        "{name}: {} attacks in {} set-ups, {rounds} honest rounds, channels ended {}",
        judged.attempts, judged.setups, ends["ends"]
    );
    ensure!(rounds > 0, "no honest data moved during the attacks");
    if !judged.wrong.is_empty() {
        bail!(
            "{} answers are not PROTOCOL.md's: {:#?}",
            judged.wrong.len(),
            judged.wrong
        );
    }
    Ok(())
}

/// Patterned data between dom0 and both honest guests, both ways, for as long as the attacks last.
fn traffic(lab: &Lab, player: &Run) -> Result<u64> {
    let mut rounds = 0;
    while player.is_running() {
        for name in GUESTS {
            for (from, to) in [("dom0", name), (name, "dom0")] {
                crate::transfer::move_bytes(lab, from, to, ROUND)
                    .with_context(|| format!("honest data from {from} to {to}"))?;
            }
        }
        rounds += 1;
        // The attacks need the processors more than proof needs rounds.
        thread::sleep(PAUSE);
    }
    Ok(rounds)
}

/// What the report comes to.
#[derive(Default)]
struct Judged {
    attempts: usize,
    setups: usize,
    /// Reactions of each cell, and how often; of a violation with its name.
    cells: BTreeMap<(String, String), BTreeMap<String, u64>>,
    wrong: Vec<String>,
}

fn judge(report: &Value, heard: &Value, ends: &Value) -> Result<Judged> {
    let mut judged = Judged::default();
    expect(heard, "lost", false)?;
    let attempts = report["attempts"].as_array().context("no attempts")?;
    let mut by_setup: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for attempt in attempts {
        let setup = attempt["setup"].as_u64().context("no setup")?;
        by_setup.entry(setup).or_default().push(attempt);
    }
    judged.attempts = attempts.len();
    judged.setups = by_setup.len();
    for (setup, attempts) in &by_setup {
        let counted = &heard["setups"][setup.to_string()];
        let counted: BTreeMap<String, u64> =
            serde_json::from_value(counted.clone()).unwrap_or_default();
        judged.setup(attempts, counted);
    }
    judged.log(heard)?;
    let broken = attempts.iter().any(|a| a["reaction"] == "channel");
    if broken && ends["ends"]["EPROTO"].is_null() {
        judged.wrong.push(format!("no program got EPROTO: {ends}"));
    }
    Ok(judged)
}

impl Judged {
    /// No row may be without an attack, in the long lane no cell.
    fn complete(&mut self, front: bool, every_cell: bool) -> Result<()> {
        let cells = Command::new(HOSTILE).arg("cells").output()?;
        let cells: Value = serde_json::from_slice(&cells.stdout).context("the cells")?;
        let rows = cells[usize::from(!front)].as_array().context("no rows")?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
        for row in rows {
            let name = word(&row["row"]);
            let columns = row["columns"].as_array().context("no columns")?;
            let has = |column: &Value| self.cells.contains_key(&(name.clone(), word(column)));
            let there = columns.iter().filter(|column| has(column)).count();
            let wanted = if every_cell { columns.len() } else { 1 };
            if there < wanted {
                self.wrong
                    .push(format!("{name}: {there} cells of {wanted} were attacked"));
            }
        }
        Ok(())
    }

    /// The attacks of one set-up, of which the last may have ended it, and what was counted.
    fn setup(&mut self, attempts: &[&Value], mut counted: BTreeMap<String, u64>) {
        counted.remove("log_left_out");
        let incidents: u64 = counted.values().sum();
        // A word that changes while it is read may end one thing after another.
        let raced = attempts.iter().any(|a| a["column"] == "Raced");
        let most: u64 = attempts.iter().map(|a| most_incidents(a)).sum();
        if incidents > most && !raced {
            self.wrong
                .push(format!("counted {counted:?} for {attempts:?}"));
        }
        for attempt in attempts {
            let text = |key: &str| attempt[key].as_str().unwrap_or_default();
            let reaction = text("reaction");
            let ended = matches!(reaction, "tunnel" | "channel");
            let known = attempt["violation"]
                .as_str()
                .filter(|name| counted.contains_key(*name));
            let named = known.or(counted.keys().next().map(String::as_str));
            let word = match named.filter(|_| ended) {
                Some(name) => format!("{reaction} {name}"),
                None => reaction.into(),
            };
            let cell = (text("row").to_string(), text("column").to_string());
            let cell = self.cells.entry(cell).or_default();
            *cell.entry(word).or_default() += 1;
            let demanded = text("must");
            let right = demanded == "any" && reaction != "hung"
                || demanded == reaction && (attempt["violation"].is_null() || known.is_some());
            // What ends a tunnel is always counted.
            if !right || reaction == "tunnel" && named.is_none() {
                self.wrong.push(format!("{attempt}; counted {counted:?}"));
            }
            if text("row") == "deed: channel after channel" && attempt["value"] != BROKEN_MAX {
                self.wrong
                    .push(format!("{attempt}: a tunnel bears {BROKEN_MAX}"));
            }
        }
    }

    /// What was logged: the first attack, and no more than a line a minute.
    fn log(&mut self, heard: &Value) -> Result<()> {
        let said: Vec<(u64, String)> = serde_json::from_value(heard["said"].clone())?;
        let lines: Vec<_> = said
            .iter()
            .filter(|(_, line)| line.starts_with("tunnel broken") || line.starts_with("channel "))
            .collect();
        let apart = |pair: &[&(u64, String)]| pair[1].0 - pair[0].0 >= LINES_APART;
        let first = lines.first().is_some_and(|(_, line)| line == FIRST_LINE);
        if !first || !lines.windows(2).all(apart) {
            self.wrong.push(format!("the log has {said:?}"));
        }
        Ok(())
    }
}

/// How many violations may be counted for an attack.
fn most_incidents(attempt: &Value) -> u64 {
    match attempt["row"].as_str() {
        // The last ends its channel, and then the tunnel.
        Some("deed: channel after channel") => BROKEN_MAX + 1,
        _ => 1,
    }
}

/// The matrix as text, and everything as JSON.
fn write_report(name: &str, report: &Value, judged: &Judged) -> Result<()> {
    let mut text = format!(
        "{name}: seed {}, {} attacks, {} set-ups\n",
        report["seed"], judged.attempts, judged.setups
    );
    for ((row, column), reactions) in &judged.cells {
        let attempts: u64 = reactions.values().sum();
        let told: Vec<_> = reactions.iter().map(|(r, n)| format!("{r} {n}")).collect();
        writeln!(
            text,
            "{row:42} {column:11} {attempts:5}  {}",
            told.join(", ")
        )?;
    }
    let folder = skips::top().join("target/test-logs");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.txt")), text)?;
    fs::write(folder.join(format!("{name}.json")), report.to_string())?;
    Ok(())
}

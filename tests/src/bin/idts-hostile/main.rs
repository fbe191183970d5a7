// SPDX-License-Identifier: GPL-2.0
//! A peer that is hostile, on real Xen, without any module: it plays one side of a tunnel by Xen's
//! own devices for programs, so every word of shared memory and every node is its to write.
//!
//! The matrix of its attacks is made from PROTOCOL.md's tables ([`matrix`]); [`player`] and
//! [`session`] keep the rules up to the one thing that [`attack`], [`message`], [`rule`] and
//! [`node`] do otherwise. Honest programs ([`victim`]) are at the other end of its channels, and
//! [`witness`] notes what the honest kernel says. The report of an attack is what was written, what
//! PROTOCOL.md demands, and what came; the test that runs all this judges.

mod alone;
mod attack;
mod cli;
mod matrix;
mod message;
mod node;
mod player;
mod race;
mod rng;
mod rule;
mod session;
mod store;
mod storm;
mod victim;
mod witness;
mod xen;

use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use clap::Parser;
use idts_core::role::Role;
use serde_json::{json, Value};

use attack::{Must, Outcome, Reaction};
use cli::{Cli, Verb};
use matrix::{Column, Row, Target};
use player::Player;
use session::Session;

/// What is attacked first: a tunnel is broken, and the log must say so.
const FIRST: &str = "rule: message-code";

/// So many attacks that are not answered at all are enough.
const HUNG_MAX: usize = 2;

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("idts-hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<Value> {
    match verb {
        Verb::Front(args) => play(Role::Front, &args),
        Verb::Back(args) => play(Role::Back, &args),
        Verb::Victim(args) => victim::run(&args),
        Verb::Witness(args) => witness::run(&args),
        Verb::Storm(args) => storm::run(&args),
        Verb::Flap(args) => alone::flap(&args),
        Verb::LastWords(args) => alone::last_words(&args),
        Verb::Hold(args) => alone::hold(&args),
        Verb::Cells => Ok(json!([Role::Front, Role::Back].map(|role| {
            let rows = matrix::rows(role);
            let cell = |row: &Row| json!({ "row": row.name, "columns": row.columns() });
            rows.iter().map(cell).collect::<Vec<_>>()
        }))),
    }
}

/// The attacks of a run. All cells, as far as there are attacks for them, then cells by chance; but
/// every row has one in any case, and every column.
fn plan<'a>(rows: &[&'a Row], player: &mut Player, attacks: u64) -> Vec<(&'a Row, Column)> {
    let all: Vec<(&Row, Column)> = rows
        .iter()
        .flat_map(|row| row.columns().iter().map(|column| (*row, *column)))
        .collect();
    let attacks = if attacks == 0 {
        all.len()
    } else {
        attacks as usize
    };
    let mut cells = match attacks >= all.len() {
        true => all,
        false => {
            let turn = |(row, number): (&&'a Row, usize)| {
                let columns = row.columns();
                (*row, columns[number % columns.len()])
            };
            rows.iter().zip(player.setup as usize..).map(turn).collect()
        }
    };
    while cells.len() < attacks && !rows.is_empty() {
        let row = rows[player.rng.below(rows.len() as u32) as usize];
        let columns = row.columns();
        cells.push((
            row,
            columns[player.rng.below(columns.len() as u32) as usize],
        ));
    }
    cells
}

fn play(role: Role, args: &cli::Play) -> Result<Value> {
    let rows = matrix::rows(role);
    let first = rows.iter().find(|row| row.name == FIRST);
    let first = first.map(|row| (row, Column::Once));
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| row.name.contains(&args.only))
        .collect();
    let mut player = Player::new(role, args)?;
    let (mut attempts, mut session, mut hung) = (Vec::new(), None, 0);
    let plan = plan(&rows, &mut player, args.attacks);
    for (row, column) in first.into_iter().chain(plan) {
        let (setup, outcome) = attack_one(&mut player, &mut session, row, column)
            .with_context(|| format!("{}, {column:?}", row.name))?;
        attempts.push(told(row, column, setup, &outcome));
        eprintln!("moved {}: {}, {column:?}", attempts.len(), row.name);
        hung += usize::from(outcome.reaction == Reaction::Hung);
        if hung >= HUNG_MAX {
            break;
        }
    }
    if let Some(session) = session {
        player.end(Some(session))?;
    }
    player.leave()?;
    Ok(json!({ "side": format!("{role:?}"), "seed": args.seed, "attempts": attempts }))
}

/// One attack, in the session that there is or in a new one; with the number of the set-up that it
/// belongs to.
fn attack_one(
    player: &mut Player,
    session: &mut Option<Box<Session>>,
    row: &Row,
    column: Column,
) -> Result<(u64, Outcome)> {
    let (is_setup, hold) = (attack::is_setup(row), attack::hold_of(row));
    if is_setup || hold.is_some() {
        if let Some(session) = session.take() {
            player.end(Some(session))?;
        }
    }
    let setup = player.setup + 1;
    if is_setup {
        let name = match row.target {
            Target::Node { name } | Target::Deed { name } => name,
            _ => bail!("{} is no set-up", row.name),
        };
        return Ok((setup, node::run(player, name, column)?));
    }
    let mut current = match session.take() {
        Some(current) => current,
        None => player.begin(hold)?,
    };
    let outcome = attack::run(player, &mut current, row, column)?;
    if outcome.used_up {
        player.end(Some(current))?;
    } else {
        *session = Some(current);
    }
    Ok((setup, outcome))
}

/// An attempt, for the report.
fn told(row: &Row, column: Column, setup: u64, outcome: &Outcome) -> Value {
    let (must, violation) = match outcome.must {
        Must::Any => ("any", None),
        Must::Ignore => ("ignored", None),
        Must::Channel(violation) => ("channel", Some(violation)),
        Must::Tunnel(violation) => ("tunnel", Some(violation)),
        Must::TunnelSomehow => ("tunnel", None),
        Must::Refuse => ("refused", None),
    };
    json!({
        "row": row.name, "column": column, "setup": setup, "value": outcome.value,
        "must": must, "violation": violation, "reaction": outcome.reaction,
    })
}

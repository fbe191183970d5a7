// SPDX-License-Identifier: GPL-2.0
//! What is attacked outside a tunnel that stands: nodes of xenstore, and the handshake; and what is
//! done rather than written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{bail, Result};
use idts_core::mem::SharedMem;
use idts_core::role::Role;
use idts_core::wire::WINDOW_REFS;

use crate::attack::{Must, Outcome, Reaction};
use crate::matrix::Column;
use crate::player::{state, Lies, Player, Setup};
use crate::rule;
use crate::session::{windows, Session};
use crate::store::{Store, LOOK};
use crate::xen::Granted;

/// Texts that are no numbers, or too large ones.
const NASTY: [&str; 10] = [
    "",
    "-1",
    "+1",
    "0x1",
    " 1",
    "1 ",
    "one",
    "1.0",
    "00000000001",
    "18446744073709551617",
];
/// A domain that is neither end.
const THIRD: u32 = 999;
/// A grant reference that is kept for the toolstack and that nothing uses. 1 is the guest's own ring
/// to xenstore: a back that is told to use that page spoils it, as it may, and the guest then has no
/// xenstore to go on with.
const UNUSED_REF: u32 = 2;

/// Attacks a set-up, from its beginning to its end.
pub fn run(player: &mut Player, name: &'static str, column: Column) -> Result<Outcome> {
    match (name, column) {
        ("state", _) => own_state(player, column),
        (_, Column::Once) => mid_handshake(player),
        _ => number(player, name, column),
    }
}

/// The text of a column for a node whose honest number is `own`.
fn text_of(player: &mut Player, column: Column, own: u32, limit: u32) -> String {
    match column {
        Column::Zero => "0".into(),
        Column::One => "1".into(),
        Column::Limit => limit.to_string(),
        Column::BelowLimit => limit.wrapping_sub(1).to_string(),
        Column::AboveLimit => (u64::from(limit) + 1).to_string(),
        Column::Maximum => "9999999999".into(),
        Column::Own | Column::Once => own.to_string(),
        Column::Stale => own.wrapping_sub(1).to_string(),
        Column::Random | Column::Raced => {
            let which = player.rng.below(NASTY.len() as u32 + 1) as usize;
            let long = || "1".repeat(2000);
            NASTY.get(which).map_or_else(long, ToString::to_string)
        }
    }
}

/// What PROTOCOL.md section 3 says of a number that a side writes.
struct Rule {
    /// What who keeps the rules writes.
    own: u32,
    limit: u32,
    /// Nodes that must be there for this one to be read.
    with: Lies,
    /// Whether a number may be accepted.
    allows: Box<dyn Fn(u32) -> bool>,
}

fn rule_of(player: &mut Player, name: &str) -> Result<Rule> {
    let rule = |own, limit, allows: Box<dyn Fn(u32) -> bool>| Rule {
        own,
        limit,
        with: Lies::new(),
        allows,
    };
    let many = |count: u32| -> Lies {
        let several = vec![("features", Some("1".into()))];
        let count = ("queues", Some(count.to_string()));
        several.into_iter().chain([count]).collect()
    };
    Ok(match (player.role, name) {
        (_, "version" | "min-version") => rule(1, 1, Box::new(|number| number == 1)),
        (_, "max-version") => rule(1, u32::MAX, Box::new(|number| number > 0)),
        (Role::Front, "features") => {
            let offered = player.store.peer_number("features");
            rule(0, offered, Box::new(move |number| number & !offered == 0))
        }
        (Role::Back, "features") => rule(0, u32::MAX, Box::new(|_| true)),
        // More would need ports that are not there.
        (_, "queues") => Rule {
            with: many(1)[..1].to_vec(),
            ..rule(
                1,
                player.store.peer_number("max-queues"),
                Box::new(|number| number == 1),
            )
        },
        (_, "max-queues") => rule(1, 8, Box::new(|number| (1..=8).contains(&number))),
        (_, "event-channel-1") => Rule {
            with: many(2),
            ..rule(player.port, u32::MAX, Box::new(|number| number > 0))
        },
        (_, "event-channel") => rule(player.port, u32::MAX, Box::new(|number| number > 0)),
        (_, "control-ref") => {
            let own = player.pages.as_ref().map_or(0, |pages| pages.0.refs[0]);
            rule(own, u32::MAX, Box::new(|number| number > 0))
        }
        _ => bail!("no attack is known for the node {name}"),
    })
}

fn number(player: &mut Player, name: &'static str, column: Column) -> Result<Outcome> {
    let name = match name {
        "event-channel-N" => "event-channel-1",
        name => name,
    };
    let rule = rule_of(player, name)?;
    let text = match (name, column) {
        ("control-ref", Column::One) => UNUSED_REF.to_string(),
        _ => text_of(player, column, rule.own, rule.limit),
    };
    // A second queue would need a second port.
    let honest = text == rule.own.to_string() && name != "event-channel-1";
    let value = text.parse::<u32>().ok().filter(|_| text.len() <= 10);
    let number = value.filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    // What versions the front speaks is for the back's log.
    let told_only = player.role == Role::Front && matches!(name, "min-version" | "max-version");
    let must = match number {
        _ if column == Column::Raced || told_only => Must::Any,
        Some(number) if (rule.allows)(number) => Must::Any,
        _ => Must::Refuse,
    };
    let race = (column == Column::Raced).then(|| NodeRace::start(player, name, rule.own, &text));
    let mut lies = rule.with;
    lies.push((name, Some(text)));
    let setup = player.offer(&lies, honest)?;
    drop(race);
    let (reaction, session) = match setup {
        Setup::Refused => (Reaction::Refused, None),
        Setup::Up(mut session) if honest => {
            session.furnish(player)?;
            (Reaction::Ignored, Some(session))
        }
        Setup::Up(session) => (Reaction::Ignored, Some(session)),
    };
    player.end(session)?;
    Ok(Outcome {
        reaction,
        must,
        used_up: true,
        value: number.unwrap_or(0).into(),
    })
}

/// Another thread that writes a node, two texts in turn.
struct NodeRace {
    over: std::sync::Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl NodeRace {
    fn start(player: &Player, name: &'static str, own: u32, text: &str) -> Self {
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&over);
        let texts = [own.to_string(), text.to_string()];
        let (role, guest) = (player.role, player.guest);
        let thread = thread::spawn(move || {
            let Ok(mut store) = Store::open(role, guest, 0) else {
                return;
            };
            while !flag.load(Ordering::Relaxed) {
                for text in &texts {
                    let _ = store.write(name, text);
                }
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for NodeRace {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Our state, while the tunnel stands.
fn own_state(player: &mut Player, column: Column) -> Result<Outcome> {
    let mut session = player.begin(None)?;
    let text = text_of(player, column, state::CONNECTED, 8);
    if column == Column::Raced {
        for _ in 0..10 {
            player.store.switch(state::CLOSED)?;
            player.store.switch(state::CONNECTED)?;
        }
    } else {
        player.store.write("state", &text)?;
    }
    let known = text.parse().is_ok_and(|state| (1..=8).contains(&state));
    // What the other side does now it does without a message of ours.
    player.store.wait_settled(0)?;
    let stays = !session.is_broken(player);
    let reaction = match stays {
        true if column != Column::Raced => {
            session.ping(player)?;
            Reaction::Ignored
        }
        _ => Reaction::Refused,
    };
    // The device is gone where the state is no state.
    player.lost = player.role == Role::Front && !known && column != Column::Raced;
    player.end(Some(session))?;
    Ok(Outcome {
        reaction,
        must: Must::Any,
        used_up: true,
        value: text.parse().unwrap_or(0),
    })
}

/// Breaks a handshake off, in one of its moments.
fn mid_handshake(player: &mut Player) -> Result<Outcome> {
    let moment = player.rng.below(5);
    let mut session = None;
    match player.role {
        Role::Front => player
            .store
            .wait_state(&[state::INIT_WAIT], crate::store::HUNG)?,
        Role::Back => {
            player.announce(&Lies::new())?;
            state::INIT_WAIT
        }
    };
    match (player.role, moment) {
        (Role::Front, 0) => player.store.switch(state::CLOSING)?,
        (Role::Front, 1) => player.store.switch(state::CLOSED)?,
        (Role::Front, 2) => {
            let lies = vec![("control-ref", None), ("event-channel", None)];
            player.offer(&lies, false).map(drop)?;
        }
        (Role::Front, _) => {
            session = match player.offer(&vec![], moment == 3)? {
                Setup::Up(session) => Some(session),
                Setup::Refused => bail!("an honest offer was refused"),
            };
            let next = [state::CLOSED, state::INITIALISING][(moment - 3) as usize];
            player.store.switch(next)?;
        }
        (Role::Back, 0) => player.store.switch(state::CLOSING)?,
        (Role::Back, _) => {
            player
                .store
                .wait_state(&[state::INITIALISED], crate::store::HUNG)?;
            match moment {
                1 => player.store.switch(state::CLOSED)?,
                // Neither mapped nor bound.
                2 => player.store.switch(state::CONNECTED)?,
                3 => player.store.switch(state::INITIALISING)?,
                _ => player.store.remove("state")?,
            }
        }
    }
    player.end(session)?;
    Ok(Outcome {
        reaction: Reaction::Ignored,
        must: Must::Any,
        used_up: true,
        value: moment.into(),
    })
}

/// What is done to a tunnel that stands.
pub fn deed(player: &mut Player, session: &mut Session, name: &str) -> Result<Outcome> {
    match name {
        "event storm" => storm(player, session),
        "lying subscriber" => rule::lying_subscriber(player, session),
        "channel after channel" => rule::channel_after_channel(player, session),
        "never acknowledging" => never_acknowledge(player, session),
        "grants of others" => grants_of_others(player, session),
        _ => bail!("no attack is known for {name}"),
    }
}

/// Events for nothing, then with every doorbell rung.
fn storm(player: &mut Player, session: &mut Session) -> Result<Outcome> {
    const EVENTS: u32 = 5000;
    for number in 0..EVENTS {
        if number % 2 == 0 {
            let bells = player.role.tx_doorbell(0);
            for word in 0..64 {
                session.page.or64(bells.words + 8 * word, u64::MAX);
            }
            session.page.or64(bells.summary, u64::MAX);
        }
        player.events.notify(session.port);
    }
    Ok(Outcome::of(session.ping(player)?, Must::Ignore, EVENTS))
}

/// More questions than there is room for answers, and none of these taken for long.
fn never_acknowledge(player: &mut Player, session: &mut Session) -> Result<Outcome> {
    let (mut sent, mut idle) = (0, 0);
    while sent < 600 && idle < 100 {
        if session.try_ping(player) {
            (sent, idle) = (sent + 1, 0);
        } else {
            idle += 1;
            thread::sleep(LOOK);
        }
    }
    let wait = session.wait_pongs(player)?;
    Ok(Outcome::of(wait, Must::Ignore, sent))
}

/// Front: references of nothing, of pages granted to another domain, or read-only. Back: it says
/// that it is gone and keeps what it mapped; nobody may use these pages meanwhile.
fn grants_of_others(player: &mut Player, session: &mut Session) -> Result<Outcome> {
    if player.role == Role::Back {
        player.kept.append(&mut session.mapped);
        let wait = session.ping(player)?;
        return Ok(Outcome::of(wait, Must::Ignore, 0));
    }
    let way = player.rng.below(3);
    let foreign = match way {
        0 => None,
        1 => Some(Granted::new(THIRD, 2 * WINDOW_REFS, true)?),
        _ => Some(Granted::new(player.peer, 2 * WINDOW_REFS, false)?),
    };
    let refs = foreign.as_ref().map(|granted| granted.refs.clone());
    let refs = refs.unwrap_or_else(|| vec![0x00ab_cdef; 2 * WINDOW_REFS]);
    for (slot, refs) in windows(player, 1).iter_mut().zip(refs.chunks(WINDOW_REFS)) {
        slot[5..13].copy_from_slice(refs);
        session.send(player, *slot)?;
    }
    let wait = session.wait_only_broken(player)?;
    Ok(Outcome::of(wait, Must::Tunnel("segment"), way))
}

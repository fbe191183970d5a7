// SPDX-License-Identifier: GPL-2.0
//! One attack: what is written, what PROTOCOL.md says must come of it, and what came.

use std::thread;

use anyhow::Result;
use idts_core::mem::SharedMem;
use idts_core::role::Role;
use idts_core::wire::{line, page};
use serde::Serialize;

use crate::matrix::{Column, Row, Target};
use crate::message;
use crate::node;
use crate::player::Player;
use crate::race::Race;
use crate::rule;
use crate::session::{Chan, Session, Wait};

/// What came of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// Nothing: the other side went on, and answered what came after.
    Ignored,
    /// The channel was ended.
    Channel,
    /// The tunnel was ended.
    Tunnel,
    /// The set-up was refused.
    Refused,
    /// The other side neither went on nor ended anything.
    Hung,
}

/// What the document demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Nothing certain: what is written is allowed, or means something.
    Any,
    Ignore,
    /// End the channel for this violation.
    Channel(&'static str),
    /// End the tunnel for it.
    Tunnel(&'static str),
    /// End the tunnel, for one violation or another.
    TunnelSomehow,
    /// Refuse the set-up.
    Refuse,
}

/// How an attack went.
pub struct Outcome {
    pub reaction: Reaction,
    pub must: Must,
    /// The session is not what it was: the next attack needs a new one.
    pub used_up: bool,
    /// For the report.
    pub value: u64,
}

impl Outcome {
    pub fn of(wait: Wait, must: Must, value: u32) -> Self {
        let reaction = match wait {
            Wait::Done => Reaction::Ignored,
            Wait::Broken => Reaction::Tunnel,
            Wait::Hung => Reaction::Hung,
        };
        Self {
            reaction,
            must,
            used_up: true,
            value: value.into(),
        }
    }

    fn reusable(mut self) -> Self {
        self.used_up = self.reaction != Reaction::Ignored;
        self
    }
}

/// The value of a column, from the word's own and the largest that is allowed.
pub fn value_of(column: Column, own: u32, limit: u32, random: u32) -> u32 {
    match column {
        Column::Zero => 0,
        Column::One => 1,
        Column::Limit => limit,
        Column::BelowLimit => limit.wrapping_sub(1),
        Column::AboveLimit | Column::Raced => limit.wrapping_add(1),
        Column::Maximum => u32::MAX,
        Column::Own | Column::Once => own,
        Column::Stale => own.wrapping_sub(1),
        Column::Random => random,
    }
}

/// Whether a row needs a message held back in the set-up.
pub fn hold_of(row: &Row) -> Option<u32> {
    match row.target {
        Target::Message { code, .. } => Some(code),
        _ => None,
    }
}

/// Whether a row begins without a session: it attacks the set-up itself.
pub fn is_setup(row: &Row) -> bool {
    matches!(row.target, Target::Node { .. })
        || matches!(row.target, Target::Deed { name } if name == "closing mid-handshake")
}

/// Attacks a tunnel that stands.
pub fn run(
    player: &mut Player,
    session: &mut Session,
    row: &Row,
    column: Column,
) -> Result<Outcome> {
    match &row.target {
        Target::Page { at, size } => page_word(player, session, (*at, *size), column),
        Target::Line {
            control,
            front,
            at,
            size,
        } => {
            let ours = *front == (player.role == Role::Front);
            // A word of the reserved ones.
            let at = at + 4 * player.rng.below(size / 4);
            match (*control, ours) {
                (true, true) => control_word(player, session, at, column),
                (true, false) => their_control_word(player, session, at, column),
                (false, ours) => channel_word(player, session, (at, ours), column),
            }
        }
        Target::Message { code, words, range } => {
            message::run(player, session, (*code, *words, range), column)
        }
        Target::Record { at } => rule::record(player, session, *at, column),
        Target::Rule { name } => rule::run(player, session, name),
        Target::Deed { name } => node::deed(player, session, name),
        Target::Node { .. } => unreachable!("has no session"),
    }
}

/// A field of the control page that decides nothing.
fn page_word(
    player: &mut Player,
    session: &mut Session,
    (at, size): (u32, u32),
    column: Column,
) -> Result<Outcome> {
    let at = at + 8 * player.rng.below(size / 8);
    // What the other side has not taken yet is a message, and decides.
    session.ping(player)?;
    let (low, high) = (session.page.load(at), session.page.load(at + 4));
    let value = value_of(column, low, 0x8000_0000, player.rng.word());
    {
        let _race = (column == Column::Raced).then(|| Race::start(session.page, at, (low, value)));
        session.page.store(at, value);
        session.page.store(at + 4, value);
        for _ in 0..4 {
            player.events.notify(session.port);
        }
        // The answer to the ping stands in a slot: that one is not to be written over.
        if at >= page::FRONT_SLOTS {
            thread::sleep(crate::store::LOOK);
        }
    }
    if at >= page::FRONT_SLOTS {
        session.page.store(at, low);
        session.page.store(at + 4, high);
    }
    Ok(Outcome::of(session.ping(player)?, Must::Ignore, value).reusable())
}

/// A word of our own line of the control ring.
fn control_word(
    player: &mut Player,
    session: &mut Session,
    at: u32,
    column: Column,
) -> Result<Outcome> {
    let lines = player.role.control_lines();
    if at == line::PROD {
        // An index that is behind what the peer has yet to take is none too much for it.
        session.wait_taken(player)?;
    }
    let own = session.page.load(lines.own + at);
    let limit = match at {
        line::PROD => session.page.load(lines.peer + line::CONS) + page::SLOTS,
        line::CONS => session.page.load(lines.peer + line::PROD),
        _ => 1 << 17,
    };
    let value = value_of(column, own, limit, player.rng.word());
    match at {
        line::PROD => control_prod(player, session, column, (own, value)),
        line::CONS => control_cons(player, session, column, (own, value)),
        _ => {
            {
                let _race = (column == Column::Raced)
                    .then(|| Race::start(session.page, lines.own + at, (own, value)));
                session.page.store(lines.own + at, value);
                if session.ping(player)? == Wait::Broken {
                    return Ok(Outcome::of(Wait::Broken, Must::Ignore, value));
                }
            }
            session.page.store(lines.own + at, own);
            Ok(Outcome::of(session.ping(player)?, Must::Ignore, value).reusable())
        }
    }
}

fn control_prod(
    player: &mut Player,
    session: &mut Session,
    column: Column,
    (own, value): (u32, u32),
) -> Result<Outcome> {
    let lines = player.role.control_lines();
    let at = lines.own + line::PROD;
    if column == Column::Raced {
        let race = Race::start(session.page, at, (own, value));
        race_on(player, session, 0)?;
        drop(race);
        session.page.store(at, own);
        return Ok(Outcome::of(session.ping(player)?, Must::Any, value));
    }
    let ahead = value.wrapping_sub(own);
    session.page.store_release(at, value);
    session.notify(player, 0);
    if ahead == 0 {
        return Ok(Outcome::of(session.ping(player)?, Must::Ignore, value).reusable());
    }
    // Slots that say nothing new are taken, or it is out of bounds.
    let (peer, page) = (lines.peer + line::CONS, session.page);
    let wait = session.wait(player, |_| page.load(peer) == value)?;
    let must = match ahead > page::SLOTS {
        true => Must::Tunnel("producer-index"),
        false => Must::Any,
    };
    Ok(Outcome::of(wait, must, value))
}

/// The peer looks at it when it has no free slot: it gets more to answer than fits.
fn control_cons(
    player: &mut Player,
    session: &mut Session,
    column: Column,
    (own, value): (u32, u32),
) -> Result<Outcome> {
    let lines = player.role.control_lines();
    let (at, peer, page) = (
        lines.own + line::CONS,
        lines.peer + line::CONS,
        session.page,
    );
    let certain = own.wrapping_sub(value).wrapping_add(page::SLOTS) > 2 * page::SLOTS;
    let race = (column == Column::Raced).then(|| Race::start(page, at, (own, value)));
    page.store_release(at, value);
    let mut broken = false;
    // Nothing is taken meanwhile, for that would write the word.
    for _ in 0..4 {
        let mut count = 0;
        while count < page::SLOTS && session.try_ping(player) {
            count += 1;
        }
        session.notify(player, 0);
        for _ in 0..400 {
            if page.load(peer) == session.sent {
                break;
            }
            thread::sleep(crate::store::LOOK);
            broken = session.is_broken(player);
            if broken {
                break;
            }
        }
    }
    drop(race);
    if certain && column != Column::Raced {
        let wait = session.wait_only_broken(player)?;
        return Ok(Outcome::of(wait, Must::Tunnel("consumer-index"), value));
    }
    if broken || value != own {
        let wait = if broken { Wait::Broken } else { Wait::Done };
        return Ok(Outcome::of(wait, Must::Any, value));
    }
    page.store_release(at, own);
    Ok(Outcome::of(session.wait_pongs(player)?, Must::Any, value))
}

/// A word of the line that the peer writes: it never reads that back.
fn their_control_word(
    player: &mut Player,
    session: &mut Session,
    at: u32,
    column: Column,
) -> Result<Outcome> {
    let at = player.role.control_lines().peer + at;
    let own = session.page.load(at);
    let value = value_of(
        column,
        own,
        own.wrapping_add(page::SLOTS),
        player.rng.word(),
    );
    {
        let _race = (column == Column::Raced).then(|| Race::start(session.page, at, (own, value)));
        session.page.store(at, value);
        for _ in 0..4 {
            session.notify(player, 0);
        }
        thread::sleep(crate::store::LOOK);
    }
    // As it was, for we read it ourselves.
    session.page.store(at, own);
    Ok(Outcome::of(session.ping(player)?, Must::Ignore, value).reusable())
}

/// A word of the stream's lines.
fn channel_word(
    player: &mut Player,
    session: &mut Session,
    (at, ours): (u32, bool),
    column: Column,
) -> Result<Outcome> {
    let chan = session.chans[0];
    settle(player, session, &chan)?;
    let word = at + if ours { chan.own } else { chan.peer };
    let own = session.data.load(word);
    let (their_prod, their_cons) = (
        session.data.load(chan.peer + line::PROD),
        session.data.load(chan.peer + line::CONS),
    );
    let limit = match at {
        line::PROD if ours => their_cons.wrapping_add(chan.size),
        line::CONS if ours => their_prod,
        line::FLAGS => line::KNOWN,
        _ => 1 << 17,
    };
    let value = value_of(column, own, limit, player.rng.word());
    let (must, index) = match at {
        line::PROD if ours => {
            let far = value.wrapping_sub(their_cons) > chan.size;
            (far.then_some(Must::Channel("producer-index")), true)
        }
        line::CONS if ours => {
            let far = their_prod.wrapping_sub(value) > their_prod.wrapping_sub(own);
            (far.then_some(Must::Channel("consumer-index")), true)
        }
        line::FLAGS if ours => (None, true),
        _ => (Some(Must::Ignore), false),
    };
    let race = (column == Column::Raced).then(|| Race::start(session.data, word, (own, value)));
    session.data.store_release(word, value);
    session.notify(player, chan.id.id);
    if race.is_some() {
        race_on(player, session, chan.id.id)?;
    }
    drop(race);
    let must = match (must, column) {
        (Some(Must::Ignore), _) => Must::Ignore,
        (Some(must), column) if column != Column::Raced => must,
        _ => Must::Any,
    };
    if let Must::Channel(_) = must {
        let wait = session.wait(player, |s| s.is_closed(0))?;
        let mut outcome = Outcome::of(wait, must, value);
        if wait == Wait::Done {
            outcome.reaction = Reaction::Channel;
        }
        return Ok(outcome);
    }
    let mut outcome = Outcome::of(session.ping(player)?, must, value);
    if session.is_closed(0) {
        outcome.reaction = Reaction::Channel;
    } else if !index {
        session.data.store(word, own);
        outcome = outcome.reusable();
    } else if value == own {
        outcome = outcome.reusable();
    }
    Ok(outcome)
}

/// Waits until the program at the other end sleeps both ways: it read all, and filled its ring.
pub fn settle(player: &mut Player, session: &mut Session, chan: &Chan) -> Result<()> {
    let (data, chan) = (session.data, *chan);
    let full = move |prod: u32, cons: u32| {
        let used = prod.wrapping_sub(cons);
        // A record of the victim's is 504 bytes: nearly full is full.
        used == chan.size || chan.records && used + 504 > chan.size
    };
    let settled = move |_: &Session| {
        let load = |at| data.load(at);
        full(load(chan.peer + line::PROD), load(chan.own + line::CONS))
            && load(chan.peer + line::CONS) == load(chan.own + line::PROD)
    };
    session.wait(player, settled).map(drop)
}

/// Lets the peer look at a word that changes, many times.
pub fn race_on(player: &mut Player, session: &mut Session, channel: u32) -> Result<()> {
    for _ in 0..12 {
        session.notify(player, channel);
        thread::sleep(crate::store::LOOK);
    }
    Ok(())
}

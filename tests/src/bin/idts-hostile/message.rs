// SPDX-License-Identifier: GPL-2.0
//! Messages of which one word is not as it should be.

use anyhow::Result;
use idts_core::role::Role;
use idts_core::wire::{
    code, page, BackMessage, FrontMessage, Kind, Name, Ports, Refusal, Request, Slot, PAGE,
};

use crate::attack::{value_of, Must, Outcome};
use crate::matrix::{Column, Range};
use crate::player::Player;
use crate::race::Race;
use crate::session::{closed_slot, spare_open, windows, Session, NOBODY};

/// A channel number and a tag that nothing else has.
const SPARE: u32 = 4090;

/// Sends the message with one of `words` changed.
pub fn run(
    player: &mut Player,
    session: &mut Session,
    (code, words, range): (u32, (u32, u32), &Range),
    column: Column,
) -> Result<Outcome> {
    if code == code::RETIRE {
        session.add_segment(player, 1)?;
    }
    let mut slot = honest(player, session, code);
    let word = (words.0 + player.rng.below(words.1 - words.0 + 1)) as usize;
    let own = slot[word];
    let limit = if word == 0 { 20 } else { range.limit() };
    let value = value_of(column, own, limit, player.rng.word());
    slot[word] = value;
    let race = (column == Column::Raced).then(|| {
        let at = player.role.slots() + session.sent % page::SLOTS * page::SLOT + word as u32 * 4;
        Race::start(session.page, at, (own, value))
    });
    session.send(player, slot)?;
    let must = match column {
        Column::Raced => Must::Any,
        _ => demanded(player.role, code, word, range, value),
    };
    if let Must::Tunnel(_) = must {
        let wait = session.wait_only_broken(player)?;
        return Ok(Outcome::of(wait, must, value));
    }
    if race.is_some() {
        crate::attack::race_on(player, session, 0)?;
    }
    drop(race);
    follow_up(player, session, slot[0])?;
    Ok(Outcome::of(session.ping(player)?, must, value))
}

/// What must come of a word: a range is checked before anything else.
fn demanded(role: Role, code: u32, word: usize, range: &Range, value: u32) -> Must {
    let known = |value: u32| match role {
        Role::Front => (code::WINDOW..=code::NAME).contains(&value),
        Role::Back => value == code::CLOSED || (code::SEGMENT..=code::REFUSED).contains(&value),
    };
    match (word, range) {
        (0, _) if known(value) => Must::Any,
        (0, _) => Must::Tunnel("message-code"),
        (_, Range::Name) if value == 0 && code == code::NAME => Must::Any,
        (_, Range::Name) => Must::Any,
        (_, range) if !range.allows(value) => Must::Tunnel("message-field"),
        _ => Must::Any,
    }
}

/// The message that would be right now.
fn honest(player: &mut Player, session: &mut Session, code: u32) -> Slot {
    let stream = session
        .chans
        .first()
        .map(|chan| chan.id)
        .unwrap_or_default();
    match code {
        code::WINDOW => windows(player, 1)[0],
        code::RETIRE => FrontMessage::Retire { segment: 1 }.encode(),
        code::OPEN => FrontMessage::Open(spare_open(SPARE, NOBODY)).encode(),
        code::REFUSE => FrontMessage::Refuse {
            tag: SPARE,
            why: Refusal::Refused,
        }
        .encode(),
        code::NAME => name(b"hostile").encode(),
        code::SEGMENT => BackMessage::Segment {
            segment: 0,
            mapped: false,
        }
        .encode(),
        code::RETIRED => BackMessage::Retired { segment: 0 }.encode(),
        code::REQUEST => BackMessage::Request(Request {
            tag: SPARE,
            ports: Ports {
                source: 9,
                target: NOBODY,
            },
            front_size: PAGE,
            back_size: PAGE,
            domain: 0,
            kind: Kind::Stream,
        })
        .encode(),
        code::OPENED => BackMessage::Opened(session.held.unwrap_or_default()).encode(),
        code::REFUSED => BackMessage::Refused {
            channel: session.held.unwrap_or_default(),
            why: Refusal::Refused,
        }
        .encode(),
        _ => {
            // What is said here is not said again when the peer says it.
            session.note_closed(0);
            closed_slot(player.role, stream)
        }
    }
}

/// A NAME.
pub fn name(text: &[u8]) -> FrontMessage {
    let mut bytes = [0; 56];
    bytes[..text.len()].copy_from_slice(text);
    FrontMessage::Name(Name(bytes))
}

/// What belongs to a message, so that the next one may come.
fn follow_up(player: &mut Player, session: &mut Session, code: u32) -> Result<()> {
    match code {
        code::WINDOW if player.role == Role::Front => {
            let second = windows(player, 1)[1];
            session.send(player, second)
        }
        code::NAME if player.role == Role::Front => {
            let mut open = spare_open(SPARE, 1);
            open.kind = Kind::Publish;
            open.ports.source = 0;
            session.send(player, FrontMessage::Open(open).encode())
        }
        _ => Ok(()),
    }
}

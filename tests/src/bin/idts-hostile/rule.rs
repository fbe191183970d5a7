// SPDX-License-Identifier: GPL-2.0
//! The rules of PROTOCOL.md's table of violations, each broken on purpose; and records.

use anyhow::{bail, Result};
use idts_core::mem::SharedMem;
use idts_core::role::Role;
use idts_core::wire::{
    code, group, line, page, BackMessage, ChannelId, FrontMessage, Kind, Refusal, Slot, PAGE,
};

use crate::attack::{settle, value_of, Must, Outcome, Reaction};
use crate::matrix::Column;
use crate::message::name;
use crate::player::{Player, FIRST_PAGES};
use crate::race::Race;
use crate::session::{closed_slot, spare_open, windows, Session, Wait, NOBODY};

/// The group that the honest side publishes, see `victim`.
pub const GROUP: &[u8] = b"hostile";
/// A channel number that nothing else has.
const SPARE: u32 = 4091;

/// Breaks the rule that has this name in one of its ways.
pub fn run(player: &mut Player, session: &mut Session, rule: &'static str) -> Result<Outcome> {
    match rule {
        "producer-index" | "consumer-index" => return index(player, session, rule),
        "record" => return record(player, session, 0, Column::Zero),
        _ => {}
    }
    let ways = ways(player, session, rule);
    if ways.is_empty() {
        bail!("no attack is known for the rule {rule}");
    }
    let way = player.rng.below(ways.len() as u32);
    for slot in &ways[way as usize] {
        session.send(player, *slot)?;
    }
    let wait = session.wait_only_broken(player)?;
    // Between two CLOSED the program may close too; then the second is of a channel that is not.
    let twice_closed = ways[way as usize].len() == 2 && ways[way as usize][0][0] == code::CLOSED;
    let must = match twice_closed {
        true => Must::TunnelSomehow,
        false => Must::Tunnel(rule),
    };
    Ok(Outcome::of(wait, must, way))
}

/// Messages that break a rule.
fn ways(player: &Player, session: &Session, rule: &str) -> Vec<Vec<Slot>> {
    let mut code = [0; 16];
    code[0] = 77;
    match (rule, player.role) {
        ("message-code", _) => vec![vec![code]],
        (_, Role::Front) => front_ways(player, session, rule),
        (_, Role::Back) => back_ways(session, rule),
    }
}

fn front_ways(player: &Player, session: &Session, rule: &str) -> Vec<Vec<Slot>> {
    let stream = session.chans[0].id;
    let other = ChannelId {
        generation: stream.generation.wrapping_add(1),
        ..stream
    };
    let closed = |id| closed_slot(Role::Front, id);
    let spare = spare_open(SPARE, NOBODY);
    let opening = |change: fn(&mut idts_core::wire::Open)| {
        let mut open = spare;
        change(&mut open);
        vec![FrontMessage::Open(open).encode()]
    };
    let nobody = ChannelId {
        id: SPARE,
        generation: 1,
    };
    match rule {
        "message-field" => vec![vec![FrontMessage::Retire { segment: 32 }.encode()]],
        "segment" => {
            let mut again = windows(player, 0);
            again.truncate(1);
            let mut strange = windows(player, 1);
            for slot in &mut strange {
                slot[5..13].fill(0x00ff_fff0);
            }
            vec![
                vec![FrontMessage::Retire { segment: 31 }.encode()],
                vec![FrontMessage::Retire { segment: 0 }.encode()],
                again,
                strange,
            ]
        }
        "slice-range" => vec![
            opening(|open| open.front_ring.offset = PAGE * FIRST_PAGES as u32),
            opening(|open| open.back_ring.offset += 128),
            opening(|open| open.lines_offset += 4),
            opening(|open| open.front_ring.len = 4 << 20),
        ],
        "slice-overlap" => vec![
            opening(|open| open.front_ring.offset = 2 * PAGE),
            opening(|open| open.back_ring.offset = open.front_ring.offset),
            opening(|open| open.front_ring.offset = 0),
            opening(|open| open.lines_offset = line::PAIR),
        ],
        "channel-id" => {
            let mut again = spare;
            again.channel = other;
            vec![
                vec![closed(nobody)],
                vec![FrontMessage::Open(again).encode()],
            ]
        }
        "generation" => vec![
            vec![closed(other)],
            opening(|open| open.channel.generation = 7),
        ],
        "tag" => {
            let why = Refusal::Refused;
            let tag = 0x7fff_ffff;
            vec![
                vec![FrontMessage::Refuse { tag, why }.encode()],
                opening(|open| open.tag = 0x7fff_ffff),
            ]
        }
        "message-order" => {
            let first = windows(player, 1)[0];
            let mut group = spare;
            group.kind = idts_core::wire::Kind::Publish;
            group.ports = idts_core::wire::Ports {
                source: 0,
                target: 1,
            };
            vec![
                vec![name(b"a").encode(), name(b"b").encode()],
                [vec![name(b"a").encode()], opening(|open| open.domain = 1)].concat(),
                vec![FrontMessage::Open(group).encode()],
                vec![first, first],
                vec![closed(stream), closed(stream)],
            ]
        }
        _ => vec![],
    }
}

fn back_ways(session: &Session, rule: &str) -> Vec<Vec<Slot>> {
    let stream = session.chans[0].id;
    let other = ChannelId {
        generation: stream.generation.wrapping_add(1),
        ..stream
    };
    let nobody = ChannelId {
        id: SPARE,
        generation: 1,
    };
    let segment = |segment, mapped| vec![BackMessage::Segment { segment, mapped }.encode()];
    let closed = |id| closed_slot(Role::Back, id);
    let opened = |id| BackMessage::Opened(id).encode();
    let why = Refusal::Refused;
    match rule {
        "message-field" => {
            let mut slot = [0; 16];
            slot[..3].copy_from_slice(&[code::SEGMENT, 0, 2]);
            vec![vec![slot], segment(32, true)]
        }
        "segment" => vec![
            segment(9, true),
            segment(0, true),
            vec![BackMessage::Retired { segment: 0 }.encode()],
            vec![BackMessage::Retired { segment: 31 }.encode()],
        ],
        "channel-id" => vec![vec![closed(nobody)], vec![opened(nobody)]],
        "generation" => vec![
            vec![closed(other)],
            vec![opened(other)],
            vec![BackMessage::Refused {
                channel: other,
                why,
            }
            .encode()],
        ],
        "message-order" => vec![
            vec![opened(stream)],
            vec![BackMessage::Refused {
                channel: stream,
                why,
            }
            .encode()],
            vec![closed(stream), closed(stream)],
        ],
        _ => vec![],
    }
}

/// Index words of the control ring or of the stream.
fn index(player: &mut Player, session: &mut Session, rule: &'static str) -> Result<Outcome> {
    let control = player.rng.below(2) == 0 && rule == "producer-index";
    if control {
        let own = player.role.control_lines().own + line::PROD;
        let value = session.page.load(own) + page::SLOTS + 1;
        session.page.store_release(own, value);
        session.notify(player, 0);
        let wait = session.wait_only_broken(player)?;
        return Ok(Outcome::of(wait, Must::Tunnel(rule), value));
    }
    let chan = session.chans[0];
    settle(player, session, &chan)?;
    let (word, value) = match rule {
        "producer-index" => (line::PROD, chan.size + 1),
        _ => (line::CONS, session.data.load(chan.peer + line::PROD) + 1),
    };
    session.data.store_release(chan.own + word, value);
    session.notify(player, chan.id.id);
    let wait = session.wait(player, |s| s.is_closed(0))?;
    Ok(of_channel(wait, Must::Channel(rule), value))
}

/// Breaks a channel, opens it anew, and so on, for as long as the tunnel bears it. The value is how
/// many it bore.
pub fn channel_after_channel(player: &mut Player, session: &mut Session) -> Result<Outcome> {
    let must = Must::Tunnel("producer-index");
    for broken in 1.. {
        let chan = session.chans[0];
        let prod = session.data.load(chan.own + line::PROD);
        let value = prod.wrapping_add(chan.size + 1);
        session.data.store_release(chan.own + line::PROD, value);
        session.notify(player, chan.id.id);
        let mut wait = session.wait(player, |s| s.is_closed(0))?;
        if wait == Wait::Done {
            wait = session.open_again(player, 0)?;
        }
        if wait != Wait::Done {
            return Ok(Outcome::of(wait, must, broken));
        }
    }
    bail!("the tunnel bears all")
}

/// Joins an honest program's group, with leave to hold it up, and says that more was read than was
/// ever written. That ends it at once, and not when its time is over, without a word of a violation.
pub fn lying_subscriber(player: &mut Player, session: &mut Session) -> Result<Outcome> {
    let must = Must::Channel("consumer-index");
    let mut open = spare_open(SPARE, group::TARGET);
    open.kind = Kind::Subscribe;
    open.ports.source = group::BLOCK;
    session.send(player, name(GROUP).encode())?;
    session.open(player, 2, &open)?;
    let chan = session.chans[2];
    let data = session.data;
    let written = move || data.load(chan.peer + line::PROD);
    let wait = session.wait(player, |_| written() != 0)?;
    if wait != Wait::Done {
        return Ok(Outcome::of(wait, must, 0));
    }
    let value = written().wrapping_add(chan.size);
    data.store_release(chan.own + line::CONS, value);
    let wait = session.wait(player, |s| s.is_closed(2))?;
    Ok(of_channel(wait, must, value))
}

/// The outcome where a channel was awaited to end.
fn of_channel(wait: Wait, must: Must, value: u32) -> Outcome {
    let mut outcome = Outcome::of(wait, must, value);
    if wait == Wait::Done {
        outcome.reaction = Reaction::Channel;
    }
    outcome
}

/// A record of 12 bytes with one word changed: its header, its data, or its pad.
pub fn record(
    player: &mut Player,
    session: &mut Session,
    at: u32,
    column: Column,
) -> Result<Outcome> {
    const LEN: u32 = 9;
    const WHOLE: u32 = 16;
    let chan = session.chans[1];
    settle(player, session, &chan)?;
    let prod = session.data.load(chan.own + line::PROD);
    let place = chan.tx + prod % chan.size;
    session.data.store(place, LEN);
    for word in 1..4 {
        session.data.store(place + 4 * word, 0x2a2a_2a2a);
    }
    let word = place + if at == 9 { 12 } else { at };
    let own = session.data.load(word);
    // Together with its padding.
    let limit = if at == 0 { WHOLE - 4 } else { 1 << 17 };
    let value = value_of(column, own, limit, player.rng.word());
    let race = (column == Column::Raced).then(|| Race::start(session.data, word, (own, value)));
    session.data.store(word, value);
    session
        .data
        .store_release(chan.own + line::PROD, prod + WHOLE);
    session.notify(player, chan.id.id);
    let peer = chan.peer + line::CONS;
    let data = session.data;
    let end = prod.wrapping_add(WHOLE);
    let wait = session.wait(player, |s| data.load(peer) == end || s.is_closed(1))?;
    drop(race);
    let must = match column {
        _ if at != 0 => Must::Ignore,
        Column::Raced => Must::Any,
        _ if value == 0 || value > limit => Must::Channel("record"),
        _ => Must::Any,
    };
    let mut outcome = Outcome::of(wait, must, value);
    if session.is_closed(1) {
        outcome.reaction = Reaction::Channel;
    }
    // A shorter record leaves bytes that are the next one's header.
    outcome.used_up = outcome.reaction != Reaction::Ignored || at == 0 && column != Column::Own;
    Ok(outcome)
}

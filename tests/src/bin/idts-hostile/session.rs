// SPDX-License-Identifier: GPL-2.0
//! A tunnel that stands: control ring, a segment, a stream and a channel of records; all by the
//! rules, so that an attack changes one thing alone.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use anyhow::{anyhow, bail, ensure, Result};
use idts_core::control::ControlRing;
use idts_core::mem::SharedMem;
use idts_core::opening::{back_message, front_message, Action, ChannelSlot, ChannelState, Event};
use idts_core::reassembly::SegmentAssembler;
use idts_core::role::Role;
use idts_core::wire::{
    code, line, BackMessage, ChannelId, FrontMessage, Kind, Open, Ports, Refusal, Request, Slice,
    Slot, CHANNELS, PAGE, WINDOW_REFS,
};

use crate::player::{state, Player, FIRST_PAGES};
use crate::store::{HUNG, LOOK};
use crate::xen::{Mapped, Mem};

/// Ports of the honest programs, see `victim`: streams, and records.
pub const PORTS: [u32; 2] = [7000, 7001];
/// A port that nobody has.
pub const NOBODY: u32 = 1;
/// The channel number of who asks whether anybody is there.
const PING: u32 = 4000;

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Done,
    /// The peer gave the tunnel up.
    Broken,
    /// Neither, for as long as one waits.
    Hung,
}

/// A channel with an honest program at its other end.
#[derive(Clone, Copy)]
pub struct Chan {
    pub id: ChannelId,
    pub records: bool,
    /// Where the lines are that we write, and the peer.
    pub own: u32,
    pub peer: u32,
    /// The ring that we write.
    pub tx: u32,
    pub size: u32,
}

pub struct Session {
    pub ring: ControlRing,
    pub page: Mem,
    /// The first segment.
    pub data: Mem,
    pub port: u32,
    /// Messages sent, and taken.
    pub sent: u32,
    pub taken: u32,
    pub chans: Vec<Chan>,
    /// How far each channel number is.
    openings: BTreeMap<u32, ChannelSlot>,
    /// What the back mapped, kept as long as the tunnel.
    pub mapped: Vec<Mapped>,
    /// A message that is not sent when it is due, for an attack sends it.
    pub hold: Option<u32>,
    /// What that message would have been about.
    pub held: Option<ChannelId>,
    /// Back: the segment that comes, and its references until now.
    incoming: Option<SegmentAssembler>,
    refs: Vec<u32>,
    /// Segments that the other side acknowledged.
    acknowledged: Vec<u32>,
    /// Channels that the other side opened, or had opened.
    pub opened: u32,
    pings: u32,
    pongs: u32,
}

impl Session {
    pub fn new(ring: ControlRing, page: Mem, data: Mem, port: u32) -> Self {
        Self {
            ring,
            page,
            data,
            port,
            sent: 0,
            taken: 0,
            chans: Vec::new(),
            openings: BTreeMap::new(),
            mapped: Vec::new(),
            hold: None,
            held: None,
            incoming: None,
            refs: Vec::new(),
            acknowledged: Vec::new(),
            opened: 0,
            pings: 0,
            pongs: 0,
        }
    }

    /// The first segment and both channels.
    pub fn furnish(&mut self, player: &mut Player) -> Result<()> {
        if player.role == Role::Front {
            self.add_segment(player, 0)?;
            for (number, records) in [false, true].into_iter().enumerate() {
                let open = open_of(number as u32 + 1, PORTS[number], records);
                self.open(player, number, &open)?;
            }
        }
        let wanted = if self.hold == Some(code::SEGMENT) {
            return self.must(player, |s| s.refs.len() >= FIRST_PAGES);
        } else if matches!(self.hold, Some(code::OPENED | code::REFUSED)) {
            2
        } else {
            self.must(player, |s| s.opened >= 2)?;
            return Ok(());
        };
        self.must(player, |s| s.opened + u32::from(s.held.is_some()) >= wanted)
    }

    fn must(&mut self, player: &mut Player, done: impl Fn(&Self) -> bool) -> Result<()> {
        match self.wait(player, done)? {
            Wait::Done => Ok(()),
            other => bail!("{other:?} before any attack"),
        }
    }

    /// Front: sends a segment's references and waits for the answer. Segment 0 has two windows, 1
    /// has one.
    pub fn add_segment(&mut self, player: &mut Player, segment: u32) -> Result<()> {
        for slot in windows(player, segment) {
            self.send(player, slot)?;
        }
        self.must(player, |s| s.acknowledged.contains(&segment))
    }

    // --- The control ring ---

    /// Sends a slot, whatever it says, with doorbell and event.
    pub fn send(&mut self, player: &mut Player, slot: Slot) -> Result<()> {
        let start = Instant::now();
        while self.try_send(player, &slot).is_none() {
            ensure!(start.elapsed() < HUNG, "no slot becomes free");
            self.pump(player)?;
            if self.is_broken(player) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The same, if there is a free slot.
    pub fn try_send(&mut self, player: &Player, slot: &Slot) -> Option<()> {
        let page = self.page;
        // An error is of our own making: words that an attack left.
        self.ring.send(&page, slot).ok().flatten()?;
        self.sent = self.sent.wrapping_add(1);
        self.notify(player, 0);
        Some(())
    }

    /// Rings the doorbell of a channel and sends an event.
    pub fn notify(&self, player: &Player, channel: u32) {
        player.role.tx_doorbell(0).ring(&self.page, channel);
        player.events.notify(self.port);
    }

    /// Takes what messages there are.
    pub fn pump(&mut self, player: &mut Player) -> Result<()> {
        let page = self.page;
        while let Ok(Some((slot, notify))) = self.ring.receive(&page) {
            self.taken = self.taken.wrapping_add(1);
            if notify {
                self.notify(player, 0);
            }
            match player.role {
                Role::Front => self.hear_back(player, &slot)?,
                Role::Back => self.hear_front(player, &slot)?,
            }
        }
        Ok(())
    }

    /// Waits until something is so, or the peer gave up.
    pub fn wait(&mut self, player: &mut Player, done: impl Fn(&Self) -> bool) -> Result<Wait> {
        let start = Instant::now();
        for look in 1u32.. {
            self.pump(player)?;
            if done(self) {
                return Ok(Wait::Done);
            }
            if look % 8 == 0 && self.is_broken(player) {
                return Ok(Wait::Broken);
            }
            if start.elapsed() > HUNG {
                break;
            }
            thread::sleep(LOOK);
        }
        Ok(Wait::Hung)
    }

    /// Waits until the peer took all that was sent.
    pub fn wait_taken(&mut self, player: &mut Player) -> Result<Wait> {
        let at = player.role.control_lines().peer + line::CONS;
        self.wait(player, |s| s.page.load(at) == s.sent)
    }

    /// Waits until the peer gave up.
    pub fn wait_only_broken(&mut self, player: &mut Player) -> Result<Wait> {
        self.wait(player, |_| false)
    }

    /// Opens a channel again that is closed, on the slices that it had; the back waits until the
    /// other side does.
    pub fn open_again(&mut self, player: &mut Player, index: usize) -> Result<Wait> {
        let old = self.chans.remove(index);
        if player.role == Role::Back {
            let wanted = self.chans.len() + 1;
            return self.wait(player, |s| s.chans.len() == wanted);
        }
        let mut open = open_of(old.id.id, PORTS[index], old.records);
        open.channel.generation = old.id.generation.wrapping_add(1);
        let wanted = self.opened + 1;
        self.open(player, index, &open)?;
        self.wait(player, |s| s.opened == wanted)
    }

    /// Front: opens a channel, the one with this index.
    pub fn open(&mut self, player: &mut Player, index: usize, open: &Open) -> Result<()> {
        self.chans.insert(index, chan_of(open, Role::Front));
        self.step(player, open, Event::Connect)
    }

    /// Something happens to a channel; what must be done about it is.
    fn step(&mut self, player: &mut Player, open: &Open, event: Event) -> Result<()> {
        let ChannelId { id, generation } = open.channel;
        let opening = self.openings.entry(id).or_default();
        if event.begins() && opening.fits(generation).is_err() {
            // An attack has said something else of it.
            *opening = ChannelSlot::freed(generation.wrapping_sub(1));
        }
        // What does not fit is about what an attack has said.
        let actions = opening.step(generation, event).unwrap_or(&[]);
        for action in actions {
            match action {
                Action::ClearLines => {
                    for at in (0..line::PAIR).step_by(4) {
                        self.data.store(open.lines_offset + at, 0);
                    }
                }
                Action::NotePeerClosed => self.step(player, open, Event::Close)?,
                _ => {}
            }
            let slot = match player.role {
                Role::Front => front_message(*action, open),
                Role::Back => back_message(*action, open.channel, Refusal::Refused),
            };
            if let Some(slot) = slot {
                self.send(player, slot)?;
            }
        }
        Ok(())
    }

    /// The same for what is said of a channel.
    fn heard(&mut self, player: &mut Player, channel: ChannelId, event: Event) -> Result<()> {
        let open = Open {
            channel,
            ..Open::default()
        };
        self.step(player, &open, event)
    }

    /// Notes a channel as closed by this side, by whom an attack says so.
    pub fn note_closed(&mut self, index: usize) {
        let ChannelId { id, generation } = self.chans[index].id;
        let opening = self.openings.entry(id).or_default();
        opening.act(generation, Event::Close);
    }

    /// Whether a side has closed a channel.
    pub fn is_closed(&self, index: usize) -> bool {
        let ChannelId { id, generation } = self.chans[index].id;
        let opening = self.openings.get(&id).copied().unwrap_or_default();
        !opening.has(generation)
            || matches!(
                opening.state(),
                ChannelState::Closed | ChannelState::PeerClosed
            )
    }

    /// Whether the peer gave the tunnel up.
    pub fn is_broken(&self, player: &mut Player) -> bool {
        let state = player.store.peer_state();
        !(state::INITIALISED..=state::CONNECTED).contains(&state)
    }

    /// Asks for what is always refused; the answer shows that the peer took all before it.
    pub fn ping(&mut self, player: &mut Player) -> Result<Wait> {
        self.pings += 1;
        let slot = self.ping_slot(player.role);
        self.send(player, slot)?;
        let wanted = self.pings;
        self.wait(player, |s| s.pongs >= wanted)
    }

    /// Sends the same without waiting; `false`: no slot is free.
    pub fn try_ping(&mut self, player: &mut Player) -> bool {
        self.pings += 1;
        let slot = self.ping_slot(player.role);
        let sent = self.try_send(player, &slot).is_some();
        self.pings -= u32::from(!sent);
        sent
    }

    /// Waits for all answers.
    pub fn wait_pongs(&mut self, player: &mut Player) -> Result<Wait> {
        let wanted = self.pings;
        self.wait(player, |s| s.pongs >= wanted)
    }

    fn ping_slot(&self, role: Role) -> Slot {
        match role {
            Role::Front => {
                let mut open = spare_open(PING, NOBODY);
                open.channel.generation = self.pings;
                FrontMessage::Open(open).encode()
            }
            Role::Back => BackMessage::Request(Request {
                tag: self.pings,
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
        }
    }

    // --- What the other side says ---

    fn hear_back(&mut self, player: &mut Player, slot: &Slot) -> Result<()> {
        match BackMessage::decode(slot) {
            Ok(BackMessage::Segment { segment, .. }) => self.acknowledged.push(segment),
            Ok(BackMessage::Opened(id)) => {
                self.opened += 1;
                self.heard(player, id, Event::RecvOpened)?;
            }
            Ok(BackMessage::Refused { channel, .. }) => {
                self.pongs += u32::from(channel.id == PING);
                self.heard(player, channel, Event::RecvRefused)?;
            }
            Ok(BackMessage::Request(Request { tag, .. })) => {
                let why = Refusal::Refused;
                self.send(player, FrontMessage::Refuse { tag, why }.encode())?;
            }
            Ok(BackMessage::Closed(id)) => self.heard(player, id, Event::RecvClosed)?,
            Ok(BackMessage::Retired { .. }) | Err(_) => {}
        }
        Ok(())
    }

    fn hear_front(&mut self, player: &mut Player, slot: &Slot) -> Result<()> {
        match FrontMessage::decode(slot) {
            Ok(FrontMessage::Window {
                segment,
                windows,
                window,
                half,
                refs,
            }) => self.window(player, (segment, windows, window, half), refs)?,
            Ok(FrontMessage::Open(open)) if open.tag == 0 => self.answer(player, &open)?,
            Ok(FrontMessage::Refuse { .. }) => self.pongs += 1,
            Ok(FrontMessage::Closed(id)) => self.heard(player, id, Event::RecvClosed)?,
            _ => {}
        }
        Ok(())
    }

    /// Back: maps a segment when it is whole.
    fn window(
        &mut self,
        player: &mut Player,
        (segment, windows, window, half): (u32, u32, u32, u32),
        refs: [u32; WINDOW_REFS],
    ) -> Result<()> {
        let new = SegmentAssembler::new(segment, windows);
        let order = self.incoming.get_or_insert(new);
        let pushed = order.push((segment, windows), (window, half));
        pushed.map_err(|violation| anyhow!("the front: {}", violation.name()))?;
        self.refs.extend(refs);
        if !order.is_complete() {
            return Ok(());
        }
        self.incoming = None;
        if self.hold == Some(code::SEGMENT) {
            return Ok(());
        }
        let mapped = Mapped::new(player.peer, &std::mem::take(&mut self.refs))?;
        if segment == 0 {
            self.data = mapped.mem;
        }
        self.mapped.push(mapped);
        let mapped = true;
        self.send(player, BackMessage::Segment { segment, mapped }.encode())
    }

    /// Back: opens what a program asks for.
    fn answer(&mut self, player: &mut Player, open: &Open) -> Result<()> {
        let in_first = [
            open.lines_segment,
            open.front_ring.segment,
            open.back_ring.segment,
        ];
        self.step(player, open, Event::RecvOpen)?;
        if in_first != [0; 3] || self.chans.len() >= 2 {
            return self.step(player, open, Event::Refuse);
        }
        if matches!(self.hold, Some(code::OPENED | code::REFUSED)) && open.kind == Kind::Record {
            self.held = Some(open.channel);
            return Ok(());
        }
        self.opened += 1;
        self.chans.push(chan_of(open, Role::Back));
        self.chans.sort_by_key(|chan| chan.records);
        self.step(player, open, Event::Accept)
    }
}

/// The message that a channel is over.
pub fn closed_slot(role: Role, id: ChannelId) -> Slot {
    match role {
        Role::Front => FrontMessage::Closed(id).encode(),
        Role::Back => BackMessage::Closed(id).encode(),
    }
}

/// Front: the messages that add a segment.
pub fn windows(player: &Player, segment: u32) -> Vec<Slot> {
    let refs = player.pages.as_ref().map(|pages| pages.1.refs.as_slice());
    let refs = refs.unwrap_or_default();
    let (refs, windows) = match segment {
        0 => (&refs[..FIRST_PAGES], 2),
        _ => (&refs[FIRST_PAGES..], 1),
    };
    let halves = refs.chunks_exact(WINDOW_REFS).zip(0..);
    let slot = |(refs, number): (&[u32], u32)| {
        let mut slot = [
            code::WINDOW,
            segment,
            windows,
            number / 2,
            number % 2,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        slot[5..13].copy_from_slice(refs);
        slot
    };
    halves.map(slot).collect()
}

/// The channel with number `id`: its lines and rings are the front's to place.
fn open_of(id: u32, target: u32, records: bool) -> Open {
    let ring = |number: u32| Slice {
        segment: 0,
        offset: PAGE * number,
        len: PAGE,
    };
    Open {
        channel: ChannelId { id, generation: 1 },
        ports: Ports { source: 5, target },
        lines_offset: line::PAIR * id,
        front_ring: ring(2 * id),
        back_ring: ring(2 * id + 1),
        kind: if records { Kind::Record } else { Kind::Stream },
        ..Open::default()
    }
}

/// An opening that is for nobody, on slices of its own.
pub fn spare_open(id: u32, target: u32) -> Open {
    let place = if id == PING { 8 } else { 10 };
    let mut open = open_of(place, target, false);
    open.channel = ChannelId {
        id: id.min(CHANNELS - 1),
        generation: 1,
    };
    open
}

/// The channel that an opening makes.
fn chan_of(open: &Open, role: Role) -> Chan {
    let (front, back) = (open.lines_offset, open.lines_offset + line::SIZE);
    let (own, peer, ring) = match role {
        Role::Front => (front, back, open.front_ring),
        Role::Back => (back, front, open.back_ring),
    };
    Chan {
        id: open.channel,
        records: open.kind == Kind::Record,
        own,
        peer,
        tx: ring.offset,
        size: ring.len,
    }
}

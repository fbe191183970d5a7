// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Opening and closing a channel: what a side does after each event, as a table.
//!
//! Each side has an [`Opening`] for each channel number. The caller tells it what
//! happened ([`Event`]) and carries out what comes back ([`Action`]), in order. The
//! memory of a channel is the book's ([`allocate`], [`reserve`], [`free`]); what to do
//! about an opening for which there is no room says [`Placing`]. PROTOCOL.md sections
//! 8.1 and 8.2.
//!
//! The tests, the fuzz target and the hostile peer run this; the drivers take and
//! give back slices by it, and have the other rules in code of their own still.

use super::allocator::{LinesAt, SliceAllocator};
use super::error::Violation;
use super::reassembly::NameAssembler;
use super::wire::{
    BackMessage, ChannelId, FrontMessage, Name, Open, Refusal, Request, Slot, PAGE,
    SEGMENT_WINDOWS, WINDOW_PAGES,
};

/// How far a channel number is, as one side knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No channel has it.
    #[default]
    Free,
    /// Front: its OPEN awaits the back's answer, and a program awaits it too.
    Asked,
    /// Front: the same, but the program has given up.
    GivenUp,
    /// Back: the front's OPEN awaits this side's answer.
    Owed,
    /// Both ends may use the channel.
    Open,
    /// This side has closed it, the peer has not.
    Closed,
    /// The peer has closed it, this side has not.
    PeerClosed,
}

/// What happens to a channel number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Front: a program connects, and there are slices for it.
    Ask,
    /// Front: there are slices for the back's REQUEST, and the listener has its end.
    Meet,
    /// Back: an OPEN with tag 0 was found right by [`judge`].
    HearAsk,
    /// Back: an OPEN that answers a REQUEST was found right, and who asked waits.
    HearAnswer,
    /// Back: the same, but who asked has given up.
    HearLate,
    /// Front: OPENED.
    HearOpened,
    /// Front: REFUSED.
    HearRefused,
    /// CLOSED.
    HearClosed,
    /// Front: the program that connects waits no longer.
    GiveUp,
    /// Back: whom the front wants takes the channel.
    Accept,
    /// Back: policy, limits, or whom the front wants, refuse it.
    Refuse,
    /// The end on this side is closed, or nobody took it.
    Close,
}

/// What the side does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Clear the pair of lines, so that the next user finds zeroes.
    Clear,
    /// Send the OPEN.
    SayOpen,
    /// Send OPENED.
    SayOpened,
    /// Send REFUSED, with the reason of the event.
    SayRefused,
    /// Send CLOSED. Whatever wrote the channel's memory has ended before.
    SayClosed,
    /// Give the channel to the program that asked. If it takes it no more:
    /// [`Event::Close`].
    Deliver,
    /// Tell the program that asked that it was refused.
    Fail,
    /// Set FIN and DEAF, and RESET if there is unread data; send an event; make the last
    /// access.
    HangUp,
    /// Note that the peer's end is closed, and wake whoever waits at this one.
    PeerDone,
    /// The slices and the number are unused: give the slices back to the book, forget the
    /// channel. In the front, there may be room now for what waits.
    Free,
}

/// What to do, in this order.
pub type Actions = &'static [Action];

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Free,
        Self::Asked,
        Self::GivenUp,
        Self::Owed,
        Self::Open,
        Self::Closed,
        Self::PeerClosed,
    ];

    /// The table: the phase after an event, and what is done. `None`: the event does not
    /// go with the phase.
    pub const fn after(self, event: Event) -> Option<(Self, Actions)> {
        use Action::*;
        Some(match (self, event) {
            (Self::Free, Event::Ask) => (Self::Asked, &[Clear, SayOpen]),
            (Self::Free, Event::Meet) => (Self::Open, &[Clear, SayOpen]),
            (Self::Free, Event::HearAsk) => (Self::Owed, &[]),
            (Self::Free, Event::HearAnswer) => (Self::Open, &[Deliver]),
            (Self::Free, Event::HearLate) => (Self::Closed, &[HangUp, SayClosed]),

            (Self::Asked, Event::HearOpened) => (Self::Open, &[Deliver]),
            (Self::Asked, Event::HearRefused) => (Self::Free, &[Fail, Free]),
            (Self::Asked, Event::GiveUp) => (Self::GivenUp, &[]),
            (Self::GivenUp, Event::HearOpened) => (Self::Closed, &[HangUp, SayClosed]),
            (Self::GivenUp, Event::HearRefused) => (Self::Free, &[Free]),

            (Self::Owed, Event::Accept) => (Self::Open, &[SayOpened]),
            // Before its answer, no CLOSED may be said.
            (Self::Owed, Event::Refuse | Event::Close) => (Self::Free, &[Free, SayRefused]),

            (Self::Open, Event::Close) => (Self::Closed, &[HangUp, SayClosed]),
            (Self::Open, Event::HearClosed) => (Self::PeerClosed, &[PeerDone]),
            (Self::PeerClosed, Event::Close) => (Self::Free, &[HangUp, SayClosed, Free]),
            (Self::Closed, Event::HearClosed) => (Self::Free, &[Free]),
            _ => return None,
        })
    }
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Ask,
        Self::Meet,
        Self::HearAsk,
        Self::HearAnswer,
        Self::HearLate,
        Self::HearOpened,
        Self::HearRefused,
        Self::HearClosed,
        Self::GiveUp,
        Self::Accept,
        Self::Refuse,
        Self::Close,
    ];

    /// Whether it begins a channel.
    pub const fn begins(self) -> bool {
        use Event::*;
        matches!(self, Ask | Meet | HearAsk | HearAnswer | HearLate)
    }

    /// Whether the peer's message is the cause, so that the peer is to blame if it does
    /// not fit.
    pub const fn is_heard(self) -> bool {
        use Event::*;
        matches!(
            self,
            HearAsk | HearAnswer | HearLate | HearOpened | HearRefused | HearClosed
        )
    }
}

/// A channel number, which channels have one after the other. Memory that is all zero is a
/// number that none has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Of the channel that has it, or had it last.
    generation: u32,
    phase: Phase,
}

impl Opening {
    /// A free number whose last channel had this generation.
    pub const fn freed(generation: u32) -> Self {
        let phase = Phase::Free;
        Self { generation, phase }
    }

    /// How far it is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether no channel has it.
    pub const fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Free)
    }

    /// The generation of the channel that has it next.
    pub const fn next(&self) -> u32 {
        self.generation.wrapping_add(1)
    }

    /// Whether the channel of this generation has the number.
    pub const fn has(&self, generation: u32) -> bool {
        !self.is_free() && generation == self.generation
    }

    /// Whether a channel of this generation may take the number.
    ///
    /// # Errors
    /// What a peer breaks that opens such a channel.
    pub const fn fits(&self, generation: u32) -> Result<(), Violation> {
        if !self.is_free() {
            return Err(Violation::ChannelId);
        }
        if generation != self.next() {
            return Err(Violation::Generation);
        }
        Ok(())
    }

    /// Something happens to the channel of this generation. What this side causes may come
    /// when the channel is no more, or closed already: then there is nothing to do.
    ///
    /// # Errors
    /// What the peer breaks by a message that does not fit; nothing has changed then.
    pub fn step(&mut self, generation: u32, event: Event) -> Result<Actions, Violation> {
        let fits = match (event.begins(), self.is_free()) {
            (true, _) => self.fits(generation),
            (false, true) => Err(Violation::ChannelId),
            (false, false) if generation != self.generation => Err(Violation::Generation),
            (false, false) => Ok(()),
        };
        let after = self.phase.after(event).ok_or(Violation::MessageOrder);
        match fits.and(after) {
            Ok((phase, actions)) => {
                *self = Self { generation, phase };
                Ok(actions)
            }
            Err(violation) if event.is_heard() => Err(violation),
            Err(_) => Ok(&[]),
        }
    }

    /// [`Self::step`] for what this side causes: nobody else can be to blame.
    pub fn act(&mut self, generation: u32, event: Event) -> Actions {
        self.step(generation, event).unwrap_or(&[])
    }
}

/// The back's check of an OPEN, before policy: its number, the NAME before it, the REQUEST
/// that it answers, its slices, which are taken in the book. `find` has the request with a
/// tag. What comes back is the name. An [`Event`] that begins a channel comes next.
///
/// # Errors
/// What the front broke: the tunnel ends, whatever was taken until then.
pub fn judge(
    opening: &Opening,
    naming: &mut NameAssembler,
    find: impl FnOnce(u32) -> Option<Request>,
    book: &mut SliceAllocator,
    open: &Open,
) -> Result<Option<Name>, Violation> {
    opening.fits(open.channel.generation)?;
    let name = naming.finish(open)?;
    if open.tag != 0 {
        find(open.tag).ok_or(Violation::Tag)?.check(open)?;
    }
    reserve(book, open)?;
    Ok(name)
}

/// Where an opening's lines are.
pub const fn lines_of(open: &Open) -> LinesAt {
    LinesAt {
        segment: open.lines_segment,
        offset: open.lines_offset,
    }
}

/// Front: allocates the slices of a channel with rings of these sizes, all or none. The
/// rest of the OPEN is the caller's.
pub fn allocate(book: &mut SliceAllocator, front_size: u32, back_size: u32) -> Option<Open> {
    let lines = book.alloc_lines()?;
    let Some(front_ring) = book.alloc(front_size) else {
        book.free_lines(lines);
        return None;
    };
    let Some(back_ring) = book.alloc(back_size) else {
        book.free(front_ring);
        book.free_lines(lines);
        return None;
    };
    Some(Open {
        lines_segment: lines.segment,
        lines_offset: lines.offset,
        front_ring,
        back_ring,
        ..Open::default()
    })
}

/// Back: takes the slices of an OPEN in the book.
///
/// # Errors
/// The first rule of 5.4 that a slice breaks. Others may have been taken: the tunnel ends.
pub fn reserve(book: &mut SliceAllocator, open: &Open) -> Result<(), Violation> {
    book.reserve_lines(lines_of(open))?;
    book.reserve(open.front_ring)?;
    book.reserve(open.back_ring)
}

/// Gives the slices of a channel back to the book.
pub fn free(book: &mut SliceAllocator, open: &Open) {
    book.free_lines(lines_of(open));
    book.free(open.front_ring);
    book.free(open.back_ring);
}

/// What the front tries next for the first opening that waits. Begins with
/// [`Self::Allocate`]; [`Self::after`] tells how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Allocate its slices, and open the channel.
    Allocate,
    /// Grow the region by [`windows_for`] its rings, or more.
    Grow,
    /// Ask for idle segments back. Done, if there is one that the back has not retired yet.
    Shrink,
    /// End it: NoSpace. Done, whatever comes of that.
    Refuse,
    /// Nothing, until the back answers to a segment.
    Wait,
}

impl Placing {
    /// What to do after this was tried. `growing`: the back has not answered to a segment
    /// that was offered to it.
    #[must_use]
    pub const fn after(self, is_done: bool, growing: bool) -> Self {
        match (self, is_done) {
            // The next one.
            (Self::Allocate, true) | (Self::Refuse, _) => Self::Allocate,
            (Self::Allocate, false) if growing => Self::Wait,
            (Self::Allocate, false) => Self::Grow,
            (Self::Grow, false) => Self::Shrink,
            (Self::Shrink, false) => Self::Refuse,
            (Self::Grow | Self::Shrink, true) | (Self::Wait, _) => Self::Wait,
        }
    }

    /// What to do when the back could not map a segment of `windows`, of which `need` were
    /// needed; as much again would fail again. `waits`: there is an opening that waits.
    pub const fn after_unmapped(waits: bool, windows: u32, need: u32) -> Self {
        match (waits, windows > need) {
            (false, _) => Self::Wait,
            (true, true) => Self::Grow,
            (true, false) => Self::Shrink,
        }
    }
}

/// Windows that rings of these sizes need, with their lines. Two of the largest rings do not
/// fit into one segment: they come one after the other.
pub fn windows_for(front_size: u32, back_size: u32) -> u32 {
    let pages = (front_size / PAGE)
        .saturating_add(back_size / PAGE)
        .saturating_add(1);
    pages.div_ceil(WINDOW_PAGES).min(SEGMENT_WINDOWS)
}

/// The tags of the back's requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    last: u32,
}

impl Tags {
    /// None was given.
    pub const NONE: Self = Self { last: 0 };

    /// A tag for a request: never 0, and none that `is_used`, of which there are fewer than
    /// there are tags.
    pub fn next(&mut self, is_used: impl Fn(u32) -> bool) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !is_used(self.last) {
                return self.last;
            }
        }
    }
}

/// What the front sends for an action of a channel.
pub fn said_by_front(action: Action, open: &Open) -> Option<Slot> {
    match action {
        Action::SayOpen => Some(FrontMessage::Open(*open).encode()),
        Action::SayClosed => Some(FrontMessage::Closed(open.channel).encode()),
        _ => None,
    }
}

/// What the back sends for an action of a channel; `why` it refuses it.
pub fn said_by_back(action: Action, channel: ChannelId, why: Refusal) -> Option<Slot> {
    match action {
        Action::SayOpened => Some(BackMessage::Opened(channel).encode()),
        Action::SayRefused => Some(BackMessage::Refused { channel, why }.encode()),
        Action::SayClosed => Some(BackMessage::Closed(channel).encode()),
        _ => None,
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Opening and closing of channels: the state machine of a channel number, as a table.
//!
//! A side has a [`ChannelSlot`] for each channel number. The caller feeds it an [`Event`], and
//! carries out the [`Action`]s that come back, in order. [`allocate`], [`reserve`] and [`free`]
//! handle the slices of a channel; [`Placement`] decides what the front tries if there is no room.
//! PROTOCOL.md sections 8.1 and 8.2.
//!
//! The drivers, the models, the fuzz target and the hostile peer all run this.

use super::allocator::{LinePlacement, LinesAt, SliceAllocator};
use super::error::Violation;
use super::reassembly::NameAssembler;
use super::wire::{
    BackMessage, ChannelId, FrontMessage, Name, Open, Refusal, Request, Slot, PAGE,
    SEGMENT_WINDOWS, WINDOW_PAGES,
};

/// State of a channel number, as one side knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// No channel has the number.
    #[default]
    Free,
    /// Front: the OPEN is unanswered, and a program waits for the answer.
    Connecting,
    /// Front: the OPEN is unanswered, and the program has given up.
    Abandoned,
    /// Back: this side has not answered the OPEN yet.
    Unanswered,
    /// Both ends may use the channel.
    Open,
    /// This side has closed it, the peer has not.
    Closed,
    /// The peer has closed it, this side has not.
    PeerClosed,
}

/// Event of a channel number: a message, or something on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Front: a program connects, and slices are allocated.
    Connect,
    /// Front: slices are allocated for the back's REQUEST, and the listener has taken the channel.
    AnswerRequest,
    /// Back: an OPEN with tag 0 passed [`check_open`].
    RecvOpen,
    /// Back: an OPEN that answers a REQUEST passed [`check_open`], and the program still waits.
    RecvAnswer,
    /// Back: the same, but the program has given up.
    RecvLateAnswer,
    /// Front: OPENED arrived.
    RecvOpened,
    /// Front: REFUSED arrived.
    RecvRefused,
    /// CLOSED arrived.
    RecvClosed,
    /// Front: the program no longer waits for its connect.
    Abandon,
    /// Back: the target takes the channel.
    Accept,
    /// Back: policy, limits or the target refuse the channel.
    Refuse,
    /// This side's end was closed, or no program took it.
    Close,
}

/// Action of the side that follows an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Zero the pair of lines, which a former channel may have used.
    ClearLines,
    /// Send the OPEN.
    SendOpen,
    /// Send OPENED.
    SendOpened,
    /// Send REFUSED, with the reason of the event.
    SendRefused,
    /// Send CLOSED. All access to the channel's memory has ended before.
    SendClosed,
    /// Hand the channel to the program that connects. If it no longer wants it:
    /// [`Event::Close`].
    Deliver,
    /// Fail the program's connect with the reason of the refusal.
    Fail,
    /// Set FIN and DEAF, and RESET if there is unread data; send an event. This is the last access
    /// to the channel's memory.
    Shutdown,
    /// Note that the peer's end is closed, and wake the waiters of this end.
    NotePeerClosed,
    /// Free the slices and forget the channel. In the front, a waiting opening may have room now.
    Free,
}

/// Actions, in the order in which they are carried out.
pub type Actions = &'static [Action];

impl ChannelState {
    /// The table: the next state, and the actions. `None`: the event cannot happen in this state.
    pub const fn after(self, event: Event) -> Option<(Self, Actions)> {
        use Action::*;
        Some(match (self, event) {
            (Self::Free, Event::Connect) => (Self::Connecting, &[ClearLines, SendOpen]),
            (Self::Free, Event::AnswerRequest) => (Self::Open, &[ClearLines, SendOpen]),
            (Self::Free, Event::RecvOpen) => (Self::Unanswered, &[]),
            (Self::Free, Event::RecvAnswer) => (Self::Open, &[Deliver]),
            (Self::Free, Event::RecvLateAnswer) => (Self::Closed, &[Shutdown, SendClosed]),

            (Self::Connecting, Event::RecvOpened) => (Self::Open, &[Deliver]),
            (Self::Connecting, Event::RecvRefused) => (Self::Free, &[Fail, Free]),
            (Self::Connecting, Event::Abandon) => (Self::Abandoned, &[]),
            (Self::Abandoned, Event::RecvOpened) => (Self::Closed, &[Shutdown, SendClosed]),
            (Self::Abandoned, Event::RecvRefused) => (Self::Free, &[Free]),

            (Self::Unanswered, Event::Accept) => (Self::Open, &[SendOpened]),
            // A CLOSED before the answer would be a violation, so the answer is REFUSED.
            (Self::Unanswered, Event::Refuse | Event::Close) => (Self::Free, &[Free, SendRefused]),

            (Self::Open, Event::Close) => (Self::Closed, &[Shutdown, SendClosed]),
            (Self::Open, Event::RecvClosed) => (Self::PeerClosed, &[NotePeerClosed]),
            (Self::PeerClosed, Event::Close) => (Self::Free, &[Shutdown, SendClosed, Free]),
            (Self::Closed, Event::RecvClosed) => (Self::Free, &[Free]),
            _ => return None,
        })
    }
}

impl Event {
    /// Whether the event begins a channel.
    pub const fn begins(self) -> bool {
        use Event::*;
        matches!(
            self,
            Connect | AnswerRequest | RecvOpen | RecvAnswer | RecvLateAnswer
        )
    }

    /// Whether the event is a message of the peer, so that an event out of order is its violation.
    pub const fn is_received(self) -> bool {
        use Event::*;
        matches!(
            self,
            RecvOpen | RecvAnswer | RecvLateAnswer | RecvOpened | RecvRefused | RecvClosed
        )
    }
}

/// A channel number: its state, and the generation of its last channel. Channels use the number one
/// after another. The default is a number that no channel has had.
///
/// ```
/// use idts_core::error::Violation;
/// use idts_core::opening::{Action, ChannelSlot, Event};
///
/// // The front connects, is accepted, and closes after the back.
/// let mut slot = ChannelSlot::default();
/// let generation = slot.next();
/// assert_eq!(slot.act(generation, Event::Connect), [Action::ClearLines, Action::SendOpen]);
/// assert_eq!(slot.step(generation, Event::RecvOpened)?, [Action::Deliver]);
/// assert_eq!(slot.step(generation, Event::RecvClosed)?, [Action::NotePeerClosed]);
/// // A second CLOSED is a violation, and changes nothing.
/// assert_eq!(slot.step(generation, Event::RecvClosed), Err(Violation::MessageOrder));
/// let last = [Action::Shutdown, Action::SendClosed, Action::Free];
/// assert_eq!(slot.act(generation, Event::Close), last);
/// assert!(slot.is_free() && slot.next() == generation + 1);
/// # Ok::<(), Violation>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSlot {
    /// Generation of the channel that has the number, or had it last.
    generation: u32,
    state: ChannelState,
}

impl ChannelSlot {
    /// A free number, by the generation of its last channel.
    pub const fn freed(generation: u32) -> Self {
        let state = ChannelState::Free;
        Self { generation, state }
    }

    /// The state.
    pub const fn state(&self) -> ChannelState {
        self.state
    }

    /// Whether no channel has the number.
    pub const fn is_free(&self) -> bool {
        matches!(self.state, ChannelState::Free)
    }

    /// The generation of the next channel.
    pub const fn next(&self) -> u32 {
        self.generation.wrapping_add(1)
    }

    /// Whether the channel of this generation has the number.
    pub const fn has(&self, generation: u32) -> bool {
        !self.is_free() && generation == self.generation
    }

    /// Checks that a channel of this generation may take the number.
    ///
    /// # Errors
    /// [`Violation::ChannelId`]: the number is in use. [`Violation::Generation`]: it is not the
    /// next generation.
    pub const fn fits(&self, generation: u32) -> Result<(), Violation> {
        if !self.is_free() {
            return Err(Violation::ChannelId);
        }
        if generation != self.next() {
            return Err(Violation::Generation);
        }
        Ok(())
    }

    /// Applies an event to the channel of this generation. The actions that follow.
    ///
    /// An event of this side may come too late, after the channel has ended: then there is nothing
    /// to do.
    ///
    /// # Errors
    /// The violation of a message that does not fit ([`Event::is_received`]). Nothing has changed.
    pub fn step(&mut self, generation: u32, event: Event) -> Result<Actions, Violation> {
        let fits = match (event.begins(), self.is_free()) {
            (true, _) => self.fits(generation),
            (false, true) => Err(Violation::ChannelId),
            (false, false) if generation != self.generation => Err(Violation::Generation),
            (false, false) => Ok(()),
        };
        let after = self.state.after(event).ok_or(Violation::MessageOrder);
        match fits.and(after) {
            Ok((state, actions)) => {
                *self = Self { generation, state };
                Ok(actions)
            }
            Err(violation) if event.is_received() => Err(violation),
            Err(_) => Ok(&[]),
        }
    }

    /// [`Self::step`] for an event of this side, which cannot be a violation.
    pub fn act(&mut self, generation: u32, event: Event) -> Actions {
        self.step(generation, event).unwrap_or(&[])
    }
}

/// Back: checks an OPEN, before policy: its number, the NAME before it, the REQUEST that it answers
/// (`find` looks a request up by its tag), and its slices, which are reserved. The name. An
/// [`Event`] that begins a channel comes next.
///
/// # Errors
/// The rule that the front broke. Slices may have been reserved: the tunnel must end.
pub fn check_open(
    opening: &ChannelSlot,
    naming: &mut NameAssembler,
    find: impl FnOnce(u32) -> Option<Request>,
    slices: &mut SliceAllocator,
    open: &Open,
) -> Result<Option<Name>, Violation> {
    opening.fits(open.channel.generation)?;
    let name = naming.finish(open)?;
    if open.tag != 0 {
        find(open.tag).ok_or(Violation::Tag)?.check(open)?;
    }
    reserve(slices, open)?;
    Ok(name)
}

/// The position of a channel's pair of lines.
pub const fn lines_of(open: &Open) -> LinesAt {
    LinesAt {
        segment: open.lines_segment,
        offset: open.lines_offset,
    }
}

/// Front: allocates the slices of a channel with rings of these sizes, all or none. The caller
/// fills in the rest of the OPEN. `None`: there is no room.
pub fn allocate(slices: &mut SliceAllocator, front_size: u32, back_size: u32) -> Option<Open> {
    let lines = slices.alloc_lines(LinePlacement::Shared)?;
    let Some(front_ring) = slices.alloc(front_size) else {
        slices.free_lines(lines);
        return None;
    };
    let Some(back_ring) = slices.alloc(back_size) else {
        slices.free(front_ring);
        slices.free_lines(lines);
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

/// Back: reserves the slices of an OPEN.
///
/// # Errors
/// The first rule of section 5.4 that a slice breaks. Others may have been reserved: the tunnel
/// must end.
pub fn reserve(slices: &mut SliceAllocator, open: &Open) -> Result<(), Violation> {
    slices.reserve_lines(lines_of(open))?;
    slices.reserve(open.front_ring)?;
    slices.reserve(open.back_ring)
}

/// Frees the slices of a channel.
pub fn free(slices: &mut SliceAllocator, open: &Open) {
    slices.free_lines(lines_of(open));
    slices.free(open.front_ring);
    slices.free(open.back_ring);
}

/// A step by which the front finds room for the first opening that waits: it begins with
/// [`Self::Allocate`], and goes on with [`Self::after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Allocate its slices and open the channel. Done if they could be allocated.
    Allocate,
    /// Grow the region by [`windows_for`] its rings, or more. Done if a segment was offered.
    Grow,
    /// Ask the back to retire idle segments. Done if it has not answered to one of them yet.
    Shrink,
    /// End the opening with [`Refusal::NoSpace`]. Always done.
    Refuse,
    /// Wait until the back answers to a segment.
    Wait,
}

impl Placement {
    /// The next thing to try. `growing`: the back has not answered to an offered segment yet.
    #[must_use]
    pub const fn after(self, is_done: bool, growing: bool) -> Self {
        match (self, is_done) {
            // Goes on with the next opening.
            (Self::Allocate, true) | (Self::Refuse, _) => Self::Allocate,
            (Self::Allocate, false) if growing => Self::Wait,
            (Self::Allocate, false) => Self::Grow,
            (Self::Grow, false) => Self::Shrink,
            (Self::Shrink, false) => Self::Refuse,
            (Self::Grow | Self::Shrink, true) | (Self::Wait, _) => Self::Wait,
        }
    }

    /// The next thing to try after the back could not map a segment of `windows`, `need` of which
    /// were needed: a segment of the same size would fail again. `waits`: an opening waits.
    pub const fn after_unmapped(waits: bool, windows: u32, need: u32) -> Self {
        match (waits, windows > need) {
            (false, _) => Self::Wait,
            (true, true) => Self::Grow,
            (true, false) => Self::Shrink,
        }
    }
}

/// Number of windows for rings of these sizes and a page of lines, at most those of a segment: two
/// of the largest rings need two segments, one after the other.
pub fn windows_for(front_size: u32, back_size: u32) -> u32 {
    let pages = (front_size / PAGE)
        .saturating_add(back_size / PAGE)
        .saturating_add(1);
    pages.div_ceil(WINDOW_PAGES).min(SEGMENT_WINDOWS)
}

/// Allocator of tags for the back's requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    last: u32,
}

impl Tags {
    /// No tag was used yet.
    pub const NONE: Self = Self { last: 0 };

    /// A tag for a new request: not 0, and none that `is_used`. Not all tags may be in use.
    pub fn next(&mut self, is_used: impl Fn(u32) -> bool) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !is_used(self.last) {
                return self.last;
            }
        }
    }
}

/// The message that the front sends for an action, if any.
pub fn front_message(action: Action, open: &Open) -> Option<Slot> {
    match action {
        Action::SendOpen => Some(FrontMessage::Open(*open).encode()),
        Action::SendClosed => Some(FrontMessage::Closed(open.channel).encode()),
        _ => None,
    }
}

/// The message that the back sends for an action, if any; `why` is the reason of a refusal.
pub fn back_message(action: Action, channel: ChannelId, why: Refusal) -> Option<Slot> {
    match action {
        Action::SendOpened => Some(BackMessage::Opened(channel).encode()),
        Action::SendRefused => Some(BackMessage::Refused { channel, why }.encode()),
        Action::SendClosed => Some(BackMessage::Closed(channel).encode()),
        _ => None,
    }
}

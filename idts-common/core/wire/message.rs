// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Messages of the control ring as Rust values: PROTOCOL.md section 7. `codec.rs` has their form
//! in a slot.

use super::super::error::Violation;
use super::name::Name;

/// Ports of a channel that is an end of a group: they carry options. PROTOCOL.md sections 7.4 and
/// 8.3.
pub mod group {
    /// Target port of all these channels.
    pub const TARGET: u32 = 1;
    /// Source port of a publisher that lets slow subscribers block it; 0: it does not.
    pub const MAY_BLOCK: u32 = 1;
    /// Source port of a subscriber that misses records when it is slow.
    pub const DROP: u32 = 0;
    /// Source port of a subscriber that is disconnected when it is slow.
    pub const DISCONNECT: u32 = 1;
    /// Source port of a subscriber that blocks the publisher when it is slow.
    pub const BLOCK: u32 = 2;
}

/// Reason why a side refused to open a channel, with its value on the wire. PROTOCOL.md section
/// 7.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// No program listens on the port, or its backlog is full.
    Refused = 1,
    /// Policy forbids it; or a guest asked for a domain that does not exist.
    Forbidden = 2,
    /// There is no room for the rings within the limits.
    NoSpace = 3,
    /// The target domain cannot be reached now.
    Unreachable = 4,
    /// The group has a publisher already.
    InUse = 5,
}

impl Refusal {
    /// Decodes the value on the wire.
    ///
    /// # Errors
    /// [`Violation::MessageField`]: the value is unknown.
    pub const fn from_wire(value: u32) -> Result<Self, Violation> {
        match value {
            1 => Ok(Self::Refused),
            2 => Ok(Self::Forbidden),
            3 => Ok(Self::NoSpace),
            4 => Ok(Self::Unreachable),
            5 => Ok(Self::InUse),
            _ => Err(Violation::MessageField),
        }
    }
}

/// An encoded message: the 16 little-endian words of a slot.
pub type Slot = [u32; 16];

/// Number of grant references that one [`FrontMessage::Window`] carries.
pub const WINDOW_REFS: usize = 8;

/// A contiguous part of a segment of the data region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Segment number.
    pub segment: u32,
    /// Byte offset from the segment's start.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

/// Identity of a channel: its number, and how many channels have had the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelId {
    /// Channel number, 1 to [`CHANNELS`](super::CHANNELS) - 1.
    pub id: u32,
    /// Grows by one with each channel that gets the number, modulo 2^32.
    pub generation: u32,
}

/// Kind of a channel: what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Bytes without boundaries.
    #[default]
    Stream = 0,
    /// Records, each of which arrives whole or not at all.
    Record = 1,
    /// Records from the front's domain to a group, which the NAME before the OPEN names.
    Publish = 2,
    /// Records from a group to the front's domain, named in the same way.
    Subscribe = 3,
}

impl Kind {
    /// Whether channels of this kind carry records.
    pub const fn has_records(self) -> bool {
        !matches!(self, Self::Stream)
    }

    /// Whether channels of this kind are ends of a group.
    pub const fn is_group(self) -> bool {
        matches!(self, Self::Publish | Self::Subscribe)
    }

    /// Whether `source` is a valid source port of this kind: an option of [`group`], or any port
    /// for a channel between two programs.
    pub const fn takes_source(self, source: u32) -> bool {
        match self {
            Self::Stream | Self::Record => true,
            Self::Publish => source <= group::MAY_BLOCK,
            Self::Subscribe => source <= group::BLOCK,
        }
    }

    /// Decodes the value on the wire.
    ///
    /// # Errors
    /// [`Violation::MessageField`]: the value is unknown.
    pub const fn from_wire(value: u32) -> Result<Self, Violation> {
        match value {
            0 => Ok(Self::Stream),
            1 => Ok(Self::Record),
            2 => Ok(Self::Publish),
            3 => Ok(Self::Subscribe),
            _ => Err(Violation::MessageField),
        }
    }
}

/// Ports of a channel's two ends; options if the channel is an end of a group ([`group`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Port of the end that asks for the channel.
    pub source: u32,
    /// Port that it asks for.
    pub target: u32,
}

/// OPEN: all that both sides must know of a new channel. PROTOCOL.md section 7.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Identity of the channel, chosen by the front.
    pub channel: ChannelId,
    /// Tag of the back's request that this answers; 0: the front opens by itself.
    pub tag: u32,
    /// Both ports.
    pub ports: Ports,
    /// Segment of the pair of lines.
    pub lines_segment: u32,
    /// Offset of the pair of lines.
    pub lines_offset: u32,
    /// The ring that the front writes.
    pub front_ring: Slice,
    /// The ring that the back writes.
    pub back_ring: Slice,
    /// Domain of the other end: the target, or, in an answer to a request, the domain that the
    /// back named in it. 0 is the back's own.
    pub domain: u32,
    /// Kind of the channel.
    pub kind: Kind,
}

/// REQUEST: the back asks the front for a channel. An OPEN with the same tag, or a REFUSE, answers
/// it. PROTOCOL.md section 7.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tag of the request, not 0.
    pub tag: u32,
    /// Both ports.
    pub ports: Ports,
    /// Bytes of the ring that the front will write.
    pub front_size: u32,
    /// Bytes of the ring that the back will write.
    pub back_size: u32,
    /// Domain of the program that asks; 0 is the back's own.
    pub domain: u32,
    /// Kind of the channel.
    pub kind: Kind,
}

impl Request {
    /// Checks that an OPEN has the ports, ring sizes, domain and kind of the request.
    ///
    /// # Errors
    /// [`Violation::MessageField`].
    pub fn check(&self, open: &Open) -> Result<(), Violation> {
        let sizes = (open.front_ring.len, open.back_ring.len);
        if sizes != (self.front_size, self.back_size)
            || open.ports != self.ports
            || (open.domain, open.kind) != (self.domain, self.kind)
        {
            return Err(Violation::MessageField);
        }
        Ok(())
    }
}

/// A message from front to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontMessage {
    /// Half of the grant references of a window. The halves of a new segment come in order, and
    /// none of another segment between them.
    Window {
        /// Number of the new segment.
        segment: u32,
        /// Number of windows of the segment.
        windows: u32,
        /// Index of the window in the segment.
        window: u32,
        /// Which half of the window, 0 or 1.
        half: u32,
        /// Grant references of the half's pages.
        refs: [u32; WINDOW_REFS],
    },
    /// Asks the back to unmap a segment without slices in use.
    Retire {
        /// Number of the segment.
        segment: u32,
    },
    /// Opens a channel.
    Open(Open),
    /// Refuses a request of the back.
    Refuse {
        /// Tag of the request.
        tag: u32,
        /// Reason.
        why: Refusal,
    },
    /// Tells that the front has made its last access to the channel.
    Closed(ChannelId),
    /// Names the group, or the domain by its alias, that the next OPEN is about.
    Name(Name),
}

/// A message from back to front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackMessage {
    /// Tells whether a new segment is mapped.
    Segment {
        /// Number of the segment.
        segment: u32,
        /// Whether it is mapped; if not, it does not exist for the back.
        mapped: bool,
    },
    /// Tells that a segment is unmapped.
    Retired {
        /// Number of the segment.
        segment: u32,
    },
    /// Asks for a channel.
    Request(Request),
    /// Accepts a channel that the front opened.
    Opened(ChannelId),
    /// Refuses a channel that the front opened, whose slices are free then.
    Refused {
        /// The channel.
        channel: ChannelId,
        /// Reason.
        why: Refusal,
    },
    /// Tells that the back has made its last access to the channel.
    Closed(ChannelId),
}

/// Message codes, the first word of a slot. PROTOCOL.md section 7.1.
pub mod code {
    /// [`super::FrontMessage::Window`]
    pub const WINDOW: u32 = 1;
    /// [`super::FrontMessage::Retire`]
    pub const RETIRE: u32 = 2;
    /// [`super::FrontMessage::Open`]
    pub const OPEN: u32 = 3;
    /// [`super::FrontMessage::Refuse`]
    pub const REFUSE: u32 = 4;
    /// [`super::FrontMessage::Closed`] and [`super::BackMessage::Closed`]
    pub const CLOSED: u32 = 5;
    /// [`super::FrontMessage::Name`]
    pub const NAME: u32 = 6;
    /// [`super::BackMessage::Segment`]
    pub const SEGMENT: u32 = 16;
    /// [`super::BackMessage::Retired`]
    pub const RETIRED: u32 = 17;
    /// [`super::BackMessage::Request`]
    pub const REQUEST: u32 = 18;
    /// [`super::BackMessage::Opened`]
    pub const OPENED: u32 = 19;
    /// [`super::BackMessage::Refused`]
    pub const REFUSED: u32 = 20;
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What the messages of the control ring say. Their words are in [`super::codec`].
//!
//! PROTOCOL.md section 7.

use super::super::error::Violation;
use super::name::Name;

/// What stands for the ports of a channel that is an end of a group.
pub mod group {
    /// The target port of all.
    pub const TARGET: u32 = 1;
    /// Source port of a publisher: subscribers may hold it up, or may not (0).
    pub const MAY_BLOCK: u32 = 1;
    /// Source port of a subscriber: it misses records when it is slow.
    pub const DROP: u32 = 0;
    /// Source port of a subscriber: it is disconnected when it is slow.
    pub const DISCONNECT: u32 = 1;
    /// Source port of a subscriber: it holds the publisher up when it is slow.
    pub const BLOCK: u32 = 2;
}

/// Why an opening was refused; the value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// Nobody listens on the port, or the backlog is full.
    Refused = 1,
    /// Policy forbids it, or, for a guest, there is no such domain.
    Forbidden = 2,
    /// No room for the rings, within the limits.
    NoSpace = 3,
    /// The domain asked for is not reachable now.
    Unreachable = 4,
    /// The group has a publisher.
    InUse = 5,
}

impl Refusal {
    /// The refusal of a wire value; unknown ones are a violation.
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

/// A message as it stands in a slot: 16 little-endian words.
pub type Slot = [u32; 16];

/// Grant references that one [`FrontMessage::Window`] carries.
pub const WINDOW_REFS: usize = 8;

/// A slice of the data region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Segment number.
    pub segment: u32,
    /// First byte, from the segment's start.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

/// A channel's number and the count of its uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelId {
    /// 1 to [`CHANNELS`] - 1.
    pub id: u32,
    /// Grows by one with each use of the number.
    pub generation: u32,
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Bytes.
    #[default]
    Stream = 0,
    /// Records: each arrives whole or not at all.
    Record = 1,
    /// Records from the front's domain to a group, named by the NAME before.
    Publish = 2,
    /// Records from a group to the front's domain, likewise.
    Subscribe = 3,
}

impl Kind {
    /// Whether such a channel carries records.
    pub const fn has_records(self) -> bool {
        !matches!(self, Self::Stream)
    }

    /// Whether such a channel is an end of a group.
    pub const fn is_group(self) -> bool {
        matches!(self, Self::Publish | Self::Subscribe)
    }

    /// Whether `source` may be the source port of such a channel: any of a
    /// program's, or what [`group`] has.
    pub const fn takes_source(self, source: u32) -> bool {
        match self {
            Self::Stream | Self::Record => true,
            Self::Publish => source <= group::MAY_BLOCK,
            Self::Subscribe => source <= group::BLOCK,
        }
    }

    /// The kind of a wire value; unknown ones are a violation.
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

/// Who asks for whom. For a group see [`group`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Port that the opener's end has.
    pub source: u32,
    /// Port that is asked for.
    pub target: u32,
}

/// Everything that opens a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// The channel's number, chosen by the front.
    pub channel: ChannelId,
    /// The back's request that this answers, or 0.
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
    /// The domain at the far end: asked for by the front, or, with a tag, the
    /// one that the back named. 0 is the back's own.
    pub domain: u32,
    /// What the channel carries.
    pub kind: Kind,
}

/// The back's wish for a channel, which an OPEN with its tag meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it; not 0.
    pub tag: u32,
    /// Both ports.
    pub ports: Ports,
    /// Size of the ring that the front will write.
    pub front_size: u32,
    /// Size of the ring that the back will write.
    pub back_size: u32,
    /// The domain that asks; 0 is the back's own.
    pub domain: u32,
    /// What the channel will carry.
    pub kind: Kind,
}

impl Request {
    /// An OPEN that answers it must be like it.
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

/// What the front says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontMessage {
    /// Half of a window's grant references. All halves of all windows of a
    /// segment come in order, with no other segment's between them.
    Window {
        /// Segment that grows.
        segment: u32,
        /// Windows that the segment will have.
        windows: u32,
        /// The window, from 0.
        window: u32,
        /// 0 or 1.
        half: u32,
        /// Grant references of 8 pages.
        refs: [u32; WINDOW_REFS],
    },
    /// Unmap a segment with no slice in use.
    Retire {
        /// Segment to unmap.
        segment: u32,
    },
    /// Open a channel.
    Open(Open),
    /// The back's request cannot be met.
    Refuse {
        /// The request.
        tag: u32,
        /// Why.
        why: Refusal,
    },
    /// The front made its last access to the channel.
    Closed(ChannelId),
    /// Names whom the next OPEN is about: a group, or a domain by its alias.
    Name(Name),
}

/// What the back says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackMessage {
    /// A segment is mapped, or could not be.
    Segment {
        /// The segment.
        segment: u32,
        /// Whether it is mapped.
        mapped: bool,
    },
    /// A segment is unmapped.
    Retired {
        /// The segment.
        segment: u32,
    },
    /// Please open a channel.
    Request(Request),
    /// The channel that the front opened is accepted.
    Opened(ChannelId),
    /// The channel that the front opened is refused; its slices are free.
    Refused {
        /// The channel.
        channel: ChannelId,
        /// Why.
        why: Refusal,
    },
    /// The back made its last access to the channel.
    Closed(ChannelId),
}

/// Message codes: the first word of a slot.
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

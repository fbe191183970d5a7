// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Every number of the protocol: page layout, limits, messages.
//!
//! Owns constants and the form of messages; PROTOCOL.md's tables are held
//! against this file by a test. Decisions are left to the modules around it.

use super::error::Violation;

/// The protocol's version. The back names the versions that it speaks, the
/// front picks one.
pub const VERSION: u32 = 1;

/// A page, as Xen grants them.
pub const PAGE: u32 = 4096;
/// Pages of a window: what `xenbus_map_ring_valloc` maps at once.
pub const WINDOW_PAGES: u32 = 16;
/// Bytes of a window: contiguous in both domains.
pub const WINDOW: u32 = PAGE * WINDOW_PAGES;
/// Windows of a segment, at most: one ring of the largest size fills it.
pub const SEGMENT_WINDOWS: u32 = 64;
/// Segments of a data region, at most.
pub const SEGMENTS: u32 = 32;
/// Windows of the first segment.
pub const FIRST_WINDOWS: u32 = 2;

/// Channel numbers of a tunnel. Number 0 is the control ring.
pub const CHANNELS: u32 = 4096;
/// Queues of a tunnel, at most: their summaries fill a cache line.
pub const QUEUES: u32 = 64 / page::SUMMARY;
/// The smallest ring.
pub const RING_MIN: u32 = PAGE;
/// The largest ring.
pub const RING_MAX: u32 = WINDOW * SEGMENT_WINDOWS;

/// The [`Name`] of the back's own domain, which no alias can be.
pub const HOME: &[u8] = b"dom0";

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

/// Domain ids are below this (`DOMID_FIRST_RESERVED`, xen/include/public/xen.h).
pub const DOMAINS: u32 = 0x7ff0;
/// Channels of a tunnel that its peer may break: the tunnel is broken with the last.
pub const BROKEN_MAX: u32 = 64;

/// Layout of the control page.
pub mod page {
    /// Index words of the control ring that the front writes ([`super::line`]).
    pub const FRONT_LINE: u32 = 0x000;
    /// Index words of the control ring that the back writes.
    pub const BACK_LINE: u32 = 0x040;
    /// Summaries of the doorbells that the front rings, one for each queue.
    pub const FRONT_SUMMARY: u32 = 0x080;
    /// Summaries of the doorbells that the back rings.
    pub const BACK_SUMMARY: u32 = 0x0c0;
    /// Bytes of a summary.
    pub const SUMMARY: u32 = 8;
    /// Doorbells that the front rings: 64 double words.
    pub const FRONT_DOORBELLS: u32 = 0x400;
    /// Doorbells that the back rings: 64 double words.
    pub const BACK_DOORBELLS: u32 = 0x600;
    /// Messages from front to back.
    pub const FRONT_SLOTS: u32 = 0x800;
    /// Messages from back to front.
    pub const BACK_SLOTS: u32 = 0xc00;
    /// Slots of each direction.
    pub const SLOTS: u32 = 16;
    /// Bytes of a slot.
    pub const SLOT: u32 = 64;
}

/// Layout of a line: the words of a channel that one side writes.
pub mod line {
    /// Producer index of the ring that this side writes.
    pub const PROD: u32 = 0x00;
    /// Consumer index of the ring that this side reads.
    pub const CONS: u32 = 0x04;
    /// This side wants an event when the peer's producer index passes this.
    pub const PROD_EVENT: u32 = 0x08;
    /// This side wants an event when the peer's consumer index passes this.
    pub const CONS_EVENT: u32 = 0x0c;
    /// Flags of this side.
    pub const FLAGS: u32 = 0x10;
    /// Records that this side, writing for a group, did not deliver.
    pub const LAG: u32 = 0x14;
    /// Bytes of a line; the rest is sent as 0.
    pub const SIZE: u32 = 0x40;
    /// Bytes of a channel's pair of lines: the front's, then the back's.
    pub const PAIR: u32 = 0x80;

    /// This side writes no more: what was published is all.
    pub const FIN: u32 = 1;
    /// This side reads no more: writing to it is `EPIPE`.
    pub const DEAF: u32 = 1 << 1;
    /// This side closed the channel with data unread: `ECONNRESET`.
    pub const RESET: u32 = 1 << 2;
    /// All flags of this version; others are ignored.
    pub const KNOWN: u32 = FIN | DEAF | RESET;
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

/// Bytes of a [`Name`], at most.
pub const NAME_MAX: usize = 56;

/// A name: bytes, padded with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; NAME_MAX]);

impl Name {
    /// The bytes up to the padding.
    pub fn text(&self) -> &[u8] {
        self.0.split(|b| *b == 0).next().unwrap_or(&[])
    }

    /// Whether it is a name, then padding.
    pub fn is_valid(&self) -> bool {
        let text = self.text();
        is_name(text) && self.0.iter().skip(text.len()).all(|b| *b == 0)
    }
}

/// Whether the text is a name: a lower-case letter, then letters, digits and
/// hyphens, [`NAME_MAX`] in all at most.
pub fn is_name(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    text.len() <= NAME_MAX
        && text.first().is_some_and(u8::is_ascii_lowercase)
        && text.iter().all(plain)
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

/// Checks that the words of a slot from `words` on are zero.
fn rest_is_zero(slot: &Slot, words: usize) -> Result<(), Violation> {
    if slot.iter().skip(words).all(|w| *w == 0) {
        Ok(())
    } else {
        Err(Violation::MessageField)
    }
}

fn ring_size(size: u32) -> Result<u32, Violation> {
    if size.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&size) {
        Ok(size)
    } else {
        Err(Violation::MessageField)
    }
}

fn channel(id: u32, generation: u32) -> Result<ChannelId, Violation> {
    if id == 0 || id >= CHANNELS {
        return Err(Violation::MessageField);
    }
    Ok(ChannelId { id, generation })
}

fn below(value: u32, limit: u32) -> Result<u32, Violation> {
    if value < limit {
        Ok(value)
    } else {
        Err(Violation::MessageField)
    }
}

fn tag(value: u32) -> Result<u32, Violation> {
    if value == 0 {
        Err(Violation::MessageField)
    } else {
        Ok(value)
    }
}

/// The target port 0 is nobody's.
fn ports(source: u32, target: u32) -> Result<Ports, Violation> {
    if target == 0 {
        return Err(Violation::MessageField);
    }
    Ok(Ports { source, target })
}

/// The words of an OPEN.
fn open(s: &Slot) -> Result<Open, Violation> {
    let open = Open {
        channel: channel(s[1], s[2])?,
        tag: s[3],
        ports: ports(s[4], s[5])?,
        lines_segment: below(s[6], SEGMENTS)?,
        lines_offset: s[7],
        front_ring: Slice {
            segment: below(s[8], SEGMENTS)?,
            offset: s[9],
            len: ring_size(s[10])?,
        },
        back_ring: Slice {
            segment: below(s[11], SEGMENTS)?,
            offset: s[12],
            len: ring_size(s[13])?,
        },
        domain: below(s[14], DOMAINS)?,
        kind: Kind::from_wire(s[15])?,
    };
    let plain = (open.tag, open.domain, open.ports.target) == (0, 0, group::TARGET);
    if !open.kind.takes_source(open.ports.source) || open.kind.is_group() && !plain {
        return Err(Violation::MessageField);
    }
    Ok(open)
}

impl FrontMessage {
    /// The slot that says this.
    pub fn encode(&self) -> Slot {
        let mut s = [0; 16];
        match *self {
            Self::Window {
                segment,
                windows,
                window,
                half,
                refs,
            } => {
                let [a, b, c, d, e, f, g, h] = refs;
                s = [
                    code::WINDOW,
                    segment,
                    windows,
                    window,
                    half,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                    g,
                    h,
                    0,
                    0,
                    0,
                ];
            }
            Self::Retire { segment } => {
                [s[0], s[1]] = [code::RETIRE, segment];
            }
            Self::Open(o) => {
                s = [
                    code::OPEN,
                    o.channel.id,
                    o.channel.generation,
                    o.tag,
                    o.ports.source,
                    o.ports.target,
                    o.lines_segment,
                    o.lines_offset,
                    o.front_ring.segment,
                    o.front_ring.offset,
                    o.front_ring.len,
                    o.back_ring.segment,
                    o.back_ring.offset,
                    o.back_ring.len,
                    o.domain,
                    o.kind as u32,
                ];
            }
            Self::Refuse { tag, why } => {
                [s[0], s[1], s[2]] = [code::REFUSE, tag, why as u32];
            }
            Self::Closed(c) => {
                [s[0], s[1], s[2]] = [code::CLOSED, c.id, c.generation];
            }
            Self::Name(name) => {
                s[0] = code::NAME;
                for (word, bytes) in s.iter_mut().skip(2).zip(name.0.chunks_exact(4)) {
                    *word = bytes.iter().rev().fold(0, |w, b| w << 8 | u32::from(*b));
                }
            }
        }
        s
    }

    /// Reads a private copy of a slot; every field is in its range afterwards.
    pub fn decode(s: &Slot) -> Result<Self, Violation> {
        match s[0] {
            code::WINDOW => {
                rest_is_zero(s, 13)?;
                let windows = below(s[2], SEGMENT_WINDOWS + 1)?;
                Ok(Self::Window {
                    segment: below(s[1], SEGMENTS)?,
                    windows,
                    window: below(s[3], windows)?,
                    half: below(s[4], 2)?,
                    refs: [s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12]],
                })
            }
            code::RETIRE => {
                rest_is_zero(s, 2)?;
                Ok(Self::Retire {
                    segment: below(s[1], SEGMENTS)?,
                })
            }
            code::OPEN => open(s).map(Self::Open),
            code::REFUSE => {
                rest_is_zero(s, 3)?;
                Ok(Self::Refuse {
                    tag: tag(s[1])?,
                    why: Refusal::from_wire(s[2])?,
                })
            }
            code::CLOSED => {
                rest_is_zero(s, 3)?;
                Ok(Self::Closed(channel(s[1], s[2])?))
            }
            code::NAME => {
                let mut name = Name([0; NAME_MAX]);
                for (word, bytes) in s.iter().skip(2).zip(name.0.chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
                if s[1] != 0 || !name.is_valid() {
                    return Err(Violation::MessageField);
                }
                Ok(Self::Name(name))
            }
            _ => Err(Violation::MessageCode),
        }
    }
}

impl BackMessage {
    /// The slot that says this.
    pub fn encode(&self) -> Slot {
        let mut s = [0; 16];
        match *self {
            Self::Segment { segment, mapped } => {
                [s[0], s[1], s[2]] = [code::SEGMENT, segment, mapped.into()];
            }
            Self::Retired { segment } => {
                [s[0], s[1]] = [code::RETIRED, segment];
            }
            Self::Request(r) => {
                [s[0], s[1], s[2], s[3]] = [code::REQUEST, r.tag, r.ports.source, r.ports.target];
                [s[4], s[5], s[6], s[7]] = [r.front_size, r.back_size, r.domain, r.kind as u32];
            }
            Self::Opened(c) => {
                [s[0], s[1], s[2]] = [code::OPENED, c.id, c.generation];
            }
            Self::Refused { channel, why } => {
                [s[0], s[1], s[2], s[3]] =
                    [code::REFUSED, channel.id, channel.generation, why as u32];
            }
            Self::Closed(c) => {
                [s[0], s[1], s[2]] = [code::CLOSED, c.id, c.generation];
            }
        }
        s
    }

    /// Reads a private copy of a slot; every field is in its range afterwards.
    pub fn decode(s: &Slot) -> Result<Self, Violation> {
        match s[0] {
            code::SEGMENT => {
                rest_is_zero(s, 3)?;
                Ok(Self::Segment {
                    segment: below(s[1], SEGMENTS)?,
                    mapped: below(s[2], 2)? == 1,
                })
            }
            code::RETIRED => {
                rest_is_zero(s, 2)?;
                Ok(Self::Retired {
                    segment: below(s[1], SEGMENTS)?,
                })
            }
            code::REQUEST => {
                rest_is_zero(s, 8)?;
                Ok(Self::Request(Request {
                    tag: tag(s[1])?,
                    ports: ports(s[2], s[3])?,
                    front_size: ring_size(s[4])?,
                    back_size: ring_size(s[5])?,
                    domain: below(s[6], DOMAINS)?,
                    // A group asks nobody.
                    kind: Kind::from_wire(below(s[7], Kind::Publish as u32)?)?,
                }))
            }
            code::OPENED => {
                rest_is_zero(s, 3)?;
                Ok(Self::Opened(channel(s[1], s[2])?))
            }
            code::REFUSED => {
                rest_is_zero(s, 4)?;
                Ok(Self::Refused {
                    channel: channel(s[1], s[2])?,
                    why: Refusal::from_wire(s[3])?,
                })
            }
            code::CLOSED => {
                rest_is_zero(s, 3)?;
                Ok(Self::Closed(channel(s[1], s[2])?))
            }
            _ => Err(Violation::MessageCode),
        }
    }
}

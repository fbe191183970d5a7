// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Encoding and decoding of messages: PROTOCOL.md section 7.
//!
//! Decoding checks every field that can be checked without state: its range, and that all
//! reserved words are 0.

use super::super::error::Violation;
use super::layout::{CHANNELS, DOMAINS, RING_MAX, RING_MIN, SEGMENTS, SEGMENT_WINDOWS};
use super::message::{
    code, group, BackMessage, ChannelId, FrontMessage, Kind, Open, Ports, Refusal, Request, Slice,
    Slot,
};
use super::name::{Name, NAME_MAX};

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

/// Target port 0 is reserved.
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
    /// Encodes the message.
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

    /// Decodes a private copy of a slot.
    ///
    /// # Errors
    /// [`Violation::MessageCode`]: the code is unknown. [`Violation::MessageField`]: a field is out
    /// of range.
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
    /// Encodes the message.
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

    /// Decodes a private copy of a slot.
    ///
    /// # Errors
    /// [`Violation::MessageCode`]: the code is unknown. [`Violation::MessageField`]: a field is out
    /// of range.
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
                    // The kinds of a group are not requested.
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

// SPDX-License-Identifier: GPL-2.0

//! The role of a tunnel's side: it grants memory, maps it, or neither; and the state of each
//! role.
//!
//! [`super::granter`] and [`super::mapper`] are the operations of one role, [`super::open`]
//! those of both.

use idts_core::opening::Tags;
use idts_core::reassembly::{self, NameAssembler};
use idts_core::ring::Lines;
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Open, Slot, SEGMENTS, WINDOW_PAGES,
};

use crate::region::segments::Windows;
use crate::sys::clock::clock;

/// The role, with its own state.
pub(super) enum Role {
    /// Allocates and grants memory, and gives channels their ids and slices: the front.
    Granter(Granter),
    /// Maps the memory, and checks every placement against its own allocator: the back.
    Mapper(Mapper),
    /// Both ends are in this domain.
    Loopback,
}

impl Role {
    /// Creates the granter's state.
    pub(super) const fn granter() -> Self {
        Self::Granter(Granter::new())
    }

    /// Creates the mapper's state.
    pub(super) const fn mapper() -> Self {
        Self::Mapper(Mapper::new())
    }

    /// Returns the granter's state, if this is a granter.
    pub(super) fn as_granter(&mut self) -> Option<&mut Granter> {
        match self {
            Self::Granter(granter) => Some(granter),
            _ => None,
        }
    }

    /// Returns the mapper's state, if this is a mapper.
    pub(super) fn as_mapper(&mut self) -> Option<&mut Mapper> {
        match self {
            Self::Mapper(mapper) => Some(mapper),
            _ => None,
        }
    }

    /// Unmaps the windows of an incomplete segment.
    pub(super) fn drop_incoming(&mut self) {
        if let Some(mapper) = self.as_mapper() {
            mapper.incoming = None;
        }
    }

    /// Offsets of this side's line and the peer's in a pair of lines.
    pub(super) const fn lines(&self) -> Lines {
        match self {
            Self::Granter(_) | Self::Loopback => Lines {
                own: 0,
                peer: line::SIZE,
            },
            Self::Mapper(_) => Lines {
                own: line::SIZE,
                peer: 0,
            },
        }
    }

    /// Orders the granter's ring and the mapper's as the one that this side writes, then the one
    /// that it reads. Its own inverse.
    pub(super) fn own_first<T>(&self, granters: T, mappers: T) -> (T, T) {
        match self {
            Self::Granter(_) | Self::Loopback => (granters, mappers),
            Self::Mapper(_) => (mappers, granters),
        }
    }

    /// Encodes CLOSED.
    pub(super) fn closed(&self, id: ChannelId) -> Slot {
        match self {
            Self::Mapper(_) => BackMessage::Closed(id).encode(),
            _ => FrontMessage::Closed(id).encode(),
        }
    }
}

/// A segment that is offered to the mapper.
pub(super) struct Growing {
    pub(super) number: u32,
    /// Windows that the first pending opening needs; the segment may have more.
    pub(super) need: u32,
}

/// State of a granter.
pub(super) struct Granter {
    /// The segment that the mapper has not mapped yet.
    pub(super) growing: Option<Growing>,
    /// Number of segments that the mapper has not unmapped yet.
    pub(super) retiring: u32,
    /// Time of the last use of each segment, by [`clock`].
    used: [u64; SEGMENTS as usize],
    /// Set while checks for idle segments are scheduled.
    pub(super) trims: bool,
}

impl Granter {
    const fn new() -> Self {
        Self {
            growing: None,
            retiring: 0,
            used: [0; SEGMENTS as usize],
            trims: false,
        }
    }

    /// Notes that the segments of a channel were in use until now.
    pub(super) fn note_use(&mut self, open: &Open) {
        for segment in [
            open.front_ring.segment,
            open.back_ring.segment,
            open.lines_segment,
        ] {
            self.used_now(segment);
        }
    }

    /// Notes that a segment is in use now.
    pub(super) fn used_now(&mut self, segment: u32) {
        if let Some(used) = self.used.get_mut(segment as usize) {
            *used = clock();
        }
    }

    /// Nanoseconds since the last use of a segment.
    pub(super) fn age(&self, segment: u32, now: u64) -> u64 {
        let used = self.used.get(segment as usize).copied();
        now.saturating_sub(used.unwrap_or(0))
    }
}

/// A segment that the granter offers, received window by window.
pub(super) struct Incoming {
    pub(super) order: reassembly::SegmentAssembler,
    pub(super) refs: [u32; WINDOW_PAGES as usize],
    pub(super) mapped: Windows,
    pub(super) failed: bool,
}

/// State of a mapper.
pub(super) struct Mapper {
    /// The segment that is being received.
    pub(super) incoming: Option<Incoming>,
    /// The NAME that precedes the next OPEN: a group or an alias.
    pub(super) naming: NameAssembler,
    /// The tags of requests.
    pub(super) tags: Tags,
}

impl Mapper {
    const fn new() -> Self {
        Self {
            incoming: None,
            naming: NameAssembler::NONE,
            tags: Tags::NONE,
        }
    }
}

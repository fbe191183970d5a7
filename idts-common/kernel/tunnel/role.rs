// SPDX-License-Identifier: GPL-2.0

//! The role of a tunnel's side: who grants memory, who maps it, or neither; and the state
//! that each role alone has.
//!
//! [`super::granter`] and [`super::mapper`] are the acts of each, [`super::open`] those of
//! both.

use idts_core::opening::Tags;
use idts_core::reassembly::{self, NameAssembler};
use idts_core::ring::Lines;
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Open, Slot, SEGMENTS, WINDOW_PAGES,
};

use crate::region::segments::Windows;
use crate::sys::clock::clock;

/// The role, with the state that it alone has.
pub(super) enum Role {
    /// Allocates, grants, gives channels their numbers and slices: the front.
    Granter(Granter),
    /// Maps, and checks every placement against its own book: the back.
    Mapper(Mapper),
    /// Both ends are in this domain.
    Loopback,
}

impl Role {
    /// The granter of a new tunnel.
    pub(super) const fn granter() -> Self {
        Self::Granter(Granter::new())
    }

    /// The mapper of a new tunnel.
    pub(super) const fn mapper() -> Self {
        Self::Mapper(Mapper::new())
    }

    /// A granter's state.
    pub(super) fn as_granter(&mut self) -> Option<&mut Granter> {
        match self {
            Self::Granter(granter) => Some(granter),
            _ => None,
        }
    }

    /// A mapper's state.
    pub(super) fn as_mapper(&mut self) -> Option<&mut Mapper> {
        match self {
            Self::Mapper(mapper) => Some(mapper),
            _ => None,
        }
    }

    /// Unmaps the segment that comes in.
    pub(super) fn drop_incoming(&mut self) {
        if let Some(mapper) = self.as_mapper() {
            mapper.incoming = None;
        }
    }

    /// Offsets of this side's index words, and of the peer's, in a pair of lines.
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

    /// Of the granter's ring and the mapper's, the one that this side writes, and the one
    /// that it reads. Its own inverse.
    pub(super) fn own_first<T>(&self, granters: T, mappers: T) -> (T, T) {
        match self {
            Self::Granter(_) | Self::Loopback => (granters, mappers),
            Self::Mapper(_) => (mappers, granters),
        }
    }

    /// The message CLOSED.
    pub(super) fn closed(&self, id: ChannelId) -> Slot {
        match self {
            Self::Mapper(_) => BackMessage::Closed(id).encode(),
            _ => FrontMessage::Closed(id).encode(),
        }
    }
}

/// A segment that was offered to the mapper.
pub(super) struct Growing {
    pub(super) number: u32,
    /// Windows that are needed; it may have more.
    pub(super) need: u32,
}

/// State that a granter alone has.
pub(super) struct Granter {
    /// The segment that the mapper has not mapped yet.
    pub(super) growing: Option<Growing>,
    /// Segments that the mapper has not unmapped yet.
    pub(super) retiring: u32,
    /// When each segment was used last, by [`clock`].
    used: [u64; SEGMENTS as usize],
    /// Idle segments are looked at from time to time.
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

    pub(super) fn used_now(&mut self, segment: u32) {
        if let Some(used) = self.used.get_mut(segment as usize) {
            *used = clock();
        }
    }

    /// How long ago a segment was in use.
    pub(super) fn age(&self, segment: u32, now: u64) -> u64 {
        let used = self.used.get(segment as usize).copied();
        now.saturating_sub(used.unwrap_or(0))
    }
}

/// A segment that comes in, window by window.
pub(super) struct Incoming {
    pub(super) order: reassembly::SegmentAssembler,
    pub(super) refs: [u32; WINDOW_PAGES as usize],
    pub(super) mapped: Windows,
    pub(super) failed: bool,
}

/// State that a mapper alone has.
pub(super) struct Mapper {
    /// The segment that comes in.
    pub(super) incoming: Option<Incoming>,
    /// The group, or the alias, that the next OPEN is about.
    pub(super) naming: NameAssembler,
    /// Tags of requests.
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

// SPDX-License-Identifier: GPL-2.0

//! What a tunnel remembers of its channels, and of openings without one yet.
//!
//! Owns numbers, generations and tags. Nothing here talks to the peer.

use idts_core::error::Violation;
use idts_core::life::{Answer, Number};
use idts_core::queues::{ChannelIds, Queues};
use idts_core::reassembly::{find_request, NameAssembler};
use idts_core::wire::{ChannelId, Kind, Name, Open, Ports, Request, SEGMENTS};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::region::{Growing, Incoming};
use crate::asks::{Asks, Question, Share};
use crate::channel::Channel;
use crate::endpoint::Attempt;
use crate::payer::Rings;
use crate::sys::clock::clock;
use crate::sys::errno::Errno;

/// What an opening, then a channel, has in books, until it is dropped.
#[derive(Default)]
pub(super) struct Costs {
    /// This side's program pays for the rings.
    pub(super) rings: Option<Rings>,
    /// Back: a domain asked for them, until one side closes.
    pub(super) share: Option<Share>,
    /// It was not answered yet.
    pub(super) question: Option<Question>,
}

/// A channel of the tunnel.
pub(super) struct Record {
    pub(super) open: Open,
    pub(super) channel: Arc<Channel>,
    /// Back: the group that the front asked for.
    pub(super) group: Option<KBox<Name>>,
    /// Front: the attempt that waits for the back's answer, if it still does.
    pub(super) waiter: Option<Attempt>,
    pub(super) costs: Costs,
}

/// A channel number.
#[derive(Default)]
struct Place {
    number: Number,
    record: Option<Record>,
}

/// What a local endpoint asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) ports: Ports,
    /// Size of the ring that it will write.
    pub(crate) tx: u32,
    /// Size of the ring that it will read.
    pub(crate) rx: u32,
    /// Front: the domain it wants. Back: the domain that asks.
    pub(crate) domain: u32,
    pub(crate) kind: Kind,
    /// The group, or the alias of the domain, where it wants one.
    pub(crate) name: Option<Name>,
}

impl Wanted {
    /// The size of the larger ring.
    pub(crate) fn largest(&self) -> u32 {
        self.tx.max(self.rx)
    }

    /// Bytes of both rings.
    pub(crate) fn bytes(&self) -> u32 {
        self.tx.saturating_add(self.rx)
    }
}

/// An opening that has no channel yet.
pub(super) struct Pending {
    /// Who waits: nobody any more, or, in the front, the back itself.
    pub(super) attempt: Option<Attempt>,
    /// The back's request; with tag 0 the front's own wish.
    pub(super) request: Request,
    pub(super) name: Option<Name>,
    pub(super) costs: Costs,
}

/// Everything about opening and closing that a tunnel keeps.
pub(crate) struct Openings {
    places: KVVec<Place>,
    pub(super) pending: KVec<Pending>,
    pub(super) last_tag: u32,
    /// Who asked.
    pub(super) asks: Arc<Asks>,
    /// Front: the segment that the back has not mapped yet.
    pub(super) growing: Option<Growing>,
    /// Front: segments that the back has not unmapped yet.
    pub(super) retiring: u32,
    /// Front: when each segment was used last, by [`crate::sys::clock::clock`].
    pub(super) used: [u64; SEGMENTS as usize],
    /// Front: the reaper looks after idle segments.
    pub(super) tended: bool,
    /// Back: the segment that comes in.
    pub(crate) incoming: Option<Incoming>,
    /// Back: the group, or the alias, that the next OPEN is about.
    pub(super) naming: NameAssembler,
    /// The queues of the channels.
    spread: ChannelIds,
}

impl Openings {
    pub(crate) const fn new(queues: Queues, asks: Arc<Asks>) -> Self {
        Self {
            spread: ChannelIds::new(queues),
            places: KVVec::new(),
            pending: KVec::new(),
            last_tag: 0,
            asks,
            growing: None,
            retiring: 0,
            used: [0; SEGMENTS as usize],
            tended: false,
            incoming: None,
            naming: NameAssembler::NONE,
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.spread.in_use() as usize
    }

    /// Notes that a segment was in use until now.
    pub(super) fn note_use(&mut self, segment: u32) {
        if let Some(used) = self.used.get_mut(segment as usize) {
            *used = clock();
        }
    }

    /// Channels of a queue.
    pub(crate) fn channels_of(&self, queue: u32) -> u32 {
        self.spread.in_queue(queue)
    }

    /// Ends every channel and every opening with an errno.
    pub(crate) fn fail_all(&mut self, errno: Errno) {
        for record in self.places.drain_all().filter_map(|place| place.record) {
            self.spread.remove(record.open.channel.id);
            record.channel.fail(errno);
            record.channel.waiter.kick();
            if let Some(attempt) = record.waiter {
                attempt.refused(errno);
            }
        }
        for pending in self.pending.drain_all() {
            if let Some(attempt) = pending.attempt {
                attempt.refused(errno);
            }
        }
    }

    /// A number that some channel had before.
    pub(super) fn number(&mut self, id: u32) -> Result<&mut Number, Violation> {
        let place = self.places.get_mut(id as usize);
        Ok(&mut place.ok_or(Violation::ChannelId)?.number)
    }

    pub(super) fn record(&mut self, channel: ChannelId) -> Option<&mut Record> {
        let place = self.places.get_mut(channel.id as usize)?;
        let place = Some(place).filter(|p| p.number.has(channel.generation));
        place?.record.as_mut()
    }

    pub(super) fn records(&mut self) -> impl Iterator<Item = &mut Record> {
        self.places.iter_mut().filter_map(|p| p.record.as_mut())
    }

    /// Number `id` with its next generation.
    fn next(&mut self, id: u32) -> Result<ChannelId> {
        self.reserve(id)?;
        let place = self.places.get(id as usize).ok_or(ENOSPC)?;
        Ok(ChannelId {
            id,
            generation: place.number.next(),
        })
    }

    /// A free number, so that channels spread over the queues, with its next
    /// generation.
    pub(super) fn next_id(&mut self) -> Result<ChannelId> {
        let id = self.spread.next_free().ok_or(ENOSPC)?;
        self.next(id)
    }

    /// Two numbers for the ends of a channel inside this domain: a free even one,
    /// and the one after it.
    pub(crate) fn next_pair(&mut self) -> Result<[ChannelId; 2]> {
        let id = self.spread.next_free_pair().ok_or(ENOSPC)?;
        Ok([self.next(id)?, self.next(id.wrapping_add(1))?])
    }

    /// Makes room for number `id` in the table.
    pub(super) fn reserve(&mut self, id: u32) -> Result {
        while self.places.len() <= id as usize {
            self.places.push(Place::default(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Keeps the channel that took its number.
    pub(super) fn insert(&mut self, record: Record) {
        let id = record.open.channel.id;
        if let Some(place) = self.places.get_mut(id as usize) {
            place.record = Some(record);
            self.spread.insert(id);
        }
    }

    /// Keeps a channel of this side's making. Its number is free, for
    /// [`Self::next_id`] or [`Self::next_pair`] gave it under the same lock.
    pub(super) fn begin(&mut self, record: Record, answer: Answer) {
        let ChannelId { id, generation } = record.open.channel;
        let number = self.number(id);
        if number.and_then(|n| n.open(generation, answer)).is_ok() {
            self.insert(record);
        }
    }

    /// Keeps a channel inside this domain.
    pub(crate) fn keep(&mut self, channel: Arc<Channel>) {
        let open = Open {
            channel: channel.id,
            ..Open::default()
        };
        let waiter = None;
        self.begin(
            Record {
                open,
                channel,
                group: None,
                waiter,
                costs: Costs::default(),
            },
            Answer::Given,
        );
    }

    /// Frees a number, and forgets its channel, if it has got one.
    pub(super) fn remove(&mut self, id: u32) -> Option<Record> {
        let place = self.places.get_mut(id as usize)?;
        place.number.free();
        let record = place.record.take()?;
        self.spread.remove(id);
        Some(record)
    }

    /// The request that the front answers.
    pub(super) fn take_pending(&mut self, tag: u32) -> Result<Pending, Violation> {
        let tags = self.pending.iter().map(|p| p.request.tag);
        let index = find_request(tags, tag)?;
        self.pending.remove(index).map_err(|_| Violation::Tag)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a tunnel remembers of its channels, and of openings without one yet.
//!
//! Owns numbers, generations and tags. Nothing here talks to the peer.

use idts_core::error::Violation;
use idts_core::queues::{Queues, Spread};
use idts_core::wire::{ChannelId, Kind, Name, Open, Ports, CHANNELS, SEGMENTS};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::region::{Growing, Incoming};
use crate::channel::Channel;
use crate::endpoint::Endpoint;
use crate::errno::Errno;
use crate::patience::clock;
use crate::tunnel::Tunnel;

/// A channel of the tunnel.
pub(super) struct Record {
    pub(super) open: Open,
    pub(super) channel: Arc<Channel>,
    /// Front: the back has not answered yet. The endpoint that waits for it.
    pub(super) answer: Answer,
    pub(super) local_closed: bool,
    pub(super) peer_closed: bool,
}

pub(super) enum Answer {
    /// None is awaited.
    None,
    /// Awaited by an endpoint, or by nobody any more.
    Awaited(Option<Arc<Endpoint>>),
    /// Back: we owe it, for another domain is being asked.
    Owed,
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

/// An opening that has no channel yet.
pub(super) struct Pending {
    /// Who waits: nobody any more, or, in the front, the back itself.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The back's name for its request, 0 for the front's own.
    pub(super) tag: u32,
    pub(super) ports: Ports,
    pub(super) front_size: u32,
    pub(super) back_size: u32,
    pub(super) domain: u32,
    pub(super) kind: Kind,
    pub(super) name: Option<Name>,
}

impl Pending {
    /// Whether the front's answer keeps to what was asked.
    pub(super) fn is_met_by(&self, open: &Open) -> bool {
        (self.front_size, self.back_size) == (open.front_ring.len, open.back_ring.len)
            && self.ports == open.ports
            && (self.domain, self.kind) == (open.domain, open.kind)
    }
}

/// Everything about opening and closing that a tunnel keeps.
pub(crate) struct Openings {
    pub(super) records: KVVec<Option<Record>>,
    pub(super) generations: KVVec<u32>,
    pub(super) pending: KVec<Pending>,
    pub(super) last_tag: u32,
    /// Front: the segment that the back has not mapped yet.
    pub(super) growing: Option<Growing>,
    /// Front: segments that the back has not unmapped yet.
    pub(super) retiring: u32,
    /// Front: when each segment was used last, by [`crate::patience::clock`].
    pub(super) used: [u64; SEGMENTS as usize],
    /// Front: the reaper looks after idle segments.
    pub(super) tended: bool,
    /// Back: the segment that comes in.
    pub(crate) incoming: Option<Incoming>,
    /// Back: the group, or the alias, that the next OPEN is about.
    pub(super) name: Option<Name>,
    /// The queues of the channels.
    spread: Spread,
}

impl Openings {
    pub(crate) const fn new(queues: Queues) -> Self {
        Self {
            spread: Spread::new(queues),
            records: KVVec::new(),
            generations: KVVec::new(),
            pending: KVec::new(),
            last_tag: 0,
            growing: None,
            retiring: 0,
            used: [0; SEGMENTS as usize],
            tended: false,
            incoming: None,
            name: None,
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.records.iter().flatten().count()
    }

    /// Notes that a segment was in use until now.
    pub(super) fn note_use(&mut self, segment: u32) {
        if let Some(used) = self.used.get_mut(segment as usize) {
            *used = clock();
        }
    }

    /// Channels of a queue.
    pub(crate) fn channels_of(&self, queue: u32) -> u32 {
        self.spread.channels(queue)
    }

    /// Ends every channel and every opening with an errno.
    pub(crate) fn fail_all(&mut self, tunnel: &Tunnel, errno: Errno) {
        for record in self.records.drain_all().flatten() {
            record.channel.fail(errno);
            tunnel.slots.with(record.open.channel.id, |e| e.kick());
            if let Answer::Awaited(Some(endpoint)) = record.answer {
                endpoint.refused(errno);
            }
        }
        for pending in self.pending.drain_all() {
            if let Some(endpoint) = pending.endpoint {
                endpoint.refused(errno);
            }
        }
    }

    pub(super) fn record(&mut self, channel: ChannelId) -> Result<&mut Record, Violation> {
        let record = self
            .records
            .get_mut(channel.id as usize)
            .and_then(|r| r.as_mut())
            .ok_or(Violation::ChannelId)?;
        if record.open.channel.generation != channel.generation {
            return Err(Violation::Generation);
        }
        Ok(record)
    }

    /// The generation that a number, which must be free, had last.
    pub(super) fn last_use(&self, id: u32) -> Result<u32, Violation> {
        match self.records.get(id as usize) {
            Some(Some(_)) => Err(Violation::ChannelId),
            _ => Ok(self.generations.get(id as usize).copied().unwrap_or(0)),
        }
    }

    /// Makes room for number `id` in the tables.
    pub(super) fn reserve(&mut self, id: u32) -> Result {
        while self.records.len() <= id as usize {
            self.records.push(None, GFP_KERNEL)?;
        }
        while self.generations.len() <= id as usize {
            self.generations.push(0, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// A free number, so that channels spread over the queues, with its next
    /// generation.
    pub(super) fn next_id(&mut self) -> Result<ChannelId> {
        let free = |id: u32| !matches!(self.records.get(id as usize), Some(Some(_)));
        let id = self.spread.next(free).ok_or(ENOSPC)?;
        self.reserve(id)?;
        let generation = self.generations.get(id as usize).copied().unwrap_or(0);
        Ok(ChannelId {
            id,
            generation: generation.wrapping_add(1),
        })
    }

    pub(super) fn insert(&mut self, record: Record) {
        let ChannelId { id, generation } = record.open.channel;
        if let Some(g) = self.generations.get_mut(id as usize) {
            *g = generation;
        }
        if let Some(place) = self.records.get_mut(id as usize) {
            *place = Some(record);
            self.spread.add(id);
        }
    }

    /// A free even number, for a channel inside this domain; the number after it
    /// is free too.
    pub(crate) fn next_pair(&mut self) -> Result<u32> {
        let free = |id: u32| !matches!(self.records.get(id as usize), Some(Some(_)));
        let id = (2..CHANNELS)
            .step_by(2)
            .find(|id| free(*id) && free(id.wrapping_add(1)))
            .ok_or(ENOSPC)?;
        self.reserve(id.wrapping_add(1))?;
        Ok(id)
    }

    /// Keeps a channel inside this domain.
    pub(crate) fn keep(&mut self, channel: Arc<Channel>) {
        let open = Open {
            channel: channel.id,
            ..Open::default()
        };
        self.insert(Record {
            open,
            channel,
            answer: Answer::None,
            local_closed: false,
            peer_closed: false,
        });
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Record> {
        let record = self.records.get_mut(id as usize)?.take()?;
        self.spread.remove(id);
        Some(record)
    }

    pub(super) fn take_pending(&mut self, tag: u32) -> Result<Pending, Violation> {
        let index = self.pending.iter().position(|p| p.tag == tag);
        index
            .and_then(|i| self.pending.remove(i).ok())
            .ok_or(Violation::Tag)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The table of a tunnel's channels by id, and the openings that have no channel yet.
//!
//! It owns ids and generations. Nothing here talks to the peer; `idts_core::opening` decides.

use idts_core::error::Violation;
use idts_core::opening::{Actions, ChannelSlot, Event};
use idts_core::queues::{ChannelIds, Queues};
use idts_core::reassembly::find_request;
use idts_core::wire::{ChannelId, Name, Open, Request};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::host::Attempt;
use super::payer::Rings;
use super::shares::{Question, Share};
use crate::channel::Channel;
use crate::sys::errno::Errno;

/// Most pending openings at once.
const PENDING_MAX: usize = 256;

/// Charges for an opening, later for its channel. Dropping them refunds.
#[derive(Default)]
pub(super) struct Costs {
    /// The rings, charged to a program of this side.
    pub(super) rings: Option<Rings>,
    /// The requester's share of the region, until one side closes.
    pub(super) share: Option<Share>,
    /// The unanswered request, until it is answered.
    pub(super) question: Option<Question>,
}

/// A channel of the tunnel.
pub(super) struct ChannelEntry {
    /// The OPEN, with id, generation, kind and slices.
    pub(super) open: Open,
    pub(super) channel: Arc<Channel>,
    /// The group that the peer opened the channel to.
    pub(super) group: Option<KBox<Name>>,
    /// The attempt that waits for the peer's answer. None: it gave up, or the peer opened the
    /// channel.
    pub(super) attempt: Option<Attempt>,
    pub(super) costs: Costs,
}

/// An opening without a channel yet.
pub(super) struct PendingOpen {
    /// The attempt that waits. None: it gave up, or the request came from the peer.
    pub(super) attempt: Option<Attempt>,
    /// The request, sent or received. With tag 0 it is neither: a program of the granter's side
    /// waits for room.
    pub(super) request: Request,
    /// The group, or the alias of the domain.
    pub(super) name: Option<Name>,
    pub(super) costs: Costs,
}

/// A channel id: its state, and the channel that has it.
#[derive(Default)]
struct Slot {
    opening: ChannelSlot,
    entry: Option<ChannelEntry>,
}

/// The channels and the pending openings of a tunnel.
pub(crate) struct Channels {
    slots: KVVec<Slot>,
    pub(super) pending: KVec<PendingOpen>,
    /// The ids in use, spread over the queues.
    spread: ChannelIds,
}

impl Channels {
    /// Creates an empty table, which spreads channels over `queues`.
    pub(crate) const fn new(queues: Queues) -> Self {
        Self {
            slots: KVVec::new(),
            pending: KVec::new(),
            spread: ChannelIds::new(queues),
        }
    }

    /// Number of channels that are not closed by both sides.
    pub(crate) fn count(&self) -> usize {
        self.spread.in_use() as usize
    }

    /// Number of channels of a queue.
    pub(crate) fn count_of(&self, queue: u32) -> u32 {
        self.spread.in_queue(queue)
    }

    /// Breaks every channel and refuses every pending opening with an errno.
    pub(super) fn fail_all(&mut self, errno: Errno) {
        for entry in self.slots.drain_all().filter_map(|slot| slot.entry) {
            self.spread.remove(entry.open.channel.id);
            entry.channel.fail(errno);
            entry.channel.waiter.kick();
            if let Some(attempt) = entry.attempt {
                attempt.refused(errno);
            }
        }
        for pending in self.pending.drain_all() {
            if let Some(attempt) = pending.attempt {
                attempt.refused(errno);
            }
        }
    }

    /// Returns the state of channel id `id`.
    ///
    /// # Errors
    /// [`Violation::ChannelId`]: no channel has had the id, and [`Self::reserve`] was not called
    /// for it.
    pub(super) fn opening(&self, id: u32) -> Result<ChannelSlot, Violation> {
        let slot = self.slots.get(id as usize);
        Ok(slot.ok_or(Violation::ChannelId)?.opening)
    }

    /// Applies an event of the peer to a channel. Returns the actions that follow.
    ///
    /// # Errors
    /// The violation of a message that does not fit.
    pub(super) fn hear(&mut self, id: ChannelId, event: Event) -> Result<Actions, Violation> {
        let slot = self.slots.get_mut(id.id as usize);
        let slot = slot.ok_or(Violation::ChannelId)?;
        slot.opening.step(id.generation, event)
    }

    /// Applies an event of this side to a channel. Returns no action if the channel has ended or
    /// the tunnel was stopped.
    pub(super) fn act(&mut self, id: ChannelId, event: Event) -> Actions {
        match self.slots.get_mut(id.id as usize) {
            Some(slot) => slot.opening.act(id.generation, event),
            None => &[],
        }
    }

    /// Returns the entry of a channel, by id and generation.
    pub(super) fn entry(&mut self, channel: ChannelId) -> Option<&mut ChannelEntry> {
        let slot = self.slots.get_mut(channel.id as usize)?;
        let slot = Some(slot).filter(|s| s.opening.has(channel.generation));
        slot?.entry.as_mut()
    }

    /// Returns the entry that the last channel with an id left, until it is removed.
    pub(super) fn last(&mut self, id: u32) -> Option<&mut ChannelEntry> {
        self.slots.get_mut(id as usize)?.entry.as_mut()
    }

    /// Returns all entries.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = &mut ChannelEntry> {
        self.slots.iter_mut().filter_map(|s| s.entry.as_mut())
    }

    /// Returns id `id` with its next generation.
    fn next(&mut self, id: u32) -> Result<ChannelId> {
        self.reserve(id)?;
        let slot = self.slots.get(id as usize).ok_or(ENOSPC)?;
        Ok(ChannelId {
            id,
            generation: slot.opening.next(),
        })
    }

    /// Returns a free id with its next generation, from the queue with the fewest channels.
    ///
    /// # Errors
    /// `ENOSPC`: no id is free. `ENOMEM`.
    pub(super) fn next_id(&mut self) -> Result<ChannelId> {
        let id = self.spread.next_free().ok_or(ENOSPC)?;
        self.next(id)
    }

    /// Returns two ids for the ends of a loopback channel: a free even one and the next.
    ///
    /// # Errors
    /// `ENOSPC`: no pair is free. `ENOMEM`.
    pub(super) fn next_pair(&mut self) -> Result<[ChannelId; 2]> {
        let id = self.spread.next_free_pair().ok_or(ENOSPC)?;
        Ok([self.next(id)?, self.next(id.wrapping_add(1))?])
    }

    /// Makes room for id `id`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self, id: u32) -> Result {
        while self.slots.len() <= id as usize {
            self.slots.push(Slot::default(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Inserts a channel whose id has left its free state.
    pub(super) fn insert(&mut self, entry: ChannelEntry) {
        let id = entry.open.channel.id;
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.entry = Some(entry);
            self.spread.insert(id);
        }
    }

    /// Inserts a channel of this side, which begins with `event`. Its id is free, because
    /// [`Self::next_id`] or [`Self::next_pair`] returned it under the same lock.
    pub(super) fn begin(&mut self, entry: ChannelEntry, event: Event) {
        if !self.act(entry.open.channel, event).is_empty() {
            self.insert(entry);
        }
    }

    /// Removes the entry of an id that is free again, if it has one.
    pub(super) fn remove(&mut self, id: u32) -> Option<ChannelEntry> {
        let entry = self.slots.get_mut(id as usize)?.entry.take()?;
        self.spread.remove(id);
        Some(entry)
    }

    /// Adds a pending opening.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: there are too many, or no memory.
    pub(super) fn pend(&mut self, pending: PendingOpen) -> Result<(), Errno> {
        if self.pending.len() >= PENDING_MAX || self.pending.push(pending, GFP_KERNEL).is_err() {
            return Err(Errno::NoSpace);
        }
        Ok(())
    }

    /// Removes the request that the peer answers.
    ///
    /// # Errors
    /// [`Violation::Tag`]: no request has this tag.
    pub(super) fn take_pending(&mut self, tag: u32) -> Result<PendingOpen, Violation> {
        let tags = self.pending.iter().map(|p| p.request.tag);
        let index = find_request(tags, tag)?;
        self.pending.remove(index).map_err(|_| Violation::Tag)
    }
}

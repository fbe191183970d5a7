// SPDX-License-Identifier: GPL-2.0

//! The channels of a tunnel, by number, and openings that have no channel yet.
//!
//! Owns numbers and generations. Nothing here talks to the peer; `idts_core::opening`
//! decides.

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

/// Openings that may be under way at once.
const PENDING_MAX: usize = 256;

/// Entries in accounts for an opening, then for a channel, until dropped.
#[derive(Default)]
pub(super) struct Costs {
    /// The rings, for which this side's program pays.
    pub(super) rings: Option<Rings>,
    /// The share of the region of the domain that asked, until one side closes.
    pub(super) share: Option<Share>,
    /// The question, until it is answered.
    pub(super) question: Option<Question>,
}

/// A channel of the tunnel.
pub(super) struct ChannelEntry {
    pub(super) open: Open,
    pub(super) channel: Arc<Channel>,
    /// The group that the peer asked for.
    pub(super) group: Option<KBox<Name>>,
    /// The attempt that waits for the peer's answer, if it still does.
    pub(super) attempt: Option<Attempt>,
    pub(super) costs: Costs,
}

/// An opening that has no channel yet.
pub(super) struct PendingOpen {
    /// The attempt that waits, if one still does; none for a peer's own request.
    pub(super) attempt: Option<Attempt>,
    /// The request that was sent, or came; with tag 0 it is neither.
    pub(super) request: Request,
    pub(super) name: Option<Name>,
    pub(super) costs: Costs,
}

/// A channel number.
#[derive(Default)]
struct Slot {
    opening: ChannelSlot,
    entry: Option<ChannelEntry>,
}

/// The channels of a tunnel, and its pending openings.
pub(crate) struct Channels {
    slots: KVVec<Slot>,
    pub(super) pending: KVec<PendingOpen>,
    /// The queues of the channels.
    spread: ChannelIds,
}

impl Channels {
    /// No channels, to be spread over `queues`.
    pub(crate) const fn new(queues: Queues) -> Self {
        Self {
            slots: KVVec::new(),
            pending: KVec::new(),
            spread: ChannelIds::new(queues),
        }
    }

    /// Channels that are not closed by both sides.
    pub(crate) fn count(&self) -> usize {
        self.spread.in_use() as usize
    }

    /// Channels of a queue.
    pub(crate) fn count_of(&self, queue: u32) -> u32 {
        self.spread.in_queue(queue)
    }

    /// Ends every channel and every pending opening with an errno.
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

    /// How far number `id` is.
    ///
    /// # Errors
    /// No channel had it before, and [`Self::reserve`] was not called for it.
    pub(super) fn opening(&self, id: u32) -> Result<ChannelSlot, Violation> {
        let slot = self.slots.get(id as usize);
        Ok(slot.ok_or(Violation::ChannelId)?.opening)
    }

    /// Applies an event that the peer caused to a channel. Returns the actions that follow.
    ///
    /// # Errors
    /// The rule that the peer broke.
    pub(super) fn hear(&mut self, id: ChannelId, event: Event) -> Result<Actions, Violation> {
        let slot = self.slots.get_mut(id.id as usize);
        let slot = slot.ok_or(Violation::ChannelId)?;
        slot.opening.step(id.generation, event)
    }

    /// The same for an event that this side caused; no action follows once the tunnel was
    /// stopped.
    pub(super) fn act(&mut self, id: ChannelId, event: Event) -> Actions {
        match self.slots.get_mut(id.id as usize) {
            Some(slot) => slot.opening.act(id.generation, event),
            None => &[],
        }
    }

    /// The entry of a channel.
    pub(super) fn entry(&mut self, channel: ChannelId) -> Option<&mut ChannelEntry> {
        let slot = self.slots.get_mut(channel.id as usize)?;
        let slot = Some(slot).filter(|s| s.opening.has(channel.generation));
        slot?.entry.as_mut()
    }

    /// The entry of the channel that had a number last, until it is removed.
    pub(super) fn last(&mut self, id: u32) -> Option<&mut ChannelEntry> {
        self.slots.get_mut(id as usize)?.entry.as_mut()
    }

    /// All entries.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = &mut ChannelEntry> {
        self.slots.iter_mut().filter_map(|s| s.entry.as_mut())
    }

    /// Number `id` with its next generation.
    fn next(&mut self, id: u32) -> Result<ChannelId> {
        self.reserve(id)?;
        let slot = self.slots.get(id as usize).ok_or(ENOSPC)?;
        Ok(ChannelId {
            id,
            generation: slot.opening.next(),
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
    pub(super) fn next_pair(&mut self) -> Result<[ChannelId; 2]> {
        let id = self.spread.next_free_pair().ok_or(ENOSPC)?;
        Ok([self.next(id)?, self.next(id.wrapping_add(1))?])
    }

    /// Makes room for number `id`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self, id: u32) -> Result {
        while self.slots.len() <= id as usize {
            self.slots.push(Slot::default(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Keeps a channel that took its number.
    pub(super) fn insert(&mut self, entry: ChannelEntry) {
        let id = entry.open.channel.id;
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.entry = Some(entry);
            self.spread.insert(id);
        }
    }

    /// Keeps a channel of this side's making, which begins with `event`. Its number is
    /// free, for [`Self::next_id`] or [`Self::next_pair`] gave it under the same lock.
    pub(super) fn begin(&mut self, entry: ChannelEntry, event: Event) {
        if !self.act(entry.open.channel, event).is_empty() {
            self.insert(entry);
        }
    }

    /// Removes the entry of a number that is free again, if it had got one.
    pub(super) fn remove(&mut self, id: u32) -> Option<ChannelEntry> {
        let entry = self.slots.get_mut(id as usize)?.entry.take()?;
        self.spread.remove(id);
        Some(entry)
    }

    /// Keeps an opening that has no channel yet.
    ///
    /// # Errors
    /// There are too many, or no memory.
    pub(super) fn pend(&mut self, pending: PendingOpen) -> Result<(), Errno> {
        if self.pending.len() >= PENDING_MAX || self.pending.push(pending, GFP_KERNEL).is_err() {
            return Err(Errno::NoSpace);
        }
        Ok(())
    }

    /// Takes the request out that the peer answers.
    ///
    /// # Errors
    /// There is none with this tag.
    pub(super) fn take_pending(&mut self, tag: u32) -> Result<PendingOpen, Violation> {
        let tags = self.pending.iter().map(|p| p.request.tag);
        let index = find_request(tags, tag)?;
        self.pending.remove(index).map_err(|_| Violation::Tag)
    }
}

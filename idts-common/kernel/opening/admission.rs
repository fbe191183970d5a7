// SPDX-License-Identifier: GPL-2.0

//! The back's part of opening: it checks every placement against its own book,
//! then the front's rights, and finds who is wanted.

use idts_core::error::Violation;
use idts_core::region::LinesAt;
use idts_core::wire::{BackMessage, ChannelId, Name, Open, Refusal};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::book::{Answer, Record};
use super::free;
use crate::channel::Channel;
use crate::endpoint::{Endpoint, Owner};
use crate::errno::Errno;
use crate::groups::{Asker, Member};
use crate::relay::Relay;
use crate::tunnel::{Inner, Tunnel};

impl Tunnel {
    /// The front opens a channel: checks it, and finds who wants it.
    pub(super) fn open(self: &Arc<Self>, inner: &mut Inner, open: Open) -> Result<(), Violation> {
        let ChannelId { id, generation } = open.channel;
        if matches!(inner.openings.records.get(id as usize), Some(Some(_))) {
            return Err(Violation::ChannelId);
        }
        let last = inner.openings.generations.get(id as usize).copied();
        if generation != last.unwrap_or(0).wrapping_add(1) {
            return Err(Violation::Generation);
        }
        // A group's OPEN comes right after its NAME, and asks for nobody.
        let name = inner.openings.name.take();
        let group = name.filter(|_| open.tag == 0 && open.domain == 0);
        if group.is_some() != open.kind.is_group() || group.is_some() != name.is_some() {
            return Err(Violation::MessageOrder);
        }
        let pending = if open.tag == 0 {
            None
        } else {
            let pending = inner.openings.take_pending(open.tag)?;
            if !pending.is_met_by(&open) {
                return Err(Violation::MessageField);
            }
            Some(pending)
        };
        claim(inner, &open)?;
        let made = inner
            .openings
            .reserve(id)
            .and_then(|()| self.make_channel(inner, &open));
        let channel = match (made, pending.is_some()) {
            (Ok(channel), _) => channel,
            // No memory: the number is used up all the same.
            (Err(_), false) => {
                self.decline(inner, &open, Refusal::NoSpace);
                return Ok(());
            }
            (Err(_), true) => {
                // An answer cannot be declined: end the tunnel rather than lie.
                pr_err!("domain {}: out of memory\n", self.peer);
                self.switch_closing();
                return Ok(());
            }
        };
        // Another domain, or the mover, decides.
        let owed = group.is_some() || pending.is_none() && open.domain != 0;
        let refusal = if pending.is_some() {
            None
        } else if let Err(why) = self.may_open(inner, &open, group) {
            Some(why)
        } else if let Some(name) = group {
            self.join(&channel, &open, name).err()
        } else if owed {
            self.relay(&channel, &open).err()
        } else {
            self.hand_over(&channel).err().map(|()| Refusal::Refused)
        };
        if let Some(why) = refusal {
            self.decline(inner, &open, why);
            return Ok(());
        }
        inner.openings.insert(Record {
            open,
            channel: channel.clone(),
            answer: if owed { Answer::Owed } else { Answer::None },
            local_closed: false,
            peer_closed: false,
        });
        if owed {
            return Ok(());
        }
        self.stats.opened.add(1);
        match pending {
            None => self.post(inner, BackMessage::Opened(open.channel).encode()),
            Some(pending) => self.deliver(inner, pending.endpoint, channel),
        }
        Ok(())
    }

    /// Whether policy and limits let the front open a channel.
    fn may_open(&self, inner: &Inner, open: &Open, group: Option<Name>) -> Result<(), Refusal> {
        let policies = &self.hub.policies;
        let allowed = match group {
            Some(name) => policies.may_join(self.peer, open.kind, name.text()),
            None => policies.may_connect(self.peer, open.domain as u16, open.ports.target),
        };
        if !allowed {
            return Err(Refusal::Forbidden);
        }
        let limit = policies.numbers(self.peer).channels as usize;
        if inner.openings.channels() >= limit {
            self.stats.no_space.add(1);
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Begins to ask the domain that the front wants; its answer is owed.
    fn relay(self: &Arc<Self>, channel: &Arc<Channel>, open: &Open) -> Result<(), Refusal> {
        let leg = Endpoint::accepted(self.hub.clone(), channel.clone());
        let leg = leg.map_err(|_| Refusal::NoSpace)?;
        self.slots.set(channel.id.id, &leg);
        Relay::begin(self, leg.clone(), open).map_err(|_| {
            self.slots.clear(channel.id.id);
            self.hub.reaper.retire(leg);
            Refusal::NoSpace
        })
    }

    /// Begins to join a group; the answer is owed.
    fn join(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        open: &Open,
        name: Name,
    ) -> Result<(), Refusal> {
        let asker = Asker::Front(self.clone(), open.channel);
        let member = Member {
            name,
            kind: open.kind,
            how: open.ports.source,
            asker,
        };
        self.make_member(channel, member)
    }

    /// Makes a leg on `channel` that is to join a group; the mover does the rest.
    pub(crate) fn make_member(
        &self,
        channel: &Arc<Channel>,
        member: Member,
    ) -> Result<(), Refusal> {
        let no_space = |_| Refusal::NoSpace;
        let member = Arc::new(member, GFP_KERNEL).map_err(|_| Refusal::NoSpace)?;
        let leg = Endpoint::accepted(self.hub.clone(), channel.clone()).map_err(no_space)?;
        self.slots.set(channel.id.id, &leg);
        leg.make_leg(Owner::Joining(member));
        leg.kick();
        Ok(())
    }

    /// Gives the front the answer that is owed.
    pub(crate) fn answer(&self, id: ChannelId, refusal: Option<Refusal>) {
        let mut inner = self.inner.lock();
        // Not there: the tunnel was stopped.
        let Ok(record) = inner.openings.record(id) else {
            return;
        };
        record.answer = Answer::None;
        match refusal {
            None => {
                self.stats.opened.add(1);
                self.post(&mut inner, BackMessage::Opened(id).encode());
            }
            Some(why) => {
                // Its memory is the front's again: nobody writes last words.
                record.channel.fail(Errno::ConnRefused);
                self.slots.clear(id.id);
                if let Some(record) = inner.openings.remove(id.id) {
                    self.decline(&mut inner, &record.open, why);
                }
            }
        }
        self.flush(&mut inner);
    }

    /// Refuses a channel that the front opened; its slices are free again.
    fn decline(&self, inner: &mut Inner, open: &Open, why: Refusal) {
        free(inner, open);
        if let Some(g) = inner.openings.generations.get_mut(open.channel.id as usize) {
            *g = open.channel.generation;
        }
        self.stats.refused.add(1);
        let channel = open.channel;
        self.post(inner, BackMessage::Refused { channel, why }.encode());
    }
}

/// Claims an opening's slices in the book, all or none matters not: a claim
/// that fails breaks the tunnel.
fn claim(inner: &mut Inner, open: &Open) -> Result<(), Violation> {
    inner.book.claim_lines(LinesAt {
        segment: open.lines_segment,
        offset: open.lines_offset,
    })?;
    inner.book.claim(open.front_ring)?;
    inner.book.claim(open.back_ring)
}

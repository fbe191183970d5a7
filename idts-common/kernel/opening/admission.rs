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
        check_number(inner, open.channel)?;
        let (open, group) = self.named(inner, open)?;
        let pending = match open.tag {
            0 => None,
            tag => Some(inner.openings.take_pending(tag)?),
        };
        if pending.as_ref().is_some_and(|p| !p.is_met_by(&open)) {
            return Err(Violation::MessageField);
        }
        claim(inner, &open)?;
        let Some(channel) = self.make_or_decline(inner, &open) else {
            return Ok(());
        };
        // Another domain, or the mover, decides.
        let owed = group.is_some() || pending.is_none() && open.domain != 0;
        if pending.is_none() {
            if let Err(why) = self.admit(inner, &channel, &open, group) {
                self.decline(inner, &open, why);
                return Ok(());
            }
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

    /// The group that an OPEN is about; of one that names a domain by its alias,
    /// the OPEN with that domain's id.
    fn named(&self, inner: &mut Inner, open: Open) -> Result<(Open, Option<Name>), Violation> {
        let Some(name) = inner.openings.name.take() else {
            return match open.kind.is_group() {
                true => Err(Violation::MessageOrder),
                false => Ok((open, None)),
            };
        };
        if (open.tag, open.domain) != (0, 0) {
            return Err(Violation::MessageOrder);
        }
        if open.kind.is_group() {
            return Ok((open, Some(name)));
        }
        // What nobody is called is the alias of a domain that nobody can be.
        let domain = self.hub.policies.named(&name).unwrap_or(u16::MAX).into();
        Ok((Open { domain, ..open }, None))
    }

    /// The channel's object. Without memory for it the front is told, or, if it
    /// answers us, who cannot be declined, the tunnel ends.
    fn make_or_decline(self: &Arc<Self>, inner: &mut Inner, open: &Open) -> Option<Arc<Channel>> {
        let made = inner
            .openings
            .reserve(open.channel.id)
            .and_then(|()| self.make_channel(inner, open, self.peer));
        if made.is_err() && open.tag == 0 {
            // The number is used up all the same.
            self.decline(inner, open, Refusal::NoSpace);
        } else if made.is_err() {
            pr_err!("domain {}: out of memory\n", self.peer);
            self.switch_closing();
        }
        made.ok()
    }

    /// Gives a channel to whom the front wants, or begins to.
    fn admit(
        self: &Arc<Self>,
        inner: &Inner,
        channel: &Arc<Channel>,
        open: &Open,
        group: Option<Name>,
    ) -> Result<(), Refusal> {
        self.may_open(inner, open, group)?;
        match group {
            Some(name) => self.join(channel, open, name),
            None if open.domain != 0 => self.relay(channel, open),
            None => self.hand_over(channel).map_err(|()| Refusal::Refused),
        }
    }

    /// The front cannot meet a request of ours.
    pub(super) fn not_met(
        &self,
        inner: &mut Inner,
        tag: u32,
        why: Refusal,
    ) -> Result<(), Violation> {
        let pending = inner.openings.take_pending(tag)?;
        self.stats.refused.add(1);
        if let Some(endpoint) = pending.endpoint {
            endpoint.refused(why.into());
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

/// A number is not in use, and its generation is the next.
fn check_number(inner: &mut Inner, channel: ChannelId) -> Result<(), Violation> {
    let last = inner.openings.last_use(channel.id)?;
    if channel.generation != last.wrapping_add(1) {
        return Err(Violation::Generation);
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! The back's part of opening: it checks every placement against its own book,
//! then the front's rights, and finds who is wanted.

use idts_core::error::Violation;
use idts_core::life::Answer;
use idts_core::opening;
use idts_core::wire::{BackMessage, ChannelId, Name, Open, Refusal};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::book::{Costs, Record};
use super::free;
use crate::channel::Channel;
use crate::endpoint::{Endpoint, Owner};
use crate::groups::{Asker, Member};
use crate::payer::{self, Payer, Rings};
use crate::relay::Relay;
use crate::sys::errno::Errno;
use crate::tunnel::{Inner, Tunnel};

impl Tunnel {
    /// The front opens a channel: checks it, and finds who wants it.
    pub(super) fn open(self: &Arc<Self>, inner: &mut Inner, open: Open) -> Result<(), Violation> {
        let ChannelId { id, generation } = open.channel;
        if inner.openings.reserve(id).is_err() {
            return self.give_up();
        }
        let answer = match open.tag {
            0 => Answer::Owed,
            _ => Answer::Given,
        };
        inner.openings.number(id)?.open(generation, answer)?;
        let (open, group) = self.named(inner, open)?;
        let mut pending = match open.tag {
            0 => None,
            tag => Some(inner.openings.take_pending(tag)?),
        };
        if let Some(pending) = &pending {
            pending.request.check(&open)?;
        }
        opening::reserve(&mut inner.book, &open)?;
        let kept = group.map(|name| KBox::new(name, GFP_KERNEL)).transpose();
        let Ok(kept) = kept else {
            return self.decline(inner, &open, Refusal::NoSpace);
        };
        let costs = match &mut pending {
            Some(pending) => Costs {
                question: None,
                ..core::mem::take(&mut pending.costs)
            },
            None => match self.may_open(inner, &open, group) {
                Ok(rings) => Costs {
                    rings,
                    ..Costs::default()
                },
                Err(why) => return self.decline(inner, &open, why),
            },
        };
        let payer = costs.rings.as_ref().map(Rings::payer);
        let user = payer.map(Payer::uid);
        let make = || self.make_channel(inner, &open, self.peer);
        let Ok(channel) = payer::charge(payer, make) else {
            // An answer to us cannot be declined.
            return match pending {
                None => self.decline(inner, &open, Refusal::NoSpace),
                Some(_) => self.give_up(),
            };
        };
        self.list(&channel);
        if pending.is_none() {
            if let Err(why) = self.admit(&channel, &open, group, user) {
                self.unlist(&channel);
                return self.decline(inner, &open, why);
            }
        }
        inner.openings.insert(Record {
            open,
            channel: channel.clone(),
            group: kept,
            waiter: None,
            costs,
        });
        match pending {
            Some(pending) => {
                self.stats.opened.add(1);
                self.deliver(inner, pending.attempt, channel);
            }
            // Otherwise another domain, or the mover, decides.
            None if group.is_none() && open.domain == 0 => self.accept(inner, open.channel),
            None => {}
        }
        Ok(())
    }

    /// Without memory a tunnel cannot go on; it is closed.
    fn give_up(&self) -> Result<(), Violation> {
        if self.account.may_say() {
            pr_err!("domain {}: out of memory\n", self.peer);
        }
        self.switch_closing();
        Ok(())
    }

    /// The group that an OPEN is about; of one that names a domain by its alias,
    /// the OPEN with that domain's id.
    fn named(&self, inner: &mut Inner, open: Open) -> Result<(Open, Option<Name>), Violation> {
        let name = inner.openings.naming.finish(&open)?;
        match name {
            // What nobody is called is the alias of a domain that nobody can be.
            Some(alias) if !open.kind.is_group() => {
                let domain = self.hub.policies.named(&alias).unwrap_or(u16::MAX).into();
                Ok((Open { domain, ..open }, None))
            }
            group => Ok((open, group)),
        }
    }

    /// Gives a channel to whom the front wants, or begins to.
    fn admit(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        open: &Open,
        group: Option<Name>,
        user: Option<u32>,
    ) -> Result<(), Refusal> {
        match group {
            Some(name) => self.join(channel, open, name),
            None if open.domain != 0 => self.relay(channel, open),
            None => self.hand_over(channel, open, user),
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
        if let Some(attempt) = pending.attempt {
            attempt.refused(why.into());
        }
        Ok(())
    }

    /// Whether policy and limits let the front open a channel. Whoever listens for
    /// it here pays for its rings.
    fn may_open(
        &self,
        inner: &Inner,
        open: &Open,
        group: Option<Name>,
    ) -> Result<Option<Rings>, Refusal> {
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
        if group.is_some() || open.domain != 0 {
            return Ok(None);
        }
        let rings = [open.front_ring.len, open.back_ring.len];
        let host = self.host(open.ports, self.peer.into(), rings);
        host.map(Some).inspect_err(|why| {
            if *why == Refusal::NoSpace {
                self.stats.no_space.add(1);
            }
        })
    }

    /// Begins to ask the domain that the front wants; its answer is owed.
    fn relay(self: &Arc<Self>, channel: &Arc<Channel>, open: &Open) -> Result<(), Refusal> {
        let leg = Endpoint::accepted_leg(self.hub.clone(), channel.clone());
        let leg = leg.map_err(|_| Refusal::NoSpace)?;
        Relay::begin(self, leg, open).map_err(|_| Refusal::NoSpace)
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
        let member = Arc::new(member, GFP_KERNEL_ACCOUNT).map_err(|_| Refusal::NoSpace)?;
        let leg = Endpoint::accepted_leg(self.hub.clone(), channel.clone()).map_err(no_space)?;
        leg.belongs_to(Owner::Joining(leg.clone(), member));
        leg.kick();
        Ok(())
    }

    /// Gives the front the answer that is owed.
    pub(crate) fn answer(&self, id: ChannelId, refusal: Option<Refusal>) {
        let mut inner = self.inner.lock();
        // Not there: the tunnel was stopped.
        let Some(record) = inner.openings.record(id) else {
            return;
        };
        match refusal {
            None => self.accept(&mut inner, id),
            Some(why) => {
                // Its memory is the front's again: nobody writes last words.
                record.channel.fail(Errno::ConnRefused);
                let (open, channel) = (record.open, record.channel.clone());
                self.unlist(&channel);
                let _ = self.decline(&mut inner, &open, why);
            }
        }
        self.flush(&mut inner);
    }

    /// Tells the front that its channel is open.
    fn accept(&self, inner: &mut Inner, id: ChannelId) {
        if let Ok(number) = inner.openings.number(id.id) {
            number.answer(id.generation);
        }
        self.stats.opened.add(1);
        self.post(inner, BackMessage::Opened(id).encode());
    }

    /// Refuses a channel that the front opened; its number and slices are free
    /// again.
    fn decline(&self, inner: &mut Inner, open: &Open, why: Refusal) -> Result<(), Violation> {
        inner.openings.remove(open.channel.id);
        free(inner, open);
        self.stats.refused.add(1);
        let channel = open.channel;
        self.post(inner, BackMessage::Refused { channel, why }.encode());
        Ok(())
    }
}

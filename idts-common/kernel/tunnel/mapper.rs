// SPDX-License-Identifier: GPL-2.0

//! The mapper: the side that maps the granter's memory, checks every placement against its own
//! allocator, then the rights of the granter's domain, and finds the taker of the channel. On
//! the wire it is the back.

use idts_core::error::Violation;
use idts_core::opening::{self, Event};
use idts_core::quota::percent_of;
use idts_core::reassembly;
use idts_core::wire::{
    BackMessage, ChannelId, FrontMessage, Name, Open, Refusal, WINDOW, WINDOW_PAGES, WINDOW_REFS,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::channels::{ChannelEntry, Costs, PendingOpen};
use super::host::{Attempt, OpenRequest};
use super::payer::{self, Payer, Rings};
use super::role::Incoming;
use super::shares::Share;
use super::tunnel::{Inner, Tunnel};
use crate::region::segments::Pages;
use crate::sys::errno::Errno;
use crate::xen::grant::{MapError, MappedPages};

/// Opening of channels.
impl Tunnel {
    /// Begins to open a channel for an attempt of this domain, or of another one.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: a limit is reached, or there is no memory. The attempt is told
    /// nothing.
    pub(super) fn ask_granter(
        self: &Arc<Self>,
        inner: &mut Inner,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno> {
        let payer = attempt.payer();
        let domain = request.domain as u16;
        let question = Some(self.ask_for(inner, payer, domain)?);
        let share = self.share(inner, domain, request.bytes());
        let costs = Costs {
            rings: self.charge_rings(payer, request.bytes())?,
            share: Some(share?),
            question,
        };
        let pending = &inner.channels.pending;
        let is_used = |tag| pending.iter().any(|p| p.request.tag == tag);
        let tags = inner.role.as_mapper().map(|mapper| &mut mapper.tags);
        let tag = tags.map_or(0, |tags| tags.next(is_used));
        let message = request.message(&inner.role, tag);
        let pending = PendingOpen {
            attempt: Some(attempt.clone()),
            request: message,
            name: None,
            costs,
        };
        self.pend(inner, pending)?;
        self.post(inner, BackMessage::Request(message).encode());
        Ok(())
    }

    /// Charges domain `by` for a share of the granter's region.
    fn share(&self, inner: &Inner, by: u16, bytes: u32) -> Result<Share, Errno> {
        let limits = self.host.broker().limits(self.peer);
        let most = percent_of(limits.memory, limits.peer);
        inner.shares.share(by, bytes, most).ok_or_else(|| {
            self.link.stats.no_share.add(1);
            self.link.stats.no_space.add(1);
            Errno::NoSpace
        })
    }

    /// Handles a message of the granter.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    pub(super) fn hear_granter(
        self: &Arc<Self>,
        inner: &mut Inner,
        message: FrontMessage,
    ) -> Result<(), Violation> {
        match message {
            FrontMessage::Window {
                segment,
                windows,
                window,
                half,
                refs,
            } => self.window(inner, (segment, windows, window, half), &refs),
            FrontMessage::Retire { segment } => self.retire(inner, segment),
            FrontMessage::Open(open) => self.open(inner, open),
            FrontMessage::Refuse { tag, why } => self.not_met(inner, tag, why),
            FrontMessage::Closed(id) => self.peer_closed(inner, id),
            FrontMessage::Name(name) => match inner.role.as_mapper() {
                Some(mapper) => mapper.naming.push(name),
                None => Ok(()),
            },
        }
    }

    /// Handles OPEN: checks it, and takes the channel.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    fn open(self: &Arc<Self>, inner: &mut Inner, open: Open) -> Result<(), Violation> {
        let id = open.channel.id;
        if inner.channels.reserve(id).is_err() {
            return self.give_up();
        }
        let opening = inner.channels.opening(id)?;
        let pending = &inner.channels.pending;
        let find = |tag| {
            let mut requests = pending.iter().map(|pending| pending.request);
            requests.find(|request| request.tag == tag)
        };
        let Some(mapper) = inner.role.as_mapper() else {
            return Ok(());
        };
        let name = opening::check_open(&opening, &mut mapper.naming, find, &mut inner.book, &open)?;
        match open.tag {
            0 => self.offered(inner, open, name),
            _ => self.met(inner, open),
        }
    }

    /// Takes a channel that the granter's domain opens, or declines it.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    fn offered(
        self: &Arc<Self>,
        inner: &mut Inner,
        open: Open,
        name: Option<Name>,
    ) -> Result<(), Violation> {
        let (open, group) = self.resolve(open, name);
        inner.channels.hear(open.channel, Event::RecvOpen)?;
        match self.take(inner, open, group) {
            Err(why) => self.decline(inner, &open, why),
            Ok(entry) => {
                inner.channels.insert(entry);
                // For any other OPEN the broker answers.
                if is_for_us(&open, group) {
                    self.accept(inner, open.channel);
                }
            }
        }
        Ok(())
    }

    /// Checks the rights to a channel that the granter's domain opens, and hands it to its
    /// taker.
    ///
    /// # Errors
    /// The reason to decline it.
    fn take(
        self: &Arc<Self>,
        inner: &Inner,
        open: Open,
        group: Option<Name>,
    ) -> Result<ChannelEntry, Refusal> {
        let kept = group.map(|name| KBox::new(name, GFP_KERNEL)).transpose();
        let kept = kept.map_err(|_| Refusal::NoSpace)?;
        let rings = self.may_open(inner, &open, group)?;
        let payer = rings.as_ref().map(Rings::payer);
        let user = payer.map(Payer::uid);
        let make = || self.make_channel(inner, &open, self.peer);
        let channel = payer::charge(payer, make).map_err(|_| Refusal::NoSpace)?;
        self.list(&channel);
        let taken = match is_for_us(&open, group) {
            true => self.hand_over(&channel, &open, user),
            false => (self.host.broker()).take(self.clone(), &channel, &open, group),
        };
        taken.inspect_err(|_| self.unlist(&channel))?;
        Ok(ChannelEntry {
            open,
            channel,
            group: kept,
            attempt: None,
            costs: Costs {
                rings,
                ..Costs::default()
            },
        })
    }

    /// Takes a channel that this side requested.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    fn met(self: &Arc<Self>, inner: &mut Inner, open: Open) -> Result<(), Violation> {
        let PendingOpen {
            attempt, mut costs, ..
        } = inner.channels.take_pending(open.tag)?;
        let event = match attempt {
            Some(_) => Event::RecvAnswer,
            None => Event::RecvLateAnswer,
        };
        let actions = inner.channels.hear(open.channel, event)?;
        costs.question = None;
        let payer = costs.rings.as_ref().map(Rings::payer);
        let make = || self.make_channel(inner, &open, self.peer);
        let Ok(channel) = payer::charge(payer, make) else {
            // An answer to us cannot be declined.
            if let Some(attempt) = attempt {
                attempt.refused(Errno::NoSpace);
            }
            return self.give_up();
        };
        self.list(&channel);
        inner.channels.insert(ChannelEntry {
            open,
            channel,
            group: None,
            attempt,
            costs,
        });
        self.link.stats.opened.add(1);
        self.carry_out_all(inner, open.channel, actions, None);
        Ok(())
    }

    /// Closes the tunnel, which cannot go on without memory.
    fn give_up(&self) -> Result<(), Violation> {
        if self.link.may_log() {
            pr_err!("domain {}: out of memory\n", self.peer);
        }
        self.switch_closing();
        Ok(())
    }

    /// Splits the NAME of an OPEN. Returns the OPEN, with the id of the domain that an alias
    /// stands for, and the group.
    ///
    /// An unknown alias resolves to an invalid domain id, so it gets the same refusal as from
    /// policy.
    fn resolve(&self, open: Open, name: Option<Name>) -> (Open, Option<Name>) {
        match name {
            Some(alias) if !open.kind.is_group() => {
                let known = self.host.broker().resolve(&alias);
                let domain = known.unwrap_or(u16::MAX).into();
                (Open { domain, ..open }, None)
            }
            group => (open, group),
        }
    }

    /// Handles REFUSE: the granter cannot serve a request.
    fn not_met(&self, inner: &mut Inner, tag: u32, why: Refusal) -> Result<(), Violation> {
        let pending = inner.channels.take_pending(tag)?;
        self.link.stats.refused.add(1);
        if let Some(attempt) = pending.attempt {
            attempt.refused(why.into());
        }
        Ok(())
    }

    /// Checks that policy and limits allow the granter to open a channel. Returns the charge for
    /// its rings if an acceptor of this domain pays.
    ///
    /// # Errors
    /// The reason to refuse it.
    fn may_open(
        &self,
        inner: &Inner,
        open: &Open,
        group: Option<Name>,
    ) -> Result<Option<Rings>, Refusal> {
        if !self.host.broker().may_open(self.peer, open, group.as_ref()) {
            return Err(Refusal::Forbidden);
        }
        let limit = self.host.broker().limits(self.peer).channels as usize;
        if inner.channels.count() >= limit {
            self.link.stats.no_space.add(1);
            return Err(Refusal::NoSpace);
        }
        if !is_for_us(open, group) {
            return Ok(None);
        }
        let rings = [open.front_ring.len, open.back_ring.len];
        let charged = self.charge_acceptor(open.ports, self.peer.into(), rings);
        charged.map(Some).inspect_err(|why| {
            if *why == Refusal::NoSpace {
                self.link.stats.no_space.add(1);
            }
        })
    }

    /// Sends the granter the answer that the broker owes it.
    pub(super) fn answer_granter(self: &Arc<Self>, id: ChannelId, refusal: Option<Refusal>) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.channels.entry(id) else {
            return;
        };
        match refusal {
            None => self.accept(&mut inner, id),
            Some(why) => {
                // The granter may reuse its memory at once, so no last flags are written.
                entry.channel.fail(Errno::ConnRefused);
                let (open, channel) = (entry.open, entry.channel.clone());
                self.unlist(&channel);
                self.decline(&mut inner, &open, why);
            }
        }
        self.flush(&mut inner);
    }

    /// Sends OPENED for a channel of the granter.
    fn accept(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        let actions = inner.channels.act(id, Event::Accept);
        self.carry_out_all(inner, id, actions, None);
    }

    /// Refuses a channel that the granter opened, and frees its id and slices.
    fn decline(&self, inner: &mut Inner, open: &Open, why: Refusal) {
        let channel = open.channel;
        if inner.channels.act(channel, Event::Refuse).is_empty() {
            return;
        }
        inner.channels.remove(channel.id);
        inner.free(open);
        self.link.stats.refused.add(1);
        self.post(inner, BackMessage::Refused { channel, why }.encode());
    }

    /// Ends the channels to which the granter's domain has lost its right, for both ends.
    ///
    /// An OPEN is judged and entered under the tunnel's lock. So a caller that changes the
    /// policy first finds here all channels that were judged by the old one.
    pub fn end_unrightful(&self) {
        for entry in self.inner.lock().channels.entries() {
            // A channel with a tag was requested by others, and needs no right of this domain.
            let (open, group) = (&entry.open, entry.group.as_deref());
            if open.tag == 0 && self.host.broker().lost_right(self.peer, open, group) {
                entry.channel.revoke();
            }
        }
    }
}

/// Returns whether a channel is for an acceptor of this domain, not for the broker.
fn is_for_us(open: &Open, group: Option<Name>) -> bool {
    group.is_none() && open.domain == 0
}

/// The granter's memory.
impl Tunnel {
    /// Begins a segment, which fails if it would exceed the granter's limit.
    fn expect_segment(&self, inner: &Inner, segment: u32, windows: u32) -> Incoming {
        let total = inner.segments.windows().wrapping_add(windows as usize);
        let bytes = (total as u64).saturating_mul(WINDOW.into());
        Incoming {
            order: reassembly::SegmentAssembler::new(segment, windows),
            refs: [0; WINDOW_PAGES as usize],
            mapped: KVec::new(),
            failed: bytes > self.host.broker().limits(self.peer).memory,
        }
    }

    /// Handles WINDOW: half of the grant references of a window. Maps the window once both
    /// halves are there, and answers after the last window.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    fn window(
        &self,
        inner: &mut Inner,
        (segment, windows, window, half): (u32, u32, u32, u32),
        refs: &[u32; WINDOW_REFS],
    ) -> Result<(), Violation> {
        let is_new = (inner.role.as_mapper()).is_some_and(|m| m.incoming.is_none());
        let expected = match is_new {
            true if inner.segments.get(segment).is_some() => return Err(Violation::Segment),
            true => Some(self.expect_segment(inner, segment, windows)),
            false => None,
        };
        let Some(mapper) = inner.role.as_mapper() else {
            return Ok(());
        };
        if expected.is_some() {
            mapper.incoming = expected;
        }
        let Some(incoming) = mapper.incoming.as_mut() else {
            return Ok(());
        };
        let whole = incoming.order.push((segment, windows), (window, half))?;
        let at = (half as usize).wrapping_mul(WINDOW_REFS);
        for (to, from) in incoming.refs.iter_mut().skip(at).zip(refs) {
            *to = *from;
        }
        if !whole {
            return Ok(());
        }
        if !incoming.failed {
            let Some(peer) = &self.device else {
                return Ok(());
            };
            match MappedPages::new(peer, &mut incoming.refs) {
                Ok(mapped) => {
                    let kept = incoming.mapped.push(Pages::Mapped(mapped), GFP_KERNEL);
                    incoming.failed = kept.is_err();
                }
                // xenbus has closed the device already.
                Err(MapError::Refused) => return Err(Violation::Segment),
                Err(MapError::OverBudget | MapError::Local(_)) => incoming.failed = true,
            }
        }
        let Some(incoming) = mapper.incoming.take_if(|i| i.order.is_complete()) else {
            return Ok(());
        };
        let mapped = !incoming.failed && inner.segments.put(segment, incoming.mapped).is_ok();
        if mapped {
            inner.book.add_segment(segment, windows)?;
            self.link.stats.grown.add(1);
        } else {
            self.link.stats.no_space.add(1);
        }
        self.post(inner, BackMessage::Segment { segment, mapped }.encode());
        Ok(())
    }

    /// Handles RETIRE: unmaps a segment that the granter wants back.
    fn retire(&self, inner: &mut Inner, segment: u32) -> Result<(), Violation> {
        inner.book.remove_segment(segment)?;
        if let Some(windows) = inner.segments.take(segment) {
            self.drop_windows(windows);
        }
        self.link.stats.shrunk.add(1);
        self.post(inner, BackMessage::Retired { segment }.encode());
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Opening and closing of channels, the part that both roles share.
//!
//! `idts_core::opening` has the table of actions that follow an event; this file carries them
//! out. PROTOCOL.md section 7.

use idts_core::error::Violation;
use idts_core::opening::{self, Action, Actions, Event};
use idts_core::quota::{Requester, Scope};
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Open, Ports, Refusal, Request, Slot,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::channels::PendingOpen;
use super::host::{Acceptor, Attempt, OpenRequest};
use super::payer::{Payer, Rings};
use super::role::Role;
use super::shares::Question;
use super::tunnel::{Inner, Tunnel};
use crate::channel::{Channel, Memory, Setup};
use crate::sys::errno::Errno;

impl Tunnel {
    /// Begins to open a channel for an attempt.
    ///
    /// # Errors
    /// [`Errno::NetDown`]: the link is gone. [`Errno::NoSpace`] and refusals by this side. The
    /// attempt gets no other answer.
    pub(super) fn connect_attempt(
        self: &Arc<Self>,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno> {
        if self.link.is_loopback() {
            return self.connect_loopback(attempt, request);
        }
        let mut inner = self.inner.lock();
        if !self.link.is_open() {
            return Err(Errno::NetDown);
        }
        // An attempt that is abandoned from now on is found in the table.
        if !attempt.is_awaited() {
            return Ok(());
        }
        match inner.role {
            Role::Mapper(_) => self.ask_granter(&mut inner, attempt, request)?,
            _ => self.ask_mapper(&mut inner, attempt, request)?,
        }
        self.flush(&mut inner);
        Ok(())
    }

    /// Handles one message, a private copy of its slot.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    pub(super) fn hear(self: &Arc<Self>, inner: &mut Inner, slot: &Slot) -> Result<(), Violation> {
        match inner.role {
            Role::Mapper(_) => self.hear_granter(inner, FrontMessage::decode(slot)?),
            _ => self.hear_mapper(inner, BackMessage::decode(slot)?),
        }
    }

    /// Counts an unanswered request of `by` until the [`Question`] is dropped.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: `by` has too many.
    pub(super) fn ask(&self, inner: &Inner, by: Requester) -> Result<Question, Errno> {
        inner.shares.ask(by).ok_or_else(|| {
            self.link.stats.too_many_asked.add(1);
            self.link.stats.no_space.add(1);
            Errno::NoSpace
        })
    }

    /// Counts an unanswered request of `payer`'s user, or without a payer of `domain`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn ask_for(
        &self,
        inner: &Inner,
        payer: Option<&Arc<Payer>>,
        domain: u16,
    ) -> Result<Question, Errno> {
        let by = payer.map_or(Requester::Domain(domain), |payer| {
            Requester::User(payer.uid())
        });
        self.ask(inner, by)
    }

    /// Charges the rings of a channel that a program of this domain requests. Without a payer,
    /// for a request of another domain, nothing is charged.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: a limit of the user is reached.
    pub(super) fn charge_rings(
        &self,
        payer: Option<&Arc<Payer>>,
        bytes: u32,
    ) -> Result<Option<Rings>, Errno> {
        let rings = payer.map(|payer| payer.rings(Scope::Peer, bytes, || ()));
        rings
            .transpose()
            .inspect_err(|_| self.link.stats.no_space.add(1))
    }

    /// Adds a pending opening.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: there are too many, or no memory.
    pub(super) fn pend(&self, inner: &mut Inner, pending: PendingOpen) -> Result<(), Errno> {
        let pended = inner.channels.pend(pending);
        pended.inspect_err(|_| self.link.stats.no_space.add(1))
    }

    /// Abandons an attempt, so that its channel is closed at once if the peer accepts it.
    pub(super) fn abandon_attempt(&self, attempt: &Attempt) {
        let mut inner = self.inner.lock();
        let is = |other: &Option<Attempt>| other.as_ref().is_some_and(|other| other.is(attempt));
        let pending = inner.channels.pending.iter_mut();
        if let Some((index, pending)) = pending.enumerate().find(|(_, p)| is(&p.attempt)) {
            match pending.request.tag {
                // The peer has not been told of it.
                0 => drop(inner.channels.pending.remove(index)),
                _ => pending.attempt = None,
            }
            return;
        }
        let mut entries = inner.channels.entries();
        let asked = entries.find(|entry| is(&entry.attempt)).map(|entry| {
            entry.attempt = None;
            entry.open.channel
        });
        drop(entries);
        if let Some(id) = asked {
            inner.channels.act(id, Event::Abandon);
        }
    }

    /// Closes this side's end of a channel, which its user does not access any more.
    pub(super) fn close_channel(self: &Arc<Self>, channel: &Channel) {
        channel.hang_up();
        let mut inner = self.inner.lock();
        self.unlist(channel);
        self.close_entry(&mut inner, channel.id);
        self.flush(&mut inner);
    }

    /// Applies the close of this end, which has made its last access.
    fn close_entry(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        let actions = inner.channels.act(id, Event::Close);
        if self.link.is_loopback() && !actions.is_empty() {
            // No message closes the other end, which is here as well.
            inner.channels.act(id, Event::RecvClosed);
            self.forget(inner, id);
            self.link.tell_other_end(id.id);
            return;
        }
        // A channel that was never answered is refused.
        let why = actions
            .contains(&Action::SendRefused)
            .then_some(Refusal::Refused);
        for action in actions.iter().filter(|a| **a != Action::Shutdown) {
            self.carry_out(inner, id, *action, why);
        }
    }

    /// Carries out actions on a channel in order. `why` is the reason if it was refused.
    pub(super) fn carry_out_all(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
        actions: Actions,
        why: Option<Refusal>,
    ) {
        for action in actions {
            self.carry_out(inner, id, *action, why);
        }
    }

    /// Carries out one action.
    fn carry_out(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
        action: Action,
        why: Option<Refusal>,
    ) {
        if let (Action::SendRefused, Some(why)) = (action, why) {
            self.link.stats.refused.add(1);
            let channel = id;
            self.post(inner, BackMessage::Refused { channel, why }.encode());
        }
        let Some(entry) = inner.channels.last(id.id) else {
            return;
        };
        match action {
            Action::Deliver => {
                let (channel, attempt) = (entry.channel.clone(), entry.attempt.take());
                if !attempt.is_some_and(|attempt| attempt.opened(&channel)) {
                    let actions = inner.channels.act(id, Event::Close);
                    self.carry_out_all(inner, id, actions, None);
                }
            }
            Action::Fail => {
                if let (Some(attempt), Some(why)) = (entry.attempt.take(), why) {
                    attempt.refused(why.into());
                }
            }
            Action::Shutdown => {
                let channel = entry.channel.clone();
                channel.hang_up();
                self.unlist(&channel);
            }
            Action::NotePeerClosed => {
                entry.channel.peer_closed();
                entry.channel.waiter.kick();
                entry.costs.share = None;
            }
            Action::SendClosed => {
                entry.costs.share = None;
                let message = inner.role.closed(id);
                self.post(inner, message);
            }
            Action::SendOpened => {
                self.link.stats.opened.add(1);
                self.post(inner, BackMessage::Opened(id).encode());
            }
            Action::Free => {
                let channel = entry.channel.clone();
                self.unlist(&channel);
                match why {
                    None => self.forget(inner, id),
                    Some(_) => self.remove(inner, id),
                }
                self.place_pending(inner);
            }
            // The granter clears the lines and sends the OPEN when it places the channel.
            // SendRefused: see above.
            Action::ClearLines | Action::SendOpen | Action::SendRefused => {}
        }
    }

    /// Removes a channel that both sides have closed.
    fn forget(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        let closed = inner.channels.last(id.id).is_some();
        self.link.stats.closed.add(closed.into());
        self.remove(inner, id);
    }

    /// Removes a channel, if there is one, and frees its id and slices.
    fn remove(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        if let Some(entry) = inner.channels.remove(id.id) {
            inner.free(&entry.open);
        }
        self.trim_later(inner);
    }

    /// Handles CLOSED.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    pub(super) fn peer_closed(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
    ) -> Result<(), Violation> {
        let actions = inner.channels.hear(id, Event::RecvClosed)?;
        self.carry_out_all(inner, id, actions, None);
        Ok(())
    }

    /// Creates a channel on slices that the allocator has reserved. `far` is the domain at the
    /// other end, as applications see it.
    ///
    /// # Errors
    /// `EINVAL`: the slices are not in the region. `ENOMEM`.
    pub(super) fn make_channel(
        self: &Arc<Self>,
        inner: &Inner,
        open: &Open,
        far: u16,
    ) -> Result<Arc<Channel>> {
        let lines = inner
            .segments
            .slice(open.lines_segment, open.lines_offset, line::PAIR)
            .ok_or(EINVAL)?;
        let granters = inner.segments.ring(open.front_ring)?;
        let mappers = inner.segments.ring(open.back_ring)?;
        let (tx, rx) = inner.role.own_first(granters, mappers);
        let sizes = (open.front_ring.len, open.back_ring.len);
        self.link.table.prepare(open.channel.id)?;
        let setup = Setup {
            link: self.link.clone(),
            owner: self.clone(),
            far,
            lines: inner.role.lines(),
            memory: Memory {
                lines,
                gate: inner.segments.gate().clone(),
                tx,
                rx,
            },
            sizes: inner.role.own_first(sizes.0, sizes.1),
            keeps: None,
        };
        Channel::new(open, setup)
    }

    /// Returns the acceptor of a channel that the peer requests.
    fn acceptor(
        &self,
        ports: Ports,
        from: u32,
        rings: [u32; 2],
    ) -> Result<Arc<dyn Acceptor>, Refusal> {
        let [front, back] = rings;
        self.host
            .listener(ports.target, from as u16, front.max(back))
    }

    /// Charges the rings of such a channel to its acceptor.
    ///
    /// # Errors
    /// [`Refusal::Refused`]: no acceptor listens there. [`Refusal::NoSpace`]: a limit is
    /// reached.
    pub(super) fn charge_acceptor(
        &self,
        ports: Ports,
        from: u32,
        rings: [u32; 2],
    ) -> Result<Rings, Refusal> {
        let [front, back] = rings;
        let acceptor = self.acceptor(ports, from, rings)?;
        let payer = acceptor.payer().ok_or(Refusal::Refused)?;
        let bytes = front.saturating_add(back);
        let taken = payer.rings(Scope::Peer, bytes, || ());
        taken.map_err(|_| Refusal::NoSpace)
    }

    /// Offers a channel that the peer requested to its acceptor, to which its rings are charged.
    ///
    /// # Errors
    /// The acceptor's refusal; [`Refusal::Refused`] if the port has another owner by now.
    pub(super) fn hand_over(
        &self,
        channel: &Arc<Channel>,
        open: &Open,
        payer: Option<u32>,
    ) -> Result<(), Refusal> {
        let rings = [open.front_ring.len, open.back_ring.len];
        let acceptor = self.acceptor(channel.ports, channel.far.into(), rings)?;
        if acceptor.payer().map(|p| p.uid()) != payer {
            // The port belongs to another user by now.
            return Err(Refusal::Refused);
        }
        acceptor.offer(channel)
    }

    /// Adds a channel's waiter to the table, so that events reach it. Before the channel has an
    /// owner, and under the lock.
    pub(super) fn list(&self, channel: &Channel) {
        let old = self.link.table.set(channel.id.id, &channel.waiter);
        self.services.grace.drop_later(old);
    }

    /// Removes a channel's waiter from the table. Under the lock.
    pub(super) fn unlist(&self, channel: &Channel) {
        let own = self.link.table.clear(channel.id.id, &channel.waiter);
        self.services.grace.drop_later(own);
    }

    /// Places the pending openings if this side is the granter.
    fn place_pending(self: &Arc<Self>, inner: &mut Inner) {
        if matches!(inner.role, Role::Granter(_)) {
            self.place_all(inner);
        }
    }
}

impl OpenRequest {
    /// The request with `tag`, as it is on the wire, of the side that has `role`.
    pub(super) fn message(&self, role: &Role, tag: u32) -> Request {
        let (front_size, back_size) = role.own_first(self.tx, self.rx);
        Request {
            tag,
            ports: self.ports,
            front_size,
            back_size,
            domain: self.domain,
            kind: self.kind,
        }
    }
}

impl Inner {
    /// Frees the slices of an OPEN in the allocator.
    pub(super) fn free(&mut self, open: &Open) {
        opening::free(&mut self.book, open);
        if let Some(granter) = self.role.as_granter() {
            granter.note_use(open);
        }
    }
}

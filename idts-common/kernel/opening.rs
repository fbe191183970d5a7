// SPDX-License-Identifier: GPL-2.0

//! Opening and closing channels.
//!
//! Owns the answers to control messages. The front places a channel
//! ([`placing`]), the back checks it and finds who is wanted ([`admission`]); the
//! memory of both is the [`region`]. PROTOCOL.md section 7.

mod admission;
mod book;
mod placing;
mod region;
mod rights;

pub use self::region::keep_idle;

use idts_core::error::Violation;
use idts_core::opening;
use idts_core::quota::{percent_of, Requester, Scope};
use idts_core::ring::Lines;
use idts_core::role::Role;
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Open, Ports, Refusal, Request, Slot,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use self::book::{Costs, Pending};
pub(crate) use self::book::{Openings, Wanted};
use crate::asks::{Question, Share};
use crate::channel::{Channel, Memory as ChannelMemory};
use crate::endpoint::{Attempt, Endpoint};
use crate::link::waiter::Waiter;
use crate::payer::Rings;
use crate::sys::errno::Errno;
use crate::tunnel::{Inner, Tunnel};

/// Openings that may be under way at once.
const PENDING_MAX: usize = 256;

impl Tunnel {
    /// Begins to open a channel for an attempt, of which `connected` or `refused` is
    /// called later, or before this returns.
    pub(crate) fn connect(
        self: &Arc<Self>,
        attempt: &Attempt,
        wanted: Wanted,
    ) -> Result<(), Errno> {
        if self.device.is_none() {
            return self.connect_home(attempt, wanted);
        }
        let mut inner = self.inner.lock();
        if self.gate.is_revoked() {
            return Err(Errno::NetDown);
        }
        // Whoever gives it up from now on finds it in the book.
        if !attempt.is_awaited() {
            return Ok(());
        }
        let Wanted {
            ports,
            tx,
            rx,
            domain,
            kind,
            name,
        } = wanted;
        let (front_size, back_size) = match self.role {
            Role::Front => (tx, rx),
            Role::Back => (rx, tx),
        };
        let tag = match self.role {
            Role::Front => 0,
            Role::Back => {
                let next = inner.openings.last_tag.wrapping_add(1);
                // A tag is never 0.
                inner.openings.last_tag = next.max(1);
                inner.openings.last_tag
            }
        };
        let request = Request {
            tag,
            ports,
            front_size,
            back_size,
            domain,
            kind,
        };
        let costs = self.own_costs(&inner, &attempt.endpoint, &wanted)?;
        let pending = Pending {
            attempt: Some(attempt.clone()),
            request,
            name,
            costs,
        };
        self.pend(&mut inner, pending)?;
        match self.role {
            Role::Front => self.place_pending(&mut inner),
            Role::Back => self.post(&mut inner, BackMessage::Request(request).encode()),
        }
        self.flush(&mut inner);
        Ok(())
    }

    /// What an endpoint's wish costs: its program, and, in the back, the domain
    /// that asks, its share of the region.
    fn own_costs(
        &self,
        inner: &Inner,
        endpoint: &Endpoint,
        wanted: &Wanted,
    ) -> Result<Costs, Errno> {
        let payer = endpoint.payer();
        let domain = match self.role {
            Role::Back => Some(wanted.domain as u16),
            Role::Front => None,
        };
        let asker = match (payer, domain) {
            (Some(payer), _) => Requester::User(payer.uid()),
            (None, domain) => Requester::Domain(domain.unwrap_or(0)),
        };
        let question = Some(self.ask(inner, asker)?);
        let share = domain.map(|domain| self.share(inner, domain, wanted.bytes()));
        let rings = payer.map(|payer| payer.rings(Scope::Peer, wanted.bytes(), || ()));
        Ok(Costs {
            rings: rings
                .transpose()
                .inspect_err(|_| self.stats.no_space.add(1))?,
            share: share.transpose()?,
            question,
        })
    }

    /// Somebody asks; so many may at once.
    fn ask(&self, inner: &Inner, by: Requester) -> Result<Question, Errno> {
        inner.openings.asks.ask(by).ok_or_else(|| {
            self.stats.too_many_asked.add(1);
            self.stats.no_space.add(1);
            Errno::NoSpace
        })
    }

    /// Back: a domain takes a part of the front's region.
    fn share(&self, inner: &Inner, by: u16, bytes: u32) -> Result<Share, Errno> {
        let numbers = self.hub.policies.numbers(self.peer);
        let most = percent_of(numbers.memory, numbers.peer);
        inner.openings.asks.share(by, bytes, most).ok_or_else(|| {
            self.stats.no_share.add(1);
            self.stats.no_space.add(1);
            Errno::NoSpace
        })
    }

    fn pend(&self, inner: &mut Inner, pending: Pending) -> Result<(), Errno> {
        if inner.openings.pending.len() >= PENDING_MAX
            || inner.openings.pending.push(pending, GFP_KERNEL).is_err()
        {
            self.stats.no_space.add(1);
            return Err(Errno::NoSpace);
        }
        Ok(())
    }

    /// Nobody waits for an attempt any more. An answer that comes later closes the
    /// channel at once.
    pub(crate) fn abandon(&self, attempt: &Attempt) {
        let mut inner = self.inner.lock();
        let is = |other: &Option<Attempt>| other.as_ref().is_some_and(|other| other.is(attempt));
        let front = self.role == Role::Front;
        if front {
            // Not placed yet: nobody was told.
            if let Some(i) = inner.openings.pending.iter().position(|p| is(&p.attempt)) {
                let _ = inner.openings.pending.remove(i);
            }
        } else if let Some(p) = inner.openings.pending.iter_mut().find(|p| is(&p.attempt)) {
            p.attempt = None;
        }
        for record in inner.openings.records() {
            if is(&record.waiter) {
                record.waiter = None;
            }
        }
    }

    /// The application closed its end.
    pub(crate) fn close(self: &Arc<Self>, channel: &Channel) {
        channel.hang_up();
        let mut inner = self.inner.lock();
        self.unlist(channel);
        self.close_record(&mut inner, channel.id);
        self.flush(&mut inner);
    }

    /// Says CLOSED, after our last access.
    fn close_record(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        let number = inner.openings.number(id.id);
        // Not there: the tunnel was stopped.
        let Some(over) = number.ok().and_then(|n| n.close(id.generation)) else {
            return;
        };
        if self.device.is_none() {
            self.forget(inner, id);
            // Nobody says CLOSED to the other end, which is here, too.
            self.table.with(id.id ^ 1, Waiter::kick);
            return;
        }
        if let Some(record) = inner.openings.record(id) {
            record.costs.share = None;
        }
        let message = match self.role {
            Role::Front => FrontMessage::Closed(id).encode(),
            Role::Back => BackMessage::Closed(id).encode(),
        };
        self.post(inner, message);
        if over {
            self.forget(inner, id);
        }
    }

    /// Both sides are done with a channel: its number and slices are free.
    fn forget(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) {
        if let Some(record) = inner.openings.remove(id.id) {
            free(inner, &record.open);
            self.stats.closed.add(1);
        }
        self.tend(inner);
    }

    /// CLOSED of the peer.
    fn peer_closed(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) -> Result<(), Violation> {
        let number = inner.openings.number(id.id)?;
        let over = number.peer_closed(id.generation)?;
        if let Some(record) = inner.openings.record(id) {
            record.channel.peer_closed();
            record.channel.waiter.kick();
            record.costs.share = None;
        }
        if over {
            self.forget(inner, id);
            self.place_pending(inner);
        }
        Ok(())
    }

    /// Handles one message: a private copy of its slot.
    pub(crate) fn hear(self: &Arc<Self>, inner: &mut Inner, slot: &Slot) -> Result<(), Violation> {
        match self.role {
            Role::Back => self.hear_front(inner, FrontMessage::decode(slot)?),
            Role::Front => self.hear_back(inner, BackMessage::decode(slot)?),
        }
    }

    fn hear_front(
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
            FrontMessage::Name(name) => inner.openings.naming.push(name),
        }
    }

    fn hear_back(
        self: &Arc<Self>,
        inner: &mut Inner,
        message: BackMessage,
    ) -> Result<(), Violation> {
        match message {
            BackMessage::Segment { segment, mapped } => self.segment(inner, segment, mapped),
            BackMessage::Retired { segment } => self.retired(inner, segment),
            BackMessage::Request(request) => {
                self.requested(inner, request);
                Ok(())
            }
            BackMessage::Opened(id) => self.answered(inner, id, None),
            BackMessage::Refused { channel, why } => self.answered(inner, channel, Some(why)),
            BackMessage::Closed(id) => self.peer_closed(inner, id),
        }
    }

    /// A channel object on slices that the book holds; `far` is the domain at its
    /// other end, as applications are told.
    fn make_channel(
        self: &Arc<Self>,
        inner: &Inner,
        open: &Open,
        far: u16,
    ) -> Result<Arc<Channel>> {
        let lines = inner
            .segments
            .slice(open.lines_segment, open.lines_offset, line::PAIR)
            .ok_or(EINVAL)?;
        let front = inner.segments.ring(open.front_ring)?;
        let back = inner.segments.ring(open.back_ring)?;
        let sizes = (open.front_ring.len, open.back_ring.len);
        let (at, memory, sizes) = match self.role {
            Role::Front => (
                Lines {
                    own: 0,
                    peer: line::SIZE,
                },
                (front, back),
                sizes,
            ),
            Role::Back => (
                Lines {
                    own: line::SIZE,
                    peer: 0,
                },
                (back, front),
                (sizes.1, sizes.0),
            ),
        };
        self.table.prepare(open.channel.id)?;
        Channel::new(
            self.clone(),
            open,
            far,
            at,
            ChannelMemory {
                lines,
                tx: memory.0,
                rx: memory.1,
            },
            sizes,
            None,
        )
    }

    /// Who listens for a channel that the peer asks for.
    fn listener(&self, ports: Ports, from: u32, rings: [u32; 2]) -> Result<Arc<Endpoint>, Refusal> {
        let [front, back] = rings;
        self.hub
            .listener(ports.target, from as u16, front.max(back))
    }

    /// The rings of such a channel, which are at the cost of whoever listens.
    fn host(&self, ports: Ports, from: u32, rings: [u32; 2]) -> Result<Rings, Refusal> {
        let [front, back] = rings;
        let listener = self.listener(ports, from, rings)?;
        let payer = listener.payer().ok_or(Refusal::Refused)?;
        let bytes = front.saturating_add(back);
        let taken = payer.rings(Scope::Peer, bytes, || ());
        taken.map_err(|_| Refusal::NoSpace)
    }

    /// Gives a channel that the peer asked for to whoever listens, at whose cost its
    /// rings are.
    fn hand_over(
        &self,
        channel: &Arc<Channel>,
        open: &Open,
        payer: Option<u32>,
    ) -> Result<(), Refusal> {
        let rings = [open.front_ring.len, open.back_ring.len];
        let listener = self.listener(channel.ports, channel.far.into(), rings)?;
        if listener.payer().map(|p| p.uid()) != payer {
            // The port is somebody else's by now.
            return Err(Refusal::Refused);
        }
        let child = listener.child(channel)?;
        listener.offer(child).map_err(|_| Refusal::Refused)
    }

    /// Has events of a channel told to whoever waits at it. Before anybody may wait, and
    /// under the lock.
    pub(crate) fn list(&self, channel: &Channel) {
        let old = self.table.set(channel.id.id, &channel.waiter);
        self.hub.reaper.drop_after_grace(old);
    }

    /// Nobody waits at a channel any more. Under the lock.
    pub(crate) fn unlist(&self, channel: &Channel) {
        let own = self.table.clear(channel.id.id, &channel.waiter);
        self.hub.reaper.drop_after_grace(own);
    }

    /// Gives a channel to the endpoint that asked for it; closes it at once if
    /// that has given up.
    fn deliver(
        self: &Arc<Self>,
        inner: &mut Inner,
        waiter: Option<Attempt>,
        channel: Arc<Channel>,
    ) {
        let id = channel.id;
        if let Some(attempt) = waiter {
            if attempt.connected(&channel) {
                return;
            }
        }
        channel.hang_up();
        self.unlist(&channel);
        self.close_record(inner, id);
    }
}

/// Frees an opening's slices in the book.
fn free(inner: &mut Inner, open: &Open) {
    opening::free(&mut inner.book, open);
    for segment in [
        open.front_ring.segment,
        open.back_ring.segment,
        open.lines_segment,
    ] {
        inner.openings.note_use(segment);
    }
}

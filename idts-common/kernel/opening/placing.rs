// SPDX-License-Identifier: GPL-2.0

//! The front's part of opening: it alone gives channels numbers and slices.

use idts_core::error::Violation;
use idts_core::life::Answer;
use idts_core::opening::allocate;
use idts_core::quota::Requester;
use idts_core::role::Role;
use idts_core::uapi::DOMID_ANY;
use idts_core::wire::{
    ChannelId, FrontMessage, Open, Refusal, Request, PAGE, SEGMENT_WINDOWS, WINDOW_PAGES,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::book::{Costs, Pending, Record};
use super::free;
use crate::payer::{self, Payer, Rings};
use crate::tunnel::{Inner, Tunnel};

impl Tunnel {
    pub(super) fn refuse(&self, inner: &mut Inner, tag: u32, why: Refusal) {
        self.stats.refused.add(1);
        self.post(inner, FrontMessage::Refuse { tag, why }.encode());
    }

    /// Front: places what waits, in order, as far as there is room; asks for
    /// more room, or refuses, where there is none. What waits in the back waits
    /// for the front.
    pub(super) fn place_pending(self: &Arc<Self>, inner: &mut Inner) {
        if self.role == Role::Back {
            return;
        }
        while let Some(pending) = inner.openings.pending.first() {
            let Request {
                front_size,
                back_size,
                ..
            } = pending.request;
            if let Some(open) = allocate(&mut inner.book, front_size, back_size) {
                let Ok(pending) = inner.openings.pending.remove(0) else {
                    return;
                };
                self.place(inner, pending, open);
                continue;
            }
            if inner.openings.growing.is_some() {
                return;
            }
            let pages = front_size
                .wrapping_add(back_size)
                .wrapping_div(PAGE)
                .wrapping_add(1);
            // Two of the largest rings do not fit into one segment: they come
            // one after the other.
            let need = pages.div_ceil(WINDOW_PAGES).min(SEGMENT_WINDOWS);
            if self.grow(inner, need).is_ok() || self.make_room(inner) {
                return;
            }
            let Ok(pending) = inner.openings.pending.remove(0) else {
                return;
            };
            self.turn_down(inner, pending, Refusal::NoSpace);
        }
    }

    /// The back asks for a channel, for whoever listens here.
    pub(super) fn requested(self: &Arc<Self>, inner: &mut Inner, request: Request) {
        match self.take_request(inner, request) {
            Err(why) => self.refuse(inner, request.tag, why),
            Ok(()) => self.place_pending(inner),
        }
    }

    fn take_request(&self, inner: &mut Inner, request: Request) -> Result<(), Refusal> {
        let Request { ports, domain, .. } = request;
        let sizes = [request.front_size, request.back_size];
        let rings = self.host(ports, domain, sizes)?;
        let no_space = |_| Refusal::NoSpace;
        // Whoever asks in dom0 was counted there, by user.
        let question = match domain {
            0 => None,
            domain => Some(self.ask(inner, Requester::Domain(domain as u16))),
        };
        let costs = Costs {
            rings: Some(rings),
            question: question.transpose().map_err(no_space)?,
            ..Costs::default()
        };
        let asked = Pending {
            attempt: None,
            request,
            name: None,
            costs,
        };
        self.pend(inner, asked).map_err(no_space)
    }

    /// Ends an opening that cannot be placed.
    pub(super) fn turn_down(&self, inner: &mut Inner, pending: Pending, why: Refusal) {
        if why == Refusal::NoSpace {
            self.stats.no_space.add(1);
        }
        if pending.request.tag != 0 {
            self.refuse(inner, pending.request.tag, why);
        } else if let Some(attempt) = pending.attempt {
            attempt.refused(why.into());
        }
    }

    /// Opens a channel on allocated slices.
    pub(super) fn place(self: &Arc<Self>, inner: &mut Inner, pending: Pending, mut open: Open) {
        let Request {
            tag,
            ports,
            domain,
            kind,
            ..
        } = pending.request;
        open = Open {
            tag,
            ports,
            domain,
            kind,
            ..open
        };
        let far = match pending.name {
            Some(_) => DOMID_ANY,
            None => open.domain as u16,
        };
        let payer = pending.costs.rings.as_ref().map(Rings::payer);
        let user = payer.map(Payer::uid);
        let channel = inner.openings.next_id().and_then(|id| {
            open.channel = id;
            payer::charge(payer, || self.make_channel(inner, &open, far))
        });
        let Ok(channel) = channel else {
            free(inner, &open);
            self.tend(inner);
            self.turn_down(inner, pending, Refusal::NoSpace);
            return;
        };
        if let Some(live) = self.gate.try_access() {
            channel.reset_lines(&live);
        }
        self.list(&channel);
        let mut costs = pending.costs;
        let (answer, waiter) = if tag == 0 {
            (Answer::Awaited, pending.attempt)
        } else if let Err(why) = self.hand_over(&channel, &open, user) {
            self.unlist(&channel);
            free(inner, &open);
            self.tend(inner);
            self.refuse(inner, tag, why);
            return;
        } else {
            self.stats.opened.add(1);
            costs.question = None;
            (Answer::Given, None)
        };
        inner.openings.begin(
            Record {
                open,
                channel,
                group: None,
                waiter,
                costs,
            },
            answer,
        );
        if let Some(name) = pending.name {
            self.post(inner, FrontMessage::Name(name).encode());
        }
        self.post(inner, FrontMessage::Open(open).encode());
    }

    /// The back's answer to an opening of ours.
    pub(super) fn answered(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
        refusal: Option<Refusal>,
    ) -> Result<(), Violation> {
        let number = inner.openings.number(id.id)?;
        number.answered(id.generation)?;
        let Some(record) = inner.openings.record(id) else {
            return Ok(());
        };
        record.costs.question = None;
        let (channel, waiter) = (record.channel.clone(), record.waiter.take());
        if let Some(why) = refusal {
            self.stats.refused.add(1);
            self.unlist(&channel);
            if let Some(record) = inner.openings.remove(id.id) {
                free(inner, &record.open);
            }
            self.tend(inner);
            if let Some(attempt) = waiter {
                attempt.refused(why.into());
            }
            self.place_pending(inner);
            return Ok(());
        }
        self.stats.opened.add(1);
        self.deliver(inner, waiter, channel);
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The granter: the side that allocates ids and slices for channels, and grows and shrinks the
//! region. On the wire it is the front.

use idts_core::error::Violation;
use idts_core::opening::{allocate, windows_for, Event, Placement};
use idts_core::quota::Requester;
use idts_core::uapi::DOMID_ANY;
use idts_core::wire::{
    BackMessage, ChannelId, FrontMessage, Open, Refusal, Request, FIRST_WINDOWS, SEGMENTS,
    SEGMENT_WINDOWS, WINDOW_REFS,
};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::WorkItem;

use super::channels::{ChannelEntry, Costs, PendingOpen};
use super::host::{Attempt, OpenRequest};
use super::payer::{self, Payer, Rings};
use super::role::{Growing, Role};
use super::tunnel::{Inner, Tunnel};
use crate::mem::revocable::wait_for_readers;
use crate::region::segments::{self, Pages, Windows};
use crate::sys::clock::clock;
use crate::sys::errno::Errno;
use crate::sys::work;

/// Most windows that are granted ahead of need: 1 MiB, so that many small channels do not use up
/// the segments, and large rings still fit.
const AHEAD_MAX: usize = 16;

/// Period of the checks for idle segments, in milliseconds.
const TRIM_MS: u32 = 100;

/// How long a segment stays idle before it is retired, in milliseconds.
static IDLE_MS: Atomic<u32> = Atomic::new(0);

/// Sets how long this module's segments stay idle before they are retired.
pub fn keep_idle(ms: u32) {
    IDLE_MS.store(ms, Relaxed);
}

/// Opening of channels.
impl Tunnel {
    /// Begins to open a channel for an attempt of this domain.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]: a limit is reached, or there is no memory. The attempt is told
    /// nothing.
    pub(super) fn ask_mapper(
        self: &Arc<Self>,
        inner: &mut Inner,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno> {
        let payer = attempt.payer();
        let costs = Costs {
            question: Some(self.ask_for(inner, payer, 0)?),
            rings: self.charge_rings(payer, request.bytes())?,
            share: None,
        };
        let pending = PendingOpen {
            attempt: Some(attempt.clone()),
            request: request.message(&inner.role, 0),
            name: request.name,
            costs,
        };
        self.pend(inner, pending)?;
        self.place_all(inner);
        Ok(())
    }

    /// Handles a message of the mapper.
    ///
    /// # Errors
    /// The violation: the tunnel ends.
    pub(super) fn hear_mapper(
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

    /// Sends REFUSE for a request of the mapper.
    fn refuse(&self, inner: &mut Inner, tag: u32, why: Refusal) {
        self.link.stats.refused.add(1);
        self.post(inner, FrontMessage::Refuse { tag, why }.encode());
    }

    /// Places the pending openings in order while there is room. Without room it grows the
    /// region, or refuses.
    pub(super) fn place_all(self: &Arc<Self>, inner: &mut Inner) {
        self.go_on_placing(inner, Placement::Allocate);
    }

    /// Continues with the first pending opening, from step `next` on, and then with the others.
    fn go_on_placing(self: &Arc<Self>, inner: &mut Inner, mut next: Placement) {
        while let Some(pending) = inner.channels.pending.first() {
            let Request {
                front_size,
                back_size,
                ..
            } = pending.request;
            let is_done = match next {
                Placement::Allocate => {
                    let slices = allocate(&mut inner.book, front_size, back_size);
                    let is_there = slices.is_some();
                    if let Some(open) = slices {
                        let Ok(pending) = inner.channels.pending.remove(0) else {
                            return;
                        };
                        self.place(inner, pending, open);
                    }
                    is_there
                }
                Placement::Grow => {
                    let need = windows_for(front_size, back_size);
                    self.grow(inner, need).is_ok()
                }
                Placement::Shrink => self.make_room(inner),
                Placement::Refuse => {
                    let Ok(pending) = inner.channels.pending.remove(0) else {
                        return;
                    };
                    self.turn_down(inner, pending, Refusal::NoSpace);
                    true
                }
                Placement::Wait => return,
            };
            let growing = inner.role.as_granter().is_some_and(|g| g.growing.is_some());
            next = next.after(is_done, growing);
        }
    }

    /// Handles REQUEST: the mapper wants a channel to an acceptor here.
    fn requested(self: &Arc<Self>, inner: &mut Inner, request: Request) {
        match self.take_request(inner, request) {
            Err(why) => self.refuse(inner, request.tag, why),
            Ok(()) => self.place_all(inner),
        }
    }

    /// Charges a request and adds it to the pending openings.
    ///
    /// # Errors
    /// The reason to refuse it.
    fn take_request(&self, inner: &mut Inner, request: Request) -> Result<(), Refusal> {
        let Request { ports, domain, .. } = request;
        let sizes = [request.front_size, request.back_size];
        let rings = self.charge_acceptor(ports, domain, sizes)?;
        let no_space = |_| Refusal::NoSpace;
        // The mapper counts requesters in its own domain, by user.
        let question = match domain {
            0 => None,
            domain => Some(self.ask(inner, Requester::Domain(domain as u16))),
        };
        let costs = Costs {
            rings: Some(rings),
            question: question.transpose().map_err(no_space)?,
            ..Costs::default()
        };
        let asked = PendingOpen {
            attempt: None,
            request,
            name: None,
            costs,
        };
        self.pend(inner, asked).map_err(no_space)
    }

    /// Refuses an opening that cannot be placed.
    fn turn_down(&self, inner: &mut Inner, pending: PendingOpen, why: Refusal) {
        if why == Refusal::NoSpace {
            self.link.stats.no_space.add(1);
        }
        if pending.request.tag != 0 {
            self.refuse(inner, pending.request.tag, why);
        } else if let Some(attempt) = pending.attempt {
            attempt.refused(why.into());
        }
    }

    /// Opens a channel on allocated slices.
    fn place(self: &Arc<Self>, inner: &mut Inner, pending: PendingOpen, mut open: Open) {
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
        let channel = inner.channels.next_id().and_then(|id| {
            open.channel = id;
            payer::charge(payer, || self.make_channel(inner, &open, far))
        });
        let Ok(channel) = channel else {
            inner.free(&open);
            self.trim_later(inner);
            self.turn_down(inner, pending, Refusal::NoSpace);
            return;
        };
        if let Some(live) = self.link.gate.try_access() {
            channel.reset_lines(&live);
        }
        self.list(&channel);
        let mut costs = pending.costs;
        let (event, attempt) = if tag == 0 {
            (Event::Connect, pending.attempt)
        } else if let Err(why) = self.hand_over(&channel, &open, user) {
            self.unlist(&channel);
            inner.free(&open);
            self.trim_later(inner);
            self.refuse(inner, tag, why);
            return;
        } else {
            self.link.stats.opened.add(1);
            costs.question = None;
            (Event::AnswerRequest, None)
        };
        let entry = ChannelEntry {
            open,
            channel,
            group: None,
            attempt,
            costs,
        };
        inner.channels.begin(entry, event);
        if let Some(name) = pending.name {
            self.post(inner, FrontMessage::Name(name).encode());
        }
        self.post(inner, FrontMessage::Open(open).encode());
    }

    /// Handles OPENED or REFUSED, the mapper's answer to an OPEN.
    fn answered(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
        refusal: Option<Refusal>,
    ) -> Result<(), Violation> {
        let (event, count) = match refusal {
            None => (Event::RecvOpened, &self.link.stats.opened),
            Some(_) => (Event::RecvRefused, &self.link.stats.refused),
        };
        let actions = inner.channels.hear(id, event)?;
        count.add(1);
        if let Some(entry) = inner.channels.last(id.id) {
            entry.costs.question = None;
        }
        self.carry_out_all(inner, id, actions, refusal);
        Ok(())
    }
}

/// Growing and shrinking of the region.
impl Tunnel {
    /// Granter: offers the first segment. Only once both sides are connected, because a mapper
    /// that restarts before that has to find an unused control page.
    pub(super) fn grow_first(&self) -> Result {
        let mut inner = self.inner.lock();
        match inner.role {
            Role::Granter(_) => self.grow(&mut inner, FIRST_WINDOWS),
            _ => Ok(()),
        }
    }

    /// Grows the region by `need` windows, or by twice the newest segment (at most
    /// [`AHEAD_MAX`]) if that is more.
    ///
    /// # Errors
    /// `ENOSPC`: no segment number is free, or `need` is too large. `ENOMEM`.
    fn grow(&self, inner: &mut Inner, need: u32) -> Result {
        let ahead = inner
            .segments
            .newest_windows()
            .wrapping_mul(2)
            .min(AHEAD_MAX);
        let result = self.grow_by(inner, need, need.max(ahead as u32));
        match result {
            Err(_) if ahead > need as usize => self.grow_by(inner, need, need),
            result => result,
        }
    }

    /// Grants a segment of `count` windows and offers it to the mapper.
    ///
    /// # Errors
    /// As [`Self::grow`].
    fn grow_by(&self, inner: &mut Inner, need: u32, count: u32) -> Result {
        let number = inner.segments.vacant().ok_or(ENOSPC)?;
        if count > SEGMENT_WINDOWS {
            return Err(ENOSPC);
        }
        let windows = segments::grant_windows(self.peer, count)?;
        for (window, memory) in (0..count).zip(windows.iter()) {
            let Pages::Granted(pages) = memory else {
                continue;
            };
            for (half, refs) in (0..2).zip(pages.refs().chunks_exact(WINDOW_REFS)) {
                let message = FrontMessage::Window {
                    segment: number,
                    windows: count,
                    window,
                    half,
                    refs: refs.try_into().map_err(|_| EINVAL)?,
                };
                self.post(inner, message.encode());
            }
        }
        inner.segments.put(number, windows)?;
        if let Some(granter) = inner.role.as_granter() {
            granter.growing = Some(Growing { number, need });
        }
        self.flush(inner);
        Ok(())
    }

    /// Handles SEGMENT: the mapper has mapped the new segment, or cannot.
    fn segment(
        self: &Arc<Self>,
        inner: &mut Inner,
        number: u32,
        mapped: bool,
    ) -> Result<(), Violation> {
        let granter = inner.role.as_granter().ok_or(Violation::Segment)?;
        let growing = granter.growing.take_if(|g| g.number == number);
        let Growing { need, .. } = growing.ok_or(Violation::Segment)?;
        let windows = inner.segments.get(number).map_or(0, |w| w.len()) as u32;
        if mapped {
            self.link.stats.grown.add(1);
            inner.book.add_segment(number, windows)?;
            if let Some(granter) = inner.role.as_granter() {
                granter.used_now(number);
            }
            self.place_all(inner);
            // The opening that needed it may be gone by now.
            self.trim_later(inner);
            return Ok(());
        }
        if let Some(windows) = inner.segments.take(number) {
            segments::give_back(windows, &self.services.reclaim);
        }
        let waits = !inner.channels.pending.is_empty();
        let next = match Placement::after_unmapped(waits, windows, need) {
            // Not more than is needed: another try with as much would fail, too.
            Placement::Grow => {
                Placement::Grow.after(self.grow_by(inner, need, need).is_ok(), false)
            }
            next => next,
        };
        self.go_on_placing(inner, next);
        Ok(())
    }

    /// Schedules the check for idle segments, if there are any. They are kept for a while, so
    /// that a program that opens and closes in turns needs no new grants.
    pub(super) fn trim_later(self: &Arc<Self>, inner: &mut Inner) {
        let idle = (1..SEGMENTS).any(|n| inner.book.is_idle(n));
        let Some(granter) = inner.role.as_granter() else {
            return;
        };
        if idle && !granter.trims {
            granter.trims = true;
            self.trim_soon();
        }
    }

    /// Schedules the next check.
    fn trim_soon(self: &Arc<Self>) {
        let delay = msecs_to_jiffies(TRIM_MS);
        let _ = work::queue().enqueue_delayed::<_, 2>(self.clone(), delay);
    }

    /// Retires the segments that have been idle for long. Returns true if a later check is
    /// needed.
    fn trim(&self) -> bool {
        let mut inner = self.inner.lock();
        let age = u64::from(IDLE_MS.load(Relaxed)).saturating_mul(1_000_000);
        let more = self.link.is_open() && self.shrink(&mut inner, age);
        if let Some(granter) = inner.role.as_granter() {
            granter.trims = more;
        }
        self.flush(&mut inner);
        more
    }

    /// Retires all segments but the first that have been idle for `age` nanoseconds. Returns
    /// true if idle ones are left.
    fn shrink(&self, inner: &mut Inner, age: u64) -> bool {
        let now = clock();
        let mut left = false;
        for number in (1..SEGMENTS).rev() {
            let Some(granter) = inner.role.as_granter() else {
                return false;
            };
            if !inner.book.is_idle(number) {
                continue;
            }
            if granter.age(number, now) < age || inner.book.remove_segment(number).is_err() {
                left = true;
                continue;
            }
            granter.retiring = granter.retiring.wrapping_add(1);
            self.post(inner, FrontMessage::Retire { segment: number }.encode());
        }
        left
    }

    /// Retires idle segments at once to make room. Returns true if some are being retired.
    fn make_room(&self, inner: &mut Inner) -> bool {
        self.shrink(inner, 0);
        inner.role.as_granter().is_some_and(|g| g.retiring > 0)
    }

    /// Handles RETIRED: the mapper has unmapped a segment.
    fn retired(self: &Arc<Self>, inner: &mut Inner, segment: u32) -> Result<(), Violation> {
        let granter = inner.role.as_granter().ok_or(Violation::Segment)?;
        // Reject RETIRED for a segment that is still allocated, or not mapped yet.
        let growing = granter.growing.as_ref().map(|g| g.number);
        if inner.book.has_segment(segment) || growing == Some(segment) {
            return Err(Violation::Segment);
        }
        let windows = inner.segments.take(segment).ok_or(Violation::Segment)?;
        granter.retiring = granter.retiring.saturating_sub(1);
        self.drop_windows(windows);
        self.link.stats.shrunk.add(1);
        self.place_all(inner);
        Ok(())
    }

    /// Frees the windows of a segment without slices in use, after a grace period. Its channels
    /// have left the table, but an event handler that found one there may still read its lines,
    /// because the gate is open.
    pub(super) fn drop_windows(&self, windows: Windows) {
        wait_for_readers();
        segments::give_back(windows, &self.services.reclaim);
    }
}

impl WorkItem<2> for Tunnel {
    type Pointer = Arc<Tunnel>;

    fn run(this: Arc<Tunnel>) {
        if this.trim() {
            this.trim_soon();
        }
    }
}

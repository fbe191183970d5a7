// SPDX-License-Identifier: GPL-2.0

//! Opening and closing channels, and the growth of the region that they need.
//!
//! Owns the answers to control messages. The front places a channel: it alone
//! allocates slices and numbers. The back checks every placement against its
//! own book. PROTOCOL.md section 7.

use idts_core::control::Role;
use idts_core::error::Violation;
use idts_core::region::LinesAt;
use idts_core::ring::Lines;
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Kind, Name, Open, Ports, Refusal, Slot, CHANNELS,
    PAGE, SEGMENT_WINDOWS, WINDOW, WINDOW_PAGES, WINDOW_REFS,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::channel::{Channel, Memory as ChannelMemory};
use crate::endpoint::{Endpoint, Owner};
use crate::errno::Errno;
use crate::grant::MappedPages;
use crate::groups::{Asker, Member};
use crate::relay::Relay;
use crate::segments::{self, Memory, Windows};
use crate::tunnel::{Inner, Tunnel};

/// Openings that may be under way at once.
const PENDING_MAX: usize = 256;
/// Windows of a data region, at most: 16 MiB of rings for each guest, and 1 MiB
/// for lines.
const REGION_WINDOWS_MAX: usize = 256 + 16;

/// A channel of the tunnel.
struct Record {
    open: Open,
    channel: Arc<Channel>,
    /// Front: the back has not answered yet. The endpoint that waits for it.
    answer: Answer,
    local_closed: bool,
    peer_closed: bool,
}

enum Answer {
    /// None is awaited.
    None,
    /// Awaited by an endpoint, or by nobody any more.
    Awaited(Option<Arc<Endpoint>>),
    /// Back: we owe it, for another domain is being asked.
    Owed,
}

/// What a local endpoint asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) ports: Ports,
    /// Size of the ring that it will write.
    pub(crate) tx: u32,
    /// Size of the ring that it will read.
    pub(crate) rx: u32,
    /// Front: the domain it wants. Back: the domain that asks.
    pub(crate) domain: u32,
    pub(crate) kind: Kind,
    /// The group, where it wants one.
    pub(crate) name: Option<Name>,
}

/// An opening that has no channel yet.
struct Pending {
    /// Who waits: nobody any more, or, in the front, the back itself.
    endpoint: Option<Arc<Endpoint>>,
    /// The back's name for its request, 0 for the front's own.
    tag: u32,
    ports: Ports,
    front_size: u32,
    back_size: u32,
    domain: u32,
    kind: Kind,
    name: Option<Name>,
}

impl Pending {
    /// Whether the front's answer keeps to what was asked.
    fn is_met_by(&self, open: &Open) -> bool {
        (self.front_size, self.back_size) == (open.front_ring.len, open.back_ring.len)
            && self.ports == open.ports
            && (self.domain, self.kind) == (open.domain, open.kind)
    }
}

/// A segment that comes in, window by window.
pub(crate) struct Incoming {
    segment: u32,
    windows: u32,
    window: u32,
    half: u32,
    refs: [u32; WINDOW_PAGES as usize],
    mapped: Windows,
    failed: bool,
}

/// Everything about opening and closing that a tunnel keeps.
pub(crate) struct Openings {
    records: KVVec<Option<Record>>,
    generations: KVVec<u32>,
    pending: KVec<Pending>,
    last_tag: u32,
    /// Front: the segment that the back has not mapped yet.
    growing: Option<u32>,
    /// Back: the segment that comes in.
    pub(crate) incoming: Option<Incoming>,
    /// Back: the group that the next OPEN is about.
    name: Option<Name>,
}

impl Openings {
    pub(crate) const fn new() -> Self {
        Self {
            records: KVVec::new(),
            generations: KVVec::new(),
            pending: KVec::new(),
            last_tag: 0,
            growing: None,
            incoming: None,
            name: None,
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.records.iter().flatten().count()
    }

    /// Ends every channel and every opening with an errno.
    pub(crate) fn fail_all(&mut self, tunnel: &Tunnel, errno: Errno) {
        for record in self.records.drain_all().flatten() {
            record.channel.fail(errno);
            tunnel.slots.with(record.open.channel.id, |e| e.kick());
            if let Answer::Awaited(Some(endpoint)) = record.answer {
                endpoint.refused(errno);
            }
        }
        for pending in self.pending.drain_all() {
            if let Some(endpoint) = pending.endpoint {
                endpoint.refused(errno);
            }
        }
    }

    fn record(&mut self, channel: ChannelId) -> Result<&mut Record, Violation> {
        let record = self
            .records
            .get_mut(channel.id as usize)
            .and_then(|r| r.as_mut())
            .ok_or(Violation::ChannelId)?;
        if record.open.channel.generation != channel.generation {
            return Err(Violation::Generation);
        }
        Ok(record)
    }

    /// Makes room for number `id` in the tables.
    fn reserve(&mut self, id: u32) -> Result {
        while self.records.len() <= id as usize {
            self.records.push(None, GFP_KERNEL)?;
        }
        while self.generations.len() <= id as usize {
            self.generations.push(0, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The lowest free number, with its next generation.
    fn next_id(&mut self) -> Result<ChannelId> {
        let id = (1..CHANNELS)
            .find(|id| !matches!(self.records.get(*id as usize), Some(Some(_))))
            .ok_or(ENOSPC)?;
        self.reserve(id)?;
        let generation = self.generations.get(id as usize).copied().unwrap_or(0);
        Ok(ChannelId {
            id,
            generation: generation.wrapping_add(1),
        })
    }

    fn insert(&mut self, record: Record) {
        let ChannelId { id, generation } = record.open.channel;
        if let Some(g) = self.generations.get_mut(id as usize) {
            *g = generation;
        }
        if let Some(place) = self.records.get_mut(id as usize) {
            *place = Some(record);
        }
    }

    /// A free even number, for a channel inside this domain; the number after it
    /// is free too.
    pub(crate) fn next_pair(&mut self) -> Result<u32> {
        let free = |id: u32| !matches!(self.records.get(id as usize), Some(Some(_)));
        let id = (2..CHANNELS)
            .step_by(2)
            .find(|id| free(*id) && free(id.wrapping_add(1)))
            .ok_or(ENOSPC)?;
        self.reserve(id.wrapping_add(1))?;
        Ok(id)
    }

    /// Keeps a channel inside this domain.
    pub(crate) fn keep(&mut self, channel: Arc<Channel>) {
        let open = Open {
            channel: channel.id,
            ..Open::default()
        };
        self.insert(Record {
            open,
            channel,
            answer: Answer::None,
            local_closed: false,
            peer_closed: false,
        });
    }

    fn remove(&mut self, id: u32) -> Option<Record> {
        self.records.get_mut(id as usize)?.take()
    }

    fn take_pending(&mut self, tag: u32) -> Result<Pending, Violation> {
        let index = self.pending.iter().position(|p| p.tag == tag);
        index
            .and_then(|i| self.pending.remove(i).ok())
            .ok_or(Violation::Tag)
    }
}

/// Frees an opening's slices in the book.
fn free(inner: &mut Inner, open: &Open) {
    inner.book.free_lines(LinesAt {
        segment: open.lines_segment,
        offset: open.lines_offset,
    });
    inner.book.free(open.front_ring);
    inner.book.free(open.back_ring);
}

impl Tunnel {
    /// Begins to open a channel for a local endpoint; its `connected` or
    /// `refused` is called later, or before this returns.
    pub(crate) fn connect(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        wanted: Wanted,
    ) -> Result<(), Errno> {
        if self.device.is_none() {
            return self.connect_home(endpoint, wanted);
        }
        let mut inner = self.inner.lock();
        if !self.gate.is_open() {
            return Err(Errno::NetDown);
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
        let pending = Pending {
            endpoint: Some(endpoint.clone()),
            tag,
            ports,
            front_size,
            back_size,
            domain,
            kind,
            name,
        };
        self.pend(&mut inner, pending)?;
        match self.role {
            Role::Front => self.place_pending(&mut inner),
            Role::Back => {
                let request = BackMessage::Request {
                    tag,
                    ports,
                    front_size,
                    back_size,
                    domain,
                    kind,
                };
                self.post(&mut inner, request.encode());
            }
        }
        self.flush(&mut inner);
        Ok(())
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

    /// The endpoint waits no more. An answer that comes later closes the
    /// channel at once.
    pub(crate) fn abandon(&self, endpoint: &Endpoint) {
        let mut inner = self.inner.lock();
        let is = |e: &Option<Arc<Endpoint>>| {
            e.as_ref()
                .is_some_and(|e| core::ptr::eq(Arc::as_ptr(e), endpoint))
        };
        let front = self.role == Role::Front;
        if front {
            // Not placed yet: nobody was told.
            if let Some(i) = inner.openings.pending.iter().position(|p| is(&p.endpoint)) {
                let _ = inner.openings.pending.remove(i);
            }
        } else if let Some(p) = inner.openings.pending.iter_mut().find(|p| is(&p.endpoint)) {
            p.endpoint = None;
        }
        for record in inner.openings.records.iter_mut().flatten() {
            if let Answer::Awaited(waiter) = &mut record.answer {
                if is(waiter) {
                    *waiter = None;
                }
            }
        }
    }

    /// The application closed its end.
    pub(crate) fn close(&self, channel: &Channel) {
        channel.hang_up();
        self.slots.clear(channel.id.id);
        let mut inner = self.inner.lock();
        self.close_record(&mut inner, channel.id);
        self.flush(&mut inner);
    }

    /// Says CLOSED, after our last access.
    fn close_record(&self, inner: &mut Inner, id: ChannelId) {
        // Not there: the tunnel was stopped.
        let Ok(record) = inner.openings.record(id) else {
            return;
        };
        if record.local_closed {
            return;
        }
        record.local_closed = true;
        let both = record.peer_closed;
        if self.device.is_none() {
            self.forget(inner, id);
            return;
        }
        let message = match self.role {
            Role::Front => FrontMessage::Closed(id).encode(),
            Role::Back => BackMessage::Closed(id).encode(),
        };
        self.post(inner, message);
        if both {
            self.forget(inner, id);
        }
    }

    /// Both sides are done with a channel: its number and slices are free.
    fn forget(&self, inner: &mut Inner, id: ChannelId) {
        if let Some(record) = inner.openings.remove(id.id) {
            free(inner, &record.open);
            self.stats.closed.add(1);
        }
        if self.role == Role::Front {
            self.shrink(inner);
        }
    }

    /// CLOSED of the peer.
    fn peer_closed(self: &Arc<Self>, inner: &mut Inner, id: ChannelId) -> Result<(), Violation> {
        let record = inner.openings.record(id)?;
        if record.peer_closed || !matches!(record.answer, Answer::None) {
            return Err(Violation::MessageOrder);
        }
        record.peer_closed = true;
        record.channel.peer_closed();
        let both = record.local_closed;
        self.slots.with(id.id, |e| e.kick());
        if both {
            self.forget(inner, id);
            self.place_pending(inner);
        }
        Ok(())
    }

    /// Handles one message: a private copy of its slot.
    pub(crate) fn handle(
        self: &Arc<Self>,
        inner: &mut Inner,
        slot: &Slot,
    ) -> Result<(), Violation> {
        match self.role {
            Role::Back => match FrontMessage::decode(slot)? {
                FrontMessage::Window {
                    segment,
                    windows,
                    window,
                    half,
                    refs,
                } => self.window(inner, (segment, windows, window, half), &refs),
                FrontMessage::Retire { segment } => self.retire(inner, segment),
                FrontMessage::Open(open) => self.open(inner, open),
                FrontMessage::Refuse { tag, why } => {
                    let pending = inner.openings.take_pending(tag)?;
                    self.stats.refused.add(1);
                    if let Some(endpoint) = pending.endpoint {
                        endpoint.refused(why.into());
                    }
                    Ok(())
                }
                FrontMessage::Closed(id) => self.peer_closed(inner, id),
                FrontMessage::Name(name) => match inner.openings.name.replace(name) {
                    None => Ok(()),
                    Some(_) => Err(Violation::MessageOrder),
                },
            },
            Role::Front => match BackMessage::decode(slot)? {
                BackMessage::Segment { segment, mapped } => self.segment(inner, segment, mapped),
                BackMessage::Retired { segment } => {
                    if inner.segments.get(segment).is_none() || inner.book.has(segment) {
                        return Err(Violation::Segment);
                    }
                    if let Some(windows) = inner.segments.take(segment) {
                        segments::give_back(windows, &self.hub.reaper);
                        self.stats.shrunk.add(1);
                    }
                    Ok(())
                }
                BackMessage::Request {
                    tag,
                    ports,
                    front_size,
                    back_size,
                    domain,
                    kind,
                } => {
                    let pending = Pending {
                        endpoint: None,
                        tag,
                        ports,
                        front_size,
                        back_size,
                        domain,
                        kind,
                        name: None,
                    };
                    let refusal = if self.hub.bound(ports.target, domain as u16).is_none() {
                        Some(Refusal::Refused)
                    } else {
                        self.pend(inner, pending).err().map(|_| Refusal::NoSpace)
                    };
                    match refusal {
                        Some(why) => self.refuse(inner, tag, why),
                        None => self.place_pending(inner),
                    }
                    Ok(())
                }
                BackMessage::Opened(id) => self.answered(inner, id, None),
                BackMessage::Refused { channel, why } => self.answered(inner, channel, Some(why)),
                BackMessage::Closed(id) => self.peer_closed(inner, id),
            },
        }
    }

    // --- Front ---

    fn refuse(&self, inner: &mut Inner, tag: u32, why: Refusal) {
        self.stats.refused.add(1);
        self.post(inner, FrontMessage::Refuse { tag, why }.encode());
    }

    /// Front: places what waits, in order, as far as there is room; asks for
    /// more room, or refuses, where there is none. What waits in the back waits
    /// for the front.
    fn place_pending(self: &Arc<Self>, inner: &mut Inner) {
        if self.role == Role::Back {
            return;
        }
        while let Some(pending) = inner.openings.pending.first() {
            let (front_size, back_size) = (pending.front_size, pending.back_size);
            if let Some(open) = self.allocate(inner, front_size, back_size) {
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
            if self.grow(inner, need).is_ok() {
                return;
            }
            let Ok(pending) = inner.openings.pending.remove(0) else {
                return;
            };
            self.turn_down(inner, pending, Refusal::NoSpace);
        }
    }

    /// Ends an opening that cannot be placed.
    fn turn_down(&self, inner: &mut Inner, pending: Pending, why: Refusal) {
        if why == Refusal::NoSpace {
            self.stats.no_space.add(1);
        }
        if pending.tag != 0 {
            self.refuse(inner, pending.tag, why);
        } else if let Some(endpoint) = pending.endpoint {
            endpoint.refused(why.into());
        }
    }

    /// Allocates the slices of a channel, all or none.
    fn allocate(&self, inner: &mut Inner, front_size: u32, back_size: u32) -> Option<Open> {
        let lines = inner.book.alloc_lines()?;
        let Some(front_ring) = inner.book.alloc(front_size) else {
            inner.book.free_lines(lines);
            return None;
        };
        let Some(back_ring) = inner.book.alloc(back_size) else {
            inner.book.free(front_ring);
            inner.book.free_lines(lines);
            return None;
        };
        Some(Open {
            lines_segment: lines.segment,
            lines_offset: lines.offset,
            front_ring,
            back_ring,
            ..Open::default()
        })
    }

    /// Opens a channel on allocated slices.
    fn place(self: &Arc<Self>, inner: &mut Inner, pending: Pending, mut open: Open) {
        open.tag = pending.tag;
        open.ports = pending.ports;
        open.domain = pending.domain;
        open.kind = pending.kind;
        let channel = inner.openings.next_id().and_then(|id| {
            open.channel = id;
            self.make_channel(inner, &open)
        });
        let Ok(channel) = channel else {
            free(inner, &open);
            self.turn_down(inner, pending, Refusal::NoSpace);
            return;
        };
        if let Some(live) = self.gate.enter() {
            channel.reset_lines(&live);
        }
        let answer = if pending.tag == 0 {
            Answer::Awaited(pending.endpoint)
        } else if self.hand_over(&channel).is_ok() {
            self.stats.opened.add(1);
            Answer::None
        } else {
            free(inner, &open);
            self.refuse(inner, pending.tag, Refusal::Refused);
            return;
        };
        inner.openings.insert(Record {
            open,
            channel,
            answer,
            local_closed: false,
            peer_closed: false,
        });
        if let Some(name) = pending.name {
            self.post(inner, FrontMessage::Name(name).encode());
        }
        self.post(inner, FrontMessage::Open(open).encode());
    }

    /// The back's answer to an opening of ours.
    fn answered(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: ChannelId,
        refusal: Option<Refusal>,
    ) -> Result<(), Violation> {
        let record = inner.openings.record(id)?;
        let Answer::Awaited(waiter) = core::mem::replace(&mut record.answer, Answer::None) else {
            return Err(Violation::MessageOrder);
        };
        let channel = record.channel.clone();
        if let Some(why) = refusal {
            self.stats.refused.add(1);
            if let Some(record) = inner.openings.remove(id.id) {
                free(inner, &record.open);
            }
            if let Some(endpoint) = waiter {
                endpoint.refused(why.into());
            }
            self.place_pending(inner);
            return Ok(());
        }
        self.stats.opened.add(1);
        self.deliver(inner, waiter, channel);
        Ok(())
    }

    /// Grows the region by `need` windows or more.
    pub(crate) fn grow(&self, inner: &mut Inner, need: u32) -> Result {
        let number = inner.segments.vacant().ok_or(ENOSPC)?;
        let have = inner.segments.windows();
        let room = REGION_WINDOWS_MAX.saturating_sub(have);
        if need as usize > room || need > SEGMENT_WINDOWS {
            return Err(ENOSPC);
        }
        // Doubles, so that many small channels do not mean many segments.
        let count = (need as usize)
            .max(inner.segments.newest().wrapping_mul(2))
            .min(room)
            .min(SEGMENT_WINDOWS as usize) as u32;
        let windows = segments::grant_windows(self.peer, count).or_else(|_| {
            if count > need {
                segments::grant_windows(self.peer, need)
            } else {
                Err(ENOSPC)
            }
        })?;
        let count = windows.len() as u32;
        for (window, memory) in (0..count).zip(windows.iter()) {
            let Memory::Granted(pages) = memory else {
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
        inner.openings.growing = Some(number);
        self.flush(inner);
        Ok(())
    }

    /// The back mapped the new segment, or could not.
    fn segment(
        self: &Arc<Self>,
        inner: &mut Inner,
        number: u32,
        mapped: bool,
    ) -> Result<(), Violation> {
        if inner.openings.growing != Some(number) {
            return Err(Violation::Segment);
        }
        inner.openings.growing = None;
        let windows = inner.segments.get(number).map_or(0, |w| w.len()) as u32;
        if mapped {
            self.stats.grown.add(1);
            inner.book.add(number, windows)?;
        } else {
            if let Some(windows) = inner.segments.take(number) {
                segments::give_back(windows, &self.hub.reaper);
            }
            // Asking again would fail again: turn down what does not fit.
            if !inner.openings.pending.is_empty() {
                if let Ok(pending) = inner.openings.pending.remove(0) {
                    self.turn_down(inner, pending, Refusal::NoSpace);
                }
            }
        }
        self.place_pending(inner);
        Ok(())
    }

    /// Gives idle segments back, all but the first and the largest.
    fn shrink(&self, inner: &mut Inner) {
        if inner.openings.growing.is_some() || !inner.openings.pending.is_empty() {
            return;
        }
        let windows = |inner: &Inner, n| inner.segments.get(n).map_or(0, |w| w.len());
        let idle = |inner: &Inner| {
            let idle = (1..idts_core::wire::SEGMENTS).filter(|n| inner.book.is_idle(*n));
            let count = idle.clone().count();
            let smallest = idle.min_by_key(|n| windows(inner, *n));
            smallest.filter(|_| count > 1)
        };
        while let Some(number) = idle(inner) {
            if inner.book.remove(number).is_err() {
                return;
            }
            self.post(inner, FrontMessage::Retire { segment: number }.encode());
        }
    }

    // --- Back ---

    /// Half of the grant references of a window.
    fn window(
        &self,
        inner: &mut Inner,
        (segment, windows, window, half): (u32, u32, u32, u32),
        refs: &[u32; WINDOW_REFS],
    ) -> Result<(), Violation> {
        if inner.openings.incoming.is_none() {
            if inner.segments.get(segment).is_some() {
                return Err(Violation::Segment);
            }
            let total = inner.segments.windows().wrapping_add(windows as usize);
            let memory = self.hub.policies.numbers(self.peer).memory;
            let bytes = (total as u64).saturating_mul(WINDOW.into());
            inner.openings.incoming = Some(Incoming {
                segment,
                windows,
                window: 0,
                half: 0,
                refs: [0; WINDOW_PAGES as usize],
                mapped: KVec::new(),
                failed: total > REGION_WINDOWS_MAX || bytes > memory,
            });
        }
        let Some(incoming) = inner.openings.incoming.as_mut() else {
            return Ok(());
        };
        if (incoming.segment, incoming.windows) != (segment, windows)
            || (incoming.window, incoming.half) != (window, half)
        {
            return Err(Violation::MessageOrder);
        }
        let at = (half as usize).wrapping_mul(WINDOW_REFS);
        for (to, from) in incoming.refs.iter_mut().skip(at).zip(refs) {
            *to = *from;
        }
        if half == 0 {
            incoming.half = 1;
            return Ok(());
        }
        incoming.half = 0;
        incoming.window = window.wrapping_add(1);
        if !incoming.failed {
            let Some(device) = self.device.clone() else {
                return Ok(());
            };
            match MappedPages::new(device, &mut incoming.refs) {
                Ok(mapped) => {
                    let kept = incoming.mapped.push(Memory::Mapped(mapped), GFP_KERNEL);
                    incoming.failed = kept.is_err();
                }
                Err(error) if error == ENOMEM || error == ENOSPC => incoming.failed = true,
                // Xen refused a reference: xenbus has closed the device.
                Err(_) => return Err(Violation::Segment),
            }
        }
        if incoming.window < windows {
            return Ok(());
        }
        let Some(incoming) = inner.openings.incoming.take() else {
            return Ok(());
        };
        let mapped = !incoming.failed && inner.segments.put(segment, incoming.mapped).is_ok();
        if mapped {
            inner.book.add(segment, windows)?;
            self.stats.grown.add(1);
        } else {
            self.stats.no_space.add(1);
        }
        self.post(inner, BackMessage::Segment { segment, mapped }.encode());
        Ok(())
    }

    /// The front wants a segment back.
    fn retire(&self, inner: &mut Inner, segment: u32) -> Result<(), Violation> {
        inner.book.remove(segment)?;
        if let Some(windows) = inner.segments.take(segment) {
            segments::give_back(windows, &self.hub.reaper);
        }
        self.stats.shrunk.add(1);
        self.post(inner, BackMessage::Retired { segment }.encode());
        Ok(())
    }

    /// The front opens a channel: checks it, and finds who wants it.
    fn open(self: &Arc<Self>, inner: &mut Inner, open: Open) -> Result<(), Violation> {
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

    // --- Both ---

    /// A channel object on slices that the book holds.
    fn make_channel(self: &Arc<Self>, inner: &Inner, open: &Open) -> Result<Arc<Channel>> {
        let lines = inner
            .segments
            .piece(open.lines_segment, open.lines_offset, line::PAIR)
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
        self.slots.prepare(open.channel.id)?;
        let far = match self.role {
            Role::Front => open.domain as u16,
            Role::Back => self.peer,
        };
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

    /// Gives a channel that the peer asked for to whoever listens.
    fn hand_over(&self, channel: &Arc<Channel>) -> Result<(), ()> {
        let listener = self.hub.bound(channel.ports.target, self.peer).ok_or(())?;
        let child = Endpoint::accepted(self.hub.clone(), channel.clone()).map_err(|_| ())?;
        self.slots.set(channel.id.id, &child);
        listener.offer(child).map_err(|child| {
            self.slots.clear(channel.id.id);
            self.hub.reaper.retire(child);
        })
    }

    /// Gives a channel to the endpoint that asked for it; closes it at once if
    /// that has given up.
    fn deliver(&self, inner: &mut Inner, waiter: Option<Arc<Endpoint>>, channel: Arc<Channel>) {
        let id = channel.id;
        if let Some(endpoint) = waiter {
            self.slots.set(id.id, &endpoint);
            if endpoint.connected(&channel) {
                return;
            }
            self.slots.clear(id.id);
            self.hub.reaper.retire(endpoint);
        }
        channel.hang_up();
        self.close_record(inner, id);
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

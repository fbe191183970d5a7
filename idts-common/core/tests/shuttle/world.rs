// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Both sides of a tunnel with the core's own rings, control ring and region
//! books. What the kernel does with locks, wait queues and events is done here
//! with shuttle's, in the same order.

use idts_core::control::{ControlRing, Role};
use idts_core::life::{Answer, Number};
use idts_core::mem::SharedMem;
use idts_core::region::{LinesAt, Region};
use idts_core::ring::{set_flags, Lines};
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Kind, Open, Ports, Slice, Slot, PAGE,
};
use shuttle::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};

use super::common::AtomicMem;

/// What the models leave out, to see that they notice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// Nothing: the protocol as it is.
    Nothing,
    /// Waiting for copies before the region is unmapped.
    Patience,
    /// Waiting for the peer's CLOSED before slices are used again.
    PeerClosed,
}

/// Memory that both sides reach, as one of them sees it, until that one has
/// unmapped it. Every access is a point at which another thread may run.
pub struct Shared {
    mem: Arc<AtomicMem>,
    tick: AtomicU32,
    unmapped: AtomicBool,
}

impl Shared {
    fn new(mem: &Arc<AtomicMem>) -> Self {
        Self {
            mem: mem.clone(),
            tick: AtomicU32::new(0),
            unmapped: AtomicBool::new(false),
        }
    }

    fn reach(&self) -> &AtomicMem {
        self.tick.load(SeqCst);
        assert!(!self.unmapped.load(SeqCst), "an access after the unmap");
        &self.mem
    }
}

impl SharedMem for Shared {
    fn load(&self, at: u32) -> u32 {
        self.reach().load(at)
    }
    fn load_acquire(&self, at: u32) -> u32 {
        self.reach().load_acquire(at)
    }
    fn store(&self, at: u32, value: u32) {
        self.reach().store(at, value);
    }
    fn store_release(&self, at: u32, value: u32) {
        self.reach().store_release(at, value);
    }
    fn or64(&self, at: u32, bits: u64) {
        self.reach().or64(at, bits);
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        self.reach().swap64(at, value)
    }
    fn fence(&self) {
        self.reach().fence();
    }
}

/// The tunnel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// What a side knows of a channel.
#[derive(Clone, Copy)]
struct Channel {
    open: Open,
    opened: bool,
}

/// What a side keeps under its lock.
struct Inner {
    ring: ControlRing,
    region: Region,
    channels: HashMap<u32, Channel>,
    numbers: [Number; 3],
    accepted: VecDeque<ChannelId>,
    /// Grows with each event: whoever armed waits for it to change.
    events: u32,
    /// Threads that are amid a copy.
    users: u32,
    dead: bool,
}

/// An event channel: whether it is raised.
type Event = Arc<(Mutex<bool>, Condvar)>;

/// One side of the tunnel.
pub struct Side {
    role: Role,
    without: Without,
    /// The control page, and the region's only segment.
    page: Shared,
    region: Shared,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Raised by the peer: the event channel.
    event: Event,
    peer_event: Event,
}

/// A tunnel that is connected: front and back.
pub fn tunnel(without: Without) -> (Arc<Side>, Arc<Side>) {
    const WINDOWS: u32 = 1;
    let memory = |bytes: u32| Arc::new(AtomicMem::new(bytes as usize / 4, bytes as usize / 8));
    let (page, region) = (memory(PAGE), memory(WINDOWS * 16 * PAGE));
    // A side looks once when it has connected, which arms it.
    let events = [(); 2].map(|()| Arc::new((Mutex::new(true), Condvar::new())));
    let [to_front, to_back] = events;
    let side = |role, event: &Event, peer_event: &Event| {
        let mut book = Region::new();
        book.add(0, WINDOWS).unwrap();
        Arc::new(Side {
            role,
            without,
            page: Shared::new(&page),
            region: Shared::new(&region),
            inner: Mutex::new(Inner {
                ring: ControlRing::new(role),
                region: book,
                channels: HashMap::new(),
                numbers: [Number::default(); 3],
                accepted: VecDeque::new(),
                events: 0,
                users: 0,
                dead: false,
            }),
            changed: Condvar::new(),
            event: event.clone(),
            peer_event: peer_event.clone(),
        })
    };
    (
        side(Role::Front, &to_front, &to_back),
        side(Role::Back, &to_back, &to_front),
    )
}

fn raise(event: &Event) {
    *event.0.lock().unwrap() = true;
    event.1.notify_all();
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Notifies the peer.
    pub fn notify(&self) {
        raise(&self.peer_event);
    }

    /// How many events there were, for [`Self::sleep`]: asked before arming.
    pub fn events(&self) -> u32 {
        self.lock().events
    }

    /// Sleeps until there is an event after `seen`.
    pub fn sleep(&self, seen: u32) -> Result<(), Gone> {
        self.wait_for(|inner| (inner.events != seen).then_some(()))
    }

    fn wait_for<T>(&self, mut ready: impl FnMut(&mut Inner) -> Option<T>) -> Result<T, Gone> {
        let mut inner = self.lock();
        loop {
            if inner.dead {
                return Err(Gone);
            }
            if let Some(found) = ready(&mut inner) {
                return Ok(found);
            }
            inner = self.changed.wait(inner).unwrap();
        }
    }

    /// Does something with shared memory while it is certainly mapped.
    pub fn live<T>(&self, touch: impl FnOnce(&Shared) -> T) -> Result<T, Gone> {
        self.wait_for(|inner| {
            inner.users += 1;
            Some(())
        })?;
        let result = touch(&self.region);
        self.lock().users -= 1;
        self.changed.notify_all();
        Ok(result)
    }

    fn send(&self, inner: &mut Inner, slot: &Slot) {
        let sent = inner.ring.send(&self.page, slot).unwrap();
        if sent.expect("the control ring is full") {
            self.notify();
        }
    }

    /// The front's part of a connect: slices, OPEN, the answer.
    pub fn connect(&self) -> Result<Open, Gone> {
        let open = self.wait_for(|inner| self.try_open(inner))?;
        self.wait_for(|inner| inner.channels[&open.channel.id].opened.then_some(open))
    }

    fn try_open(&self, inner: &mut Inner) -> Option<Open> {
        let id = (1..3).find(|id| inner.numbers[*id as usize].is_free())?;
        let generation = inner.numbers[id as usize].next();
        let lines = inner.region.alloc_lines()?;
        let open = Open {
            channel: ChannelId { id, generation },
            tag: 0,
            ports: Ports {
                source: 1,
                target: 2,
            },
            lines_segment: lines.segment,
            lines_offset: lines.offset,
            front_ring: inner.region.alloc(PAGE)?,
            back_ring: inner.region.alloc(PAGE)?,
            domain: 0,
            kind: Kind::Stream,
        };
        // A new user finds zeroes in its lines.
        for word in (0..line::PAIR).step_by(4) {
            self.region.store(lines.offset + word, 0);
        }
        self.admit(inner, open, Answer::Awaited);
        self.send(inner, &FrontMessage::Open(open).encode());
        Some(open)
    }

    fn admit(&self, inner: &mut Inner, open: Open, answer: Answer) {
        let ChannelId { id, generation } = open.channel;
        let number = &mut inner.numbers[id as usize];
        number.open(generation, answer).expect("the number");
        let opened = answer == Answer::Given;
        inner.channels.insert(id, Channel { open, opened });
    }

    /// The back's part: the next channel that was opened.
    pub fn accept(&self) -> Result<Open, Gone> {
        self.wait_for(|inner| {
            let id = inner.accepted.pop_front()?;
            Some(inner.channels[&id.id].open)
        })
    }

    /// Ends a channel: flags, event, CLOSED.
    pub fn close(&self, open: &Open) -> Result<(), Gone> {
        self.live(|mem| set_flags(mem, self.lines(open), line::FIN | line::DEAF))?;
        self.notify();
        self.wait_for(|inner| {
            let slot = match self.role {
                Role::Front => FrontMessage::Closed(open.channel).encode(),
                Role::Back => BackMessage::Closed(open.channel).encode(),
            };
            self.send(inner, &slot);
            let ChannelId { id, generation } = open.channel;
            let over = inner.numbers[id as usize].close(generation);
            let hasty = self.role == Role::Front && self.without == Without::PeerClosed;
            if over.expect("closed twice") || hasty {
                self.forget(inner, id);
            }
            Some(())
        })
    }

    /// Frees a channel that is closed from both sides.
    fn forget(&self, inner: &mut Inner, id: u32) {
        inner.numbers[id as usize].free();
        if let Some(Channel { open, .. }) = inner.channels.remove(&id) {
            inner.region.free(open.front_ring);
            inner.region.free(open.back_ring);
            inner.region.free_lines(lines_at(&open));
            self.changed.notify_all();
        }
    }

    /// This side's view of a channel's lines.
    pub fn lines(&self, open: &Open) -> Lines {
        let (front, back) = (open.lines_offset, open.lines_offset + line::PAIR / 2);
        match self.role {
            Role::Front => Lines {
                own: front,
                peer: back,
            },
            Role::Back => Lines {
                own: back,
                peer: front,
            },
        }
    }

    /// The event handler and what it wakes: takes messages until the tunnel is gone.
    pub fn serve(&self) {
        loop {
            let mut raised = self.event.0.lock().unwrap();
            while !*raised {
                raised = self.event.1.wait(raised).unwrap();
            }
            *raised = false;
            drop(raised);
            let mut inner = self.lock();
            if inner.dead {
                return;
            }
            inner.events += 1;
            loop {
                while let Some((slot, notify)) = inner.ring.receive(&self.page).unwrap() {
                    if notify {
                        self.notify();
                    }
                    self.obey(&mut inner, &slot);
                }
                if !inner.ring.arm_receive(&self.page).unwrap() {
                    break;
                }
            }
            self.changed.notify_all();
        }
    }

    fn obey(&self, inner: &mut Inner, slot: &Slot) {
        let closed = match self.role {
            Role::Front => match BackMessage::decode(slot).unwrap() {
                BackMessage::Opened(ChannelId { id, generation }) => {
                    let number = &mut inner.numbers[id as usize];
                    number.answered(generation).expect("the answer");
                    inner.channels.get_mut(&id).unwrap().opened = true;
                    return;
                }
                BackMessage::Closed(channel) => channel,
                other => panic!("{other:?}"),
            },
            Role::Back => match FrontMessage::decode(slot).unwrap() {
                FrontMessage::Open(open) => return self.take(inner, open),
                FrontMessage::Closed(channel) => channel,
                other => panic!("{other:?}"),
            },
        };
        let ChannelId { id, generation } = closed;
        let over = inner.numbers[id as usize].peer_closed(generation);
        if over.expect("the number is in use by another channel") {
            self.forget(inner, id);
        }
    }

    /// The back's check of an OPEN.
    fn take(&self, inner: &mut Inner, open: Open) {
        self.admit(inner, open, Answer::Given);
        let claims = [open.front_ring, open.back_ring].map(|slice| inner.region.claim(slice));
        let lines = inner.region.claim_lines(lines_at(&open));
        assert!(
            claims == [Ok(()); 2] && lines.is_ok(),
            "a slice in use: {claims:?} {lines:?}"
        );
        inner.accepted.push_back(open.channel);
        self.send(inner, &BackMessage::Opened(open.channel).encode());
    }

    /// Takes the tunnel away: everybody is woken, copies end, then memory goes.
    pub fn unplug(&self) {
        let mut inner = self.lock();
        inner.dead = true;
        self.changed.notify_all();
        while inner.users > 0 && self.without != Without::Patience {
            inner = self.changed.wait(inner).unwrap();
        }
        drop(inner);
        raise(&self.event);
        self.region.unmapped.store(true, SeqCst);
    }

    /// Nothing may be in use when all channels are closed.
    pub fn expect_idle(&self) {
        let inner = self.lock();
        assert!(inner.channels.is_empty(), "channels are left");
        assert!(inner.region.is_idle(0), "slices are left");
    }

    /// Waits until no channel is left.
    pub fn settle(&self) -> Result<(), Gone> {
        self.wait_for(|inner| inner.channels.is_empty().then_some(()))
    }
}

fn lines_at(open: &Open) -> LinesAt {
    LinesAt {
        segment: open.lines_segment,
        offset: open.lines_offset,
    }
}

/// Where a slice's cell is.
pub fn cell(slice: Slice, at: u32) -> u32 {
    slice.offset + at * 4
}

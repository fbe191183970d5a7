// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Both sides of a tunnel with the core's own rings, control ring, slice allocators and
//! table of opening and closing. What the kernel does with locks, wait queues and events
//! is done here with shuttle's.

use idts_core::allocator::SliceAllocator;
use idts_core::control::ControlRing;
use idts_core::mem::SharedMem;
use idts_core::opening::{
    allocate, back_message, check_open, free, front_message, Action, Actions, ChannelSlot, Event,
};
use idts_core::reassembly::NameAssembler;
use idts_core::ring::{set_flags, Lines};
use idts_core::role::Role;
use idts_core::wire::{
    line, BackMessage, ChannelId, FrontMessage, Kind, Open, Ports, Refusal, Slice, Slot, PAGE,
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
    region: SliceAllocator,
    channels: HashMap<u32, Channel>,
    openings: [ChannelSlot; 3],
    naming: NameAssembler,
    accepted: VecDeque<ChannelId>,
    /// Grows with each event: whoever armed waits for it to change.
    events: u32,
    /// Threads that are amid a copy.
    users: u32,
    dead: bool,
}

/// An event channel: whether it is raised.
type Raised = Arc<(Mutex<bool>, Condvar)>;

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
    event: Raised,
    peer_event: Raised,
}

/// A tunnel that is connected: front and back.
pub fn tunnel(without: Without) -> (Arc<Side>, Arc<Side>) {
    const WINDOWS: u32 = 1;
    let memory = |bytes: u32| Arc::new(AtomicMem::new(bytes as usize / 4, bytes as usize / 8));
    let (page, region) = (memory(PAGE), memory(WINDOWS * 16 * PAGE));
    // A side looks once when it has connected, which arms it.
    let events = [(); 2].map(|()| Arc::new((Mutex::new(true), Condvar::new())));
    let [to_front, to_back] = events;
    let side = |role, event: &Raised, peer_event: &Raised| {
        let mut slices = SliceAllocator::new();
        slices.add_segment(0, WINDOWS).unwrap();
        Arc::new(Side {
            role,
            without,
            page: Shared::new(&page),
            region: Shared::new(&region),
            inner: Mutex::new(Inner {
                ring: ControlRing::new(role),
                region: slices,
                channels: HashMap::new(),
                openings: [ChannelSlot::default(); 3],
                naming: NameAssembler::NONE,
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

fn raise(event: &Raised) {
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
        let id = (1..3).find(|id| inner.openings[*id as usize].is_free())?;
        let generation = inner.openings[id as usize].next();
        let open = Open {
            channel: ChannelId { id, generation },
            tag: 0,
            ports: Ports {
                source: 1,
                target: 2,
            },
            domain: 0,
            kind: Kind::Stream,
            ..allocate(&mut inner.region, PAGE, PAGE)?
        };
        let opened = false;
        inner.channels.insert(id, Channel { open, opened });
        self.step(inner, open.channel, Event::Connect);
        Some(open)
    }

    /// Something happens to a channel, by an honest side.
    fn step(&self, inner: &mut Inner, channel: ChannelId, event: Event) {
        let ChannelId { id, generation } = channel;
        let opening = &mut inner.openings[id as usize];
        let actions = opening.step(generation, event);
        self.carry_out(
            inner,
            id,
            actions.expect("the number is in use by another channel"),
        );
    }

    fn carry_out(&self, inner: &mut Inner, id: u32, actions: Actions) {
        for action in actions {
            let Some(Channel { open, opened }) = inner.channels.get_mut(&id) else {
                return;
            };
            let at = *open;
            match action {
                Action::ClearLines => {
                    for word in (0..line::PAIR).step_by(4) {
                        self.region.store(at.lines_offset + word, 0);
                    }
                }
                Action::Deliver => *opened = true,
                Action::Free => {
                    inner.channels.remove(&id);
                    free(&mut inner.region, &at);
                    self.changed.notify_all();
                }
                // Before the lock was taken: see close.
                Action::Shutdown => {}
                Action::NotePeerClosed => self.changed.notify_all(),
                Action::Fail => panic!("nobody refuses"),
                Action::SendOpen
                | Action::SendOpened
                | Action::SendRefused
                | Action::SendClosed => {}
            }
            let slot = match self.role {
                Role::Front => front_message(*action, &at),
                Role::Back => back_message(*action, at.channel, Refusal::Refused),
            };
            if let Some(slot) = slot {
                self.send(inner, &slot);
            }
        }
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
            self.step(inner, open.channel, Event::Close);
            let opening = inner.openings[open.channel.id as usize];
            let hasty = self.role == Role::Front && self.without == Without::PeerClosed;
            if hasty && opening.has(open.channel.generation) {
                // As if the peer had closed it too.
                self.step(inner, open.channel, Event::RecvClosed);
            }
            Some(())
        })
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
        let (channel, event) = match self.role {
            Role::Front => match BackMessage::decode(slot).unwrap() {
                BackMessage::Opened(channel) => (channel, Event::RecvOpened),
                BackMessage::Closed(channel) => (channel, Event::RecvClosed),
                other => panic!("{other:?}"),
            },
            Role::Back => match FrontMessage::decode(slot).unwrap() {
                FrontMessage::Open(open) => return self.take(inner, open),
                FrontMessage::Closed(channel) => (channel, Event::RecvClosed),
                other => panic!("{other:?}"),
            },
        };
        self.step(inner, channel, event);
    }

    /// The back's check of an OPEN.
    fn take(&self, inner: &mut Inner, open: Open) {
        let id = open.channel.id;
        let (opening, slices) = (&inner.openings[id as usize], &mut inner.region);
        let judged = check_open(opening, &mut inner.naming, |_| None, slices, &open);
        assert_eq!(judged, Ok(None), "a number or a slice in use");
        let opened = true;
        inner.channels.insert(id, Channel { open, opened });
        self.step(inner, open.channel, Event::RecvOpen);
        inner.accepted.push_back(open.channel);
        self.step(inner, open.channel, Event::Accept);
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

/// Where a slice's cell is.
pub fn cell(slice: Slice, at: u32) -> u32 {
    slice.offset + at * 4
}

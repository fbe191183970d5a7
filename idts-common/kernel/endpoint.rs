// SPDX-License-Identifier: GPL-2.0

//! An endpoint: an open file of `/dev/idts`, and its waiting.
//!
//! Owns the states idle, bound, listening, connecting, connected, and all
//! sleeping of applications. Nothing is held while it sleeps or takes a page
//! fault: no lock, no mapping. Called by [`crate::chardev`], and by
//! [`crate::tunnel`] when the peer answers.

use core::pin::Pin;

use idts_core::control::Role;
use idts_core::uapi;
use idts_core::wire::{self, line, Kind, Name, Ports};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};
use kernel::time::msecs_to_jiffies;

use crate::bindings;
use crate::channel::{Channel, Readiness, Stop};
use crate::errno::Errno;
use crate::groups::{Group, Groups, Member};
use crate::hub::Hub;
use crate::opening::Wanted;
use crate::patience::{clock, Patience};
use crate::relay::Relay;
use crate::tunnel::Tunnel;
use crate::wait::{WaitQueue, Woken};

/// How long a connect waits by default.
const CONNECT_MS: u32 = 30_000;
/// The ring that a connect asks for by default.
const RING_DEFAULT: u32 = 128 * 1024;
/// The backlog that a listen asks for by default.
const BACKLOG_DEFAULT: u32 = 16;

/// One kind of news that an endpoint may wait for.
///
/// Whoever wants to be woken arms it, looks once more, and sleeps until it is
/// disarmed. The event handler disarms without any lock.
pub(crate) struct Armed(Atomic<u32>);

impl Armed {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn arm(&self) {
        // Full: armed before the look that follows.
        self.0.xchg(1, Full);
    }

    fn disarm(&self) -> bool {
        self.0.xchg(0, Full) == 1
    }

    fn is_armed(&self) -> bool {
        self.0.load(Relaxed) == 1
    }
}

/// A leg's place in the mover's inbox.
pub(crate) struct Inbox {
    /// 1 while it is in.
    pub(crate) queued: Atomic<u32>,
    pub(crate) next: Atomic<*mut Endpoint>,
}

/// What came of a leg's connect.
pub(crate) enum Outcome {
    Waiting,
    Connected,
    Failed(Errno),
}

/// What a leg belongs to.
#[derive(Clone)]
pub(crate) enum Owner {
    Relay(Arc<Relay>),
    /// A group that it is to join.
    Joining(Arc<Member>),
    Group(Arc<Group>),
}

enum State {
    Idle,
    Bound,
    Listening {
        kind: Kind,
        backlog: usize,
        queue: KVec<Arc<Endpoint>>,
        refused: u32,
    },
    Connecting {
        tunnel: Arc<Tunnel>,
    },
    Connected,
}

struct Inner {
    state: State,
    /// The local port, 0 for none.
    port: u32,
    /// The port is ours in the hub's book.
    bound: bool,
    /// Result of the last connect that was not waited for.
    error: Option<Errno>,
    peer: uapi::Addr,
}

/// An open file of `/dev/idts`.
#[pin_data]
pub(crate) struct Endpoint {
    hub: Arc<Hub>,
    #[pin]
    queue: WaitQueue,
    read: Armed,
    write: Armed,
    /// State changes: a connection to accept, an answer to connect.
    change: Armed,
    reading: Patience,
    writing: Patience,
    /// Somebody polled: news must come even if nobody reads or writes.
    polled: Atomic<bool>,
    channel: SetOnce<Arc<Channel>>,
    sleeps: Atomic<u32>,
    /// This is a leg of a relay or a group: it has no file, and its news go to
    /// the mover.
    is_leg: Atomic<bool>,
    pub(crate) inbox: Inbox,
    #[pin]
    owner: Mutex<Option<Owner>>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Endpoint {
    /// A new idle endpoint.
    pub(crate) fn new(hub: Arc<Hub>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                hub,
                queue <- WaitQueue::new(),
                read: Armed::new(),
                write: Armed::new(),
                change: Armed::new(),
                reading: Patience::new(),
                writing: Patience::new(),
                polled: Atomic::new(false),
                channel: SetOnce::new(),
                sleeps: Atomic::new(0),
                is_leg: Atomic::new(false),
                inbox: Inbox {
                    queued: Atomic::new(0),
                    next: Atomic::new(core::ptr::null_mut()),
                },
                owner <- new_mutex!(None),
                inner <- new_mutex!(Inner {
                    state: State::Idle,
                    port: 0,
                    bound: false,
                    error: None,
                    peer: uapi::Addr::default(),
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// A connected endpoint that waits for accept.
    pub(crate) fn accepted(hub: Arc<Hub>, channel: Arc<Channel>) -> Result<Arc<Self>> {
        let endpoint = Self::new(hub)?;
        let ports = channel.ports;
        endpoint.attach(
            &mut endpoint.inner.lock(),
            channel,
            ports.target,
            ports.source,
        );
        Ok(endpoint)
    }

    /// Becomes the end of `channel`.
    fn attach(&self, inner: &mut Inner, channel: Arc<Channel>, local: u32, remote: u32) {
        inner.state = State::Connected;
        inner.port = local;
        inner.peer = uapi::Addr {
            domid: channel.far,
            reserved: 0,
            port: remote,
        };
        self.channel.populate(channel);
    }

    /// News of the channel, in hard interrupt context. `true`: somebody waited.
    pub(crate) fn on_event(&self) -> bool {
        let read = self.read.disarm();
        let write = self.write.disarm();
        if read || write {
            self.wake();
        }
        read || write
    }

    /// Wakes everyone, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.read.disarm();
        self.write.disarm();
        self.change.disarm();
        self.wake();
    }

    fn wake(&self) {
        if self.is_leg.load(Acquire) {
            // SAFETY: Endpoints are only ever made inside an `Arc`, and this one
            // is borrowed.
            let this = unsafe { ArcBorrow::from_raw(self) };
            self.hub.mover.news(this);
        } else {
            self.queue.wake_all();
        }
    }

    /// Sleeps until `armed` is disarmed. Nothing is held.
    fn sleep(&self, armed: &Armed, jiffies: Option<isize>) -> Result<Woken> {
        self.sleeps.add(1, Relaxed);
        self.queue.wait(jiffies, || !armed.is_armed())
    }

    /// The channel of a connected endpoint.
    pub(crate) fn channel(&self) -> Result<&Arc<Channel>> {
        self.channel.as_ref().ok_or(Errno::NotConn.into())
    }

    // --- Data ---

    /// `read(2)`.
    pub(crate) fn read(&self, to: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        let channel = self.channel()?;
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            let claimed = match channel.tunnel.is_capped() {
                false => u32::MAX,
                true => match channel.levels().0 {
                    0 => u32::MAX,
                    there => channel.tunnel.claim(there.min(len_u32(to.len())))?,
                },
            };
            let result = channel.try_read(to, claimed);
            channel
                .tunnel
                .settle(claimed, result.as_ref().map_or(0, |n| *n));
            match result {
                Ok(n) => {
                    if (nonblock || self.polled.load(Relaxed)) && channel.levels().0 == 0 {
                        self.watch_read(channel);
                    }
                    return Ok(n);
                }
                Err(Stop::End) => return Ok(0),
                Err(Stop::Deaf | Stop::TooLong | Stop::Broken) => {
                    return Err(channel.fate().into())
                }
                Err(Stop::Fault) => fault_in_writable(to, channel.kind)?,
                Err(Stop::Blocked) => {
                    if !nonblock && channel.look_for_data(&self.reading) {
                        channel.tunnel.stats.looks.add(1);
                        continue;
                    }
                    self.read.arm();
                    if channel.arm_read() {
                        continue;
                    }
                    if nonblock {
                        return Err(EAGAIN);
                    }
                    channel.tunnel.stats.sleeps.add(1);
                    self.reading.learn(|| self.sleep(&self.read, None))?;
                }
            }
        }
    }

    /// `write(2)`.
    pub(crate) fn write(&self, from: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        let channel = self.channel()?;
        let mut total = 0usize;
        while !from.is_empty() {
            let claimed = match channel.tunnel.is_capped() {
                false => Ok(u32::MAX),
                true => match channel.levels().1 {
                    0 => Ok(u32::MAX),
                    free => channel.tunnel.claim(free.min(len_u32(from.len()))),
                },
            };
            let result = match claimed {
                Ok(claimed) => {
                    let result = channel.try_write(from, claimed);
                    let moved = result.as_ref().map_or(0, |n| *n);
                    channel.tunnel.settle(claimed, moved);
                    result
                }
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            };
            let error = match result {
                Ok(n) => {
                    total = total.wrapping_add(n);
                    continue;
                }
                Err(Stop::Fault) => fault_in_readable(from, channel.kind).err(),
                Err(Stop::Blocked) => self.blocked_write(channel, from.len(), nonblock).err(),
                // What was written comes first; the next write tells the rest.
                Err(_) if total > 0 => break,
                Err(Stop::Broken) => Some(channel.fate().into()),
                Err(Stop::TooLong) => Some(Errno::MsgSize.into()),
                Err(Stop::Deaf | Stop::End) => Some(EPIPE),
            };
            match error {
                None => {}
                Some(_) if total > 0 => break,
                Some(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Waits for room to write some of `len` bytes.
    fn blocked_write(&self, channel: &Channel, len: usize, nonblock: bool) -> Result {
        let room = channel.room_for(len);
        if !nonblock && channel.look_for_room(&self.writing, room) {
            channel.tunnel.stats.looks.add(1);
            return Ok(());
        }
        self.write.arm();
        let want = if nonblock {
            channel.room_for_poll()
        } else {
            room
        };
        if channel.arm_write(want) {
            return Ok(());
        }
        if nonblock {
            return Err(EAGAIN);
        }
        channel.tunnel.stats.sleeps.add(1);
        self.writing.learn(|| self.sleep(&self.write, None))?;
        Ok(())
    }

    /// Arms without blocking; news that came in between are told at once.
    fn watch_read(&self, channel: &Channel) {
        self.read.arm();
        if channel.arm_read() {
            self.on_event();
        }
    }

    /// `poll(2)`: the events that hold now.
    ///
    /// # Safety
    ///
    /// `file` and `table` are what `file_operations.poll` was called with, for a
    /// file that holds this endpoint.
    pub(crate) unsafe fn poll(
        self: Pin<&Self>,
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> u32 {
        // SAFETY: The queue is part of the pinned endpoint; the rest as above.
        unsafe {
            let queue = self.map_unchecked(|e| &e.queue);
            queue.poll(file, table);
        }
        self.polled.store(true, Relaxed);
        match self.channel.as_ref() {
            Some(channel) => self.poll_channel(channel),
            None => self.poll_state(),
        }
    }

    fn poll_channel(&self, channel: &Channel) -> u32 {
        let mut ready = channel.readiness();
        if !ready.readable {
            self.read.arm();
            if channel.arm_read() {
                ready = channel.readiness();
            }
        }
        if !ready.writable {
            self.write.arm();
            if channel.arm_write(channel.room_for_poll()) {
                ready = channel.readiness();
            }
        }
        events(ready)
    }

    fn poll_state(&self) -> u32 {
        self.change.arm();
        let inner = self.inner.lock();
        match &inner.state {
            State::Listening { queue, .. } if !queue.is_empty() => {
                bindings::POLLIN | bindings::POLLRDNORM
            }
            State::Listening { .. } | State::Connecting { .. } => 0,
            _ if inner.error.is_some() => bindings::POLLOUT | bindings::POLLERR | bindings::POLLHUP,
            _ => bindings::POLLOUT | bindings::POLLHUP,
        }
    }

    // --- Control ---

    /// Binds to `port` for connections from `peer`.
    pub(crate) fn bind(self: &Arc<Self>, port: u32, peer: u16) -> Result {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Idle) {
            return Err(EINVAL);
        }
        inner.port = self.hub.bind(port, peer, self)?;
        inner.bound = true;
        inner.state = State::Bound;
        Ok(())
    }

    /// Listens on the bound port.
    pub(crate) fn listen(&self, backlog: u32, wanted: Kind) -> Result {
        let backlog = match backlog {
            0 => BACKLOG_DEFAULT,
            n => n.min(uapi::BACKLOG_MAX),
        } as usize;
        let mut inner = self.inner.lock();
        match &mut inner.state {
            State::Listening {
                backlog: b, kind, ..
            } if *kind == wanted => *b = backlog,
            State::Bound => {
                inner.state = State::Listening {
                    kind: wanted,
                    backlog,
                    queue: KVec::with_capacity(backlog, GFP_KERNEL)?,
                    refused: 0,
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Queues a connected endpoint for accept. Gives it back if nobody listens
    /// or the backlog is full.
    pub(crate) fn offer(&self, child: Arc<Endpoint>) -> Result<(), Arc<Endpoint>> {
        {
            let mut inner = self.inner.lock();
            let State::Listening {
                kind,
                backlog,
                queue,
                refused,
            } = &mut inner.state
            else {
                return Err(child);
            };
            if child.channel.as_ref().is_none_or(|c| c.kind != *kind) {
                return Err(child);
            }
            if queue.len() >= *backlog {
                *refused = refused.wrapping_add(1);
                return Err(child);
            }
            let spare = child.clone();
            if queue.push(child, GFP_KERNEL).is_err() {
                return Err(spare);
            }
        }
        self.kick();
        Ok(())
    }

    /// Takes the next connection.
    pub(crate) fn accept(&self, nonblock: bool) -> Result<Arc<Endpoint>> {
        loop {
            self.change.arm();
            {
                let mut inner = self.inner.lock();
                let State::Listening { queue, .. } = &mut inner.state else {
                    return Err(EINVAL);
                };
                if !queue.is_empty() {
                    return Ok(queue.remove(0)?);
                }
            }
            if nonblock {
                return Err(EAGAIN);
            }
            self.sleep(&self.change, None)?;
        }
    }

    /// Connects.
    pub(crate) fn connect(self: &Arc<Self>, request: &uapi::Connect, nonblock: bool) -> Result {
        let kind = match request.flags {
            0 => Kind::Stream,
            uapi::RECORD => Kind::Record,
            _ => return Err(EINVAL),
        };
        if request.peer.port == 0 {
            return Err(EINVAL);
        }
        let domid = request.peer.domid;
        let wanted = Wanted {
            ports: Ports {
                source: self.inner.lock().port,
                target: request.peer.port,
            },
            tx: ring_size(request.tx_ring)?,
            rx: ring_size(request.rx_ring)?,
            // The back asks in its own name, the front for somebody.
            domain: match self.hub.role {
                Role::Front => domid.into(),
                Role::Back => 0,
            },
            kind,
            name: None,
        };
        self.ask(domid, wanted, nonblock)?;
        self.wait_answer(request.timeout_ms, nonblock)
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.inner.lock().state, State::Connecting { .. })
    }

    /// Waits for the answer to what was asked, or leaves that to the reaper.
    fn wait_answer(self: &Arc<Self>, timeout_ms: u32, nonblock: bool) -> Result {
        let ms = match timeout_ms {
            0 => CONNECT_MS,
            ms => ms,
        };
        if nonblock {
            let deadline = clock().saturating_add(u64::from(ms).saturating_mul(1_000_000));
            if let Err(error) = self.hub.reaper.watch(self.clone(), deadline) {
                self.give_up(Errno::NoSpace);
                return Err(error);
            }
            return Err(Errno::InProgress.into());
        }
        let jiffies = isize::try_from(msecs_to_jiffies(ms)).unwrap_or(isize::MAX);
        loop {
            self.change.arm();
            {
                let mut inner = self.inner.lock();
                match inner.state {
                    State::Connecting { .. } => {}
                    State::Connected => return Ok(()),
                    _ => {
                        let error = inner.error.take().unwrap_or(Errno::NetDown);
                        return Err(error.into());
                    }
                }
            }
            if self.sleep(&self.change, Some(jiffies))? == Woken::TimedOut {
                self.give_up(Errno::TimedOut);
            }
        }
    }

    /// Asks for a channel, unless that is under way.
    fn ask(self: &Arc<Self>, domid: u16, wanted: Wanted, nonblock: bool) -> Result {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Connecting { .. } if nonblock => return Err(Errno::Already.into()),
            State::Connecting { .. } => return Ok(()),
            State::Connected => return Err(Errno::IsConn.into()),
            State::Listening { .. } => return Err(EINVAL),
            State::Idle | State::Bound => {}
        }
        let tunnel = self.hub.reach(domid)?;
        inner.error = None;
        inner.state = State::Connecting {
            tunnel: tunnel.clone(),
        };
        inner.peer = uapi::Addr {
            domid,
            reserved: 0,
            port: wanted.ports.target,
        };
        // The answer takes this lock.
        drop(inner);
        if let Err(errno) = tunnel.connect(self, wanted) {
            self.refused(errno);
        }
        Ok(())
    }

    /// Publishes to, or subscribes to, a group.
    pub(crate) fn join(
        self: &Arc<Self>,
        request: &uapi::Group,
        kind: Kind,
        nonblock: bool,
    ) -> Result {
        let name = Name(request.name);
        let ring = ring_size(request.ring)?;
        let how = match kind {
            Kind::Publish if request.on_lag == 0 => request.flags,
            Kind::Subscribe if request.flags == 0 && request.on_lag <= uapi::LAG_BLOCK => {
                request.on_lag
            }
            _ => return Err(EINVAL),
        };
        if !name.is_valid() || !kind.takes_source(how) {
            return Err(EINVAL);
        }
        let (tx, rx) = match kind {
            Kind::Publish => (ring, uapi::RING_MIN),
            _ => (uapi::RING_MIN, ring),
        };
        let wanted = Wanted {
            ports: Ports {
                source: how,
                target: 1,
            },
            tx,
            rx,
            domain: 0,
            kind,
            name: Some(name),
        };
        self.ask(0, wanted, nonblock)?;
        self.wait_answer(request.timeout_ms, nonblock)
    }

    /// The peer accepted. Gives the channel back if nobody waits for it.
    pub(crate) fn connected(&self, channel: &Arc<Channel>) -> bool {
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.state, State::Connecting { .. }) {
                return false;
            }
            let ports = channel.ports;
            self.attach(&mut inner, channel.clone(), ports.source, ports.target);
        }
        self.kick();
        true
    }

    /// The connect failed.
    pub(crate) fn refused(&self, errno: Errno) {
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.state, State::Connecting { .. }) {
                return;
            }
            inner.state = if inner.bound {
                State::Bound
            } else {
                State::Idle
            };
            inner.error = Some(errno);
        }
        self.kick();
    }

    /// Stops waiting for an answer.
    pub(crate) fn give_up(&self, errno: Errno) {
        let tunnel = match &self.inner.lock().state {
            State::Connecting { tunnel } => tunnel.clone(),
            _ => return,
        };
        tunnel.abandon(self);
        self.refused(errno);
    }

    // --- Legs of relays and groups ---

    /// Makes a new endpoint a leg, or gives a leg another owner.
    pub(crate) fn make_leg(&self, owner: Owner) {
        let old = self.owner.lock().replace(owner);
        self.is_leg.store(true, Release);
        drop(old);
    }

    /// What a leg belongs to.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner.lock().clone()
    }

    /// Connects a leg to the other domain.
    pub(crate) fn connect_leg(self: &Arc<Self>, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        self.inner.lock().state = State::Connecting {
            tunnel: tunnel.clone(),
        };
        if let Err(errno) = tunnel.connect(self, wanted) {
            self.refused(errno);
        }
    }

    /// The groups of the module.
    pub(crate) fn groups(&self) -> &Groups {
        &self.hub.groups
    }

    /// What came of that.
    pub(crate) fn outcome(&self) -> Outcome {
        let inner = self.inner.lock();
        match inner.state {
            State::Connecting { .. } => Outcome::Waiting,
            State::Connected => Outcome::Connected,
            _ => Outcome::Failed(inner.error.unwrap_or(Errno::NetDown)),
        }
    }

    /// Whether a leg's channel is broken or its tunnel gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.channel
            .as_ref()
            .is_some_and(|c| c.error() != 0 || !c.tunnel.gate.is_open())
    }

    /// The mover wants to know of the next byte.
    pub(crate) fn arm_leg_read(&self) {
        self.read.arm();
    }

    /// The mover wants to know of room.
    pub(crate) fn arm_leg_write(&self) {
        self.write.arm();
    }

    /// Closes a leg.
    pub(crate) fn end_leg(self: &Arc<Self>) {
        let owner = self.owner.lock().take();
        if let Some(channel) = self.channel.as_ref() {
            channel.tunnel.close(channel);
            self.hub.reaper.retire(self.clone());
        }
        drop(owner);
    }

    /// `shutdown(2)`.
    pub(crate) fn shutdown(&self, how: u32) -> Result {
        let flags = match how {
            uapi::SHUT_RD => line::DEAF,
            uapi::SHUT_WR => line::FIN,
            uapi::SHUT_RDWR => line::FIN | line::DEAF,
            _ => return Err(EINVAL),
        };
        self.channel()?.shutdown(flags);
        self.kick();
        Ok(())
    }

    /// The result of a connect that was not waited for, then 0.
    pub(crate) fn take_error(&self) -> u32 {
        if let Some(channel) = self.channel.as_ref() {
            return channel.error();
        }
        self.inner.lock().error.take().map_or(0, |e| e as u32)
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> uapi::Addr {
        self.inner.lock().peer
    }

    /// All that is known of the endpoint.
    pub(crate) fn info(&self) -> uapi::Info {
        let mut info = uapi::Info::default();
        {
            let inner = self.inner.lock();
            info.local = uapi::Addr {
                domid: self.hub.own_domid(),
                reserved: 0,
                port: inner.port,
            };
            info.peer = inner.peer;
            info.error = inner.error.map_or(0, |e| e as u32);
            info.state = match &inner.state {
                State::Idle => uapi::STATE_IDLE,
                State::Bound => uapi::STATE_BOUND,
                State::Listening { queue, refused, .. } => {
                    info.queued = queue.len() as u32;
                    info.refused = *refused;
                    uapi::STATE_LISTENING
                }
                State::Connecting { .. } => uapi::STATE_CONNECTING,
                State::Connected => uapi::STATE_CONNECTED,
            };
        }
        info.sleeps = self.sleeps.load(Relaxed).into();
        if let Some(channel) = self.channel.as_ref() {
            let ((tx_ring, tx_bytes), (rx_ring, rx_bytes)) = channel.totals();
            (info.tx_ring, info.tx_bytes) = (tx_ring, tx_bytes);
            (info.rx_ring, info.rx_bytes) = (rx_ring, rx_bytes);
            (info.rx_avail, info.tx_free) = channel.levels();
            info.events_sent = channel.events.load(Relaxed).into();
            info.truncated = channel.truncated();
            info.lag = channel.lag();
            info.flags = match channel.kind.has_records() {
                true => uapi::RECORD,
                false => 0,
            };
            info.error = channel.error();
            if info.error != 0 || !channel.tunnel.gate.is_open() {
                info.state = uapi::STATE_BROKEN;
            }
        }
        info
    }

    /// The last close of the file. Nobody else uses the endpoint any more, but
    /// for the event handler and for answers that are under way.
    pub(crate) fn release(self: Arc<Self>) {
        self.give_up(Errno::ConnReset);
        let (port, queue) = {
            let mut inner = self.inner.lock();
            let port = if inner.bound { inner.port } else { 0 };
            match core::mem::replace(&mut inner.state, State::Idle) {
                State::Listening { queue, .. } => (port, queue),
                _ => (port, KVec::new()),
            }
        };
        if port != 0 {
            self.hub.unbind(port);
        }
        for child in queue {
            child.release();
        }
        if let Some(channel) = self.channel.as_ref() {
            channel.tunnel.close(channel);
            self.hub.reaper.clone().retire(self);
        }
    }
}

/// A ring's size as an application asks for it.
fn ring_size(size: u32) -> Result<u32> {
    match size {
        0 => Ok(RING_DEFAULT),
        n if n.is_power_of_two() && (uapi::RING_MIN..=uapi::RING_MAX).contains(&n) => Ok(n),
        _ => Err(EINVAL),
    }
}

/// A length, cut to what a ring can hold.
fn len_u32(len: usize) -> u32 {
    len.min(wire::RING_MAX as usize) as u32
}

/// The poll events of a readiness.
fn events(ready: Readiness) -> u32 {
    let when = |condition, events| if condition { events } else { 0 };
    when(ready.readable, bindings::POLLIN | bindings::POLLRDNORM)
        | when(ready.writable, bindings::POLLOUT | bindings::POLLWRNORM)
        | when(ready.read_ended, bindings::POLLRDHUP)
        | when(ready.hung_up, bindings::POLLHUP)
        | when(ready.error, bindings::POLLERR)
}

/// Bytes to fault in at once, of `len`. A record must be there as a whole.
fn fault_in(len: usize, kind: Kind) -> usize {
    match kind {
        Kind::Stream => len.min(wire::WINDOW as usize),
        _ => len.min(wire::RING_MAX as usize),
    }
}

/// Faults a destination in; may sleep for as long as the buffer's owner likes.
fn fault_in_writable(to: &mut IovIterDest<'_>, kind: Kind) -> Result {
    let want = fault_in(to.len(), kind);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_writeable(to.as_raw(), want) };
    if left == want {
        return Err(EFAULT);
    }
    signal_check()
}

/// Faults a source in, as [`fault_in_writable`].
fn fault_in_readable(from: &mut IovIterSource<'_>, kind: Kind) -> Result {
    let want = fault_in(from.len(), kind);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_readable(from.as_raw(), want) };
    if left == want {
        return Err(EFAULT);
    }
    signal_check()
}

/// A buffer that is taken away again and again must not keep a killed process.
fn signal_check() -> Result {
    if kernel::current!().signal_pending() {
        Err(ERESTARTSYS)
    } else {
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A tunnel: the link of a pair of domains.
//!
//! Owns set-up, the control ring's pump, and teardown with its order. What the
//! messages say is in [`crate::opening`]; channels move their data without
//! coming here.
//!
//! Locks, outer to inner: a tunnel's `inner`, the hub's `ports`, an endpoint's
//! `inner`. The event handler takes none.

use idts_core::control::{ControlRing, Role};
use idts_core::error::Violation;
use idts_core::nodes;
use idts_core::region::Region;
use idts_core::sched::{Claim, FlowId, FlowStats};
use idts_core::state::XenbusState;
use idts_core::wire::{self, Slot};
use kernel::alloc::flags::__GFP_ZERO;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

use crate::bindings;
use crate::errno::Errno;
use crate::evtchn::{self, Eoi, EventChannel, Handler};
use crate::grant::{GrantedPages, MappedPages};
use crate::hub::Hub;
use crate::opening::Openings;
use crate::patience::clock;
use crate::segments::{self, Memory, Segments};
use crate::shared::{Gate, Live, Piece};
use crate::slots::Slots;
use crate::stats::Stats;
use crate::wait::WaitQueue;
use crate::xenbus::{Device, DeviceRef};

/// Messages handled before the worker lets others run.
const BATCH: usize = 64;
/// Messages that may wait for a slot before we stop listening to the peer: one
/// that does not read its ring cannot make us hoard answers. A peer that keeps
/// the rules never drives us there, with an answer and a CLOSED for every channel
/// and some for segments and requests; otherwise two sides that both close
/// everything would both stop listening, for ever.
const OUTBOX_MAX: usize = 2 * wire::CHANNELS as usize + 512;
/// An outbox that was longer gives its memory back once it is empty.
const OUTBOX_KEPT: usize = 256;
/// Versions of the protocol that this module speaks.
pub const VERSIONS: (u32, u32) = (wire::VERSION, wire::VERSION);

/// What the debugfs file shows besides counters.
pub struct Gauges {
    /// Channels that are not closed by both sides.
    pub channels: usize,
    /// Pages of the data region.
    pub region_pages: usize,
    /// Segments of the data region.
    pub segments: usize,
    /// The rule that the peer broke.
    pub broken: Option<Violation>,
}

/// What is behind a tunnel's lock.
pub(crate) struct Inner {
    ring: ControlRing,
    outbox: KVVec<Slot>,
    pub(crate) book: KBox<Region>,
    pub(crate) segments: Segments,
    pub(crate) openings: Openings,
    broken: Option<Violation>,
    control: Option<Memory>,
    events: Option<EventChannel<Tunnel>>,
}

/// A region without segments, made in place: it is too large for the stack.
fn zeroed_book() -> Result<KBox<Region>> {
    let book = KBox::<Region>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    // SAFETY: A region is made of integers only, and an empty one of zeroes.
    Ok(unsafe { book.assume_init() })
}

/// The link to one other domain.
#[pin_data]
pub struct Tunnel {
    /// Which side we are.
    pub role: Role,
    /// The other domain.
    pub peer: u16,
    /// Keeps accesses to shared memory and teardown apart.
    pub(crate) gate: Gate,
    /// Counters.
    pub(crate) stats: Stats,
    pub(crate) hub: Arc<Hub>,
    /// The device; none for the tunnel of a domain with itself.
    pub(crate) device: Option<DeviceRef>,
    pub(crate) slots: Slots,
    page: Piece,
    /// Back: grant reference of the control page that is mapped.
    reference: u32,
    irq: Atomic<u32>,
    /// Back: the scheduler's name for this tunnel.
    flow: SetOnce<FlowId>,
    /// Back: programs of this domain claim what they move.
    capped: Atomic<bool>,
    /// Turns that were handed to this domain's own programs, and who waits.
    turns: Atomic<u32>,
    #[pin]
    turn: WaitQueue,
    /// The worker waits for an event of the control ring.
    armed: Atomic<u32>,
    /// Events that may still come whose doorbells were taken already, together
    /// with another's: they are not the peer's fault.
    early: Atomic<u32>,
    #[pin]
    work: Work<Tunnel>,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Tunnel> for Tunnel { self.work }
}

impl Tunnel {
    pub(crate) fn new(
        device: Option<&Device>,
        hub: &Arc<Hub>,
        control: Memory,
        reference: u32,
    ) -> Result<Arc<Self>> {
        let role = hub.role;
        let page = control.piece();
        let book = zeroed_book()?;
        Arc::pin_init(
            pin_init!(Self {
                role,
                peer: device.map_or(0, |d| d.peer()),
                gate: Gate::new(),
                stats: Stats::new(),
                hub: hub.clone(),
                device: device.map(DeviceRef::from),
                slots: Slots::new(),
                page,
                reference,
                irq: Atomic::new(0),
                flow: SetOnce::new(),
                capped: Atomic::new(false),
                turns: Atomic::new(0),
                turn <- WaitQueue::new(),
                armed: Atomic::new(0),
                early: Atomic::new(0),
                work <- new_work!("idts_tunnel"),
                inner <- new_mutex!(Inner {
                    ring: ControlRing::new(hub.role),
                    outbox: KVVec::new(),
                    book,
                    segments: Segments::new(),
                    openings: Openings::new(),
                    broken: None,
                    control: Some(control),
                    events: None,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Front: allocates, grants and publishes a tunnel.
    pub fn offer(device: &Device, hub: &Arc<Hub>) -> Result<Arc<Self>> {
        let theirs = (
            device.read_peer(nodes::MIN_VERSION, 1, u32::MAX)?,
            device.read_peer(nodes::MAX_VERSION, 1, u32::MAX)?,
        );
        let version = nodes::common_version(VERSIONS, theirs).ok_or_else(|| {
            dev_err!(
                device.device(),
                "the backend speaks protocol {} to {}, we speak {} to {}\n",
                theirs.0,
                theirs.1,
                VERSIONS.0,
                VERSIONS.1
            );
            EINVAL
        })?;
        let control = GrantedPages::new(device.peer(), 1)?;
        let reference = control.refs().first().copied().ok_or(ENOMEM)?;
        let tunnel = Self::new(Some(device), hub, Memory::Granted(control), reference)?;
        let publish = || {
            let port = tunnel.bind(EventChannel::offer(device, tunnel.clone())?);
            device.write(nodes::VERSION, version)?;
            device.write(nodes::CONTROL_REF, reference)?;
            device.write(nodes::EVENT_CHANNEL, port)
        };
        if let Err(error) = publish() {
            tunnel.stop(Errno::NetDown);
            tunnel.give_back();
            return Err(error);
        }
        Ok(tunnel)
    }

    /// Back: reads, checks and maps what the front published.
    pub fn map(device: &Device, hub: &Arc<Hub>) -> Result<Arc<Self>> {
        let version = device.read_peer(nodes::VERSION, 1, u32::MAX)?;
        if nodes::common_version(VERSIONS, (version, version)).is_none() {
            dev_err!(
                device.device(),
                "the frontend picked protocol {}, we speak {} to {}\n",
                version,
                VERSIONS.0,
                VERSIONS.1
            );
            return Err(EINVAL);
        }
        let reference = device.read_peer(nodes::CONTROL_REF, 1, u32::MAX)?;
        let port = device.read_peer(nodes::EVENT_CHANNEL, 1, u32::MAX)?;
        let control = MappedPages::new(DeviceRef::from(device), &mut [reference])?;
        let tunnel = Self::new(Some(device), hub, Memory::Mapped(control), reference)?;
        match EventChannel::bind(device, port, tunnel.clone()) {
            Ok(events) => {
                tunnel.bind(events);
                Ok(tunnel)
            }
            Err(error) => {
                tunnel.stop(Errno::NetDown);
                tunnel.give_back();
                Err(error)
            }
        }
    }

    /// Back: whether the front offers another control page than the one that is
    /// mapped, for it started anew without our noticing.
    pub fn is_stale(&self, device: &Device) -> bool {
        device.read_peer(nodes::CONTROL_REF, 1, u32::MAX) != Ok(self.reference)
    }

    /// Whether the peer broke a rule.
    pub fn is_broken(&self) -> bool {
        self.inner.lock().broken.is_some()
    }

    fn bind(&self, events: EventChannel<Tunnel>) -> u32 {
        let port = events.port();
        self.irq.store(events.irq(), Release);
        self.inner.lock().events = Some(events);
        port
    }

    /// Makes the tunnel reachable: both sides are connected.
    pub fn start(self: &Arc<Self>) -> Result {
        if self.role == Role::Front {
            // Not earlier: a back that starts anew before it is connected finds
            // an unused control page.
            self.grow(&mut self.inner.lock(), wire::FIRST_WINDOWS)?;
        }
        if self.role == Role::Back {
            let numbers = self.hub.policies.load(self.peer);
            let flow = self.hub.mover.join(self, numbers.params)?;
            self.set_flow(flow);
            self.obey();
        }
        self.hub.add(self)?;
        self.schedule();
        Ok(())
    }

    /// Ends the tunnel: marks it dead, tells everyone, and waits for accesses
    /// under way, none of which sleeps. May be called twice.
    pub fn stop(self: &Arc<Self>, errno: Errno) {
        self.hub.remove(self);
        if let Some(flow) = self.flow() {
            self.hub.mover.leave(flow);
            self.hub.policies.forget(self.peer);
        }
        let events = {
            let mut inner = self.inner.lock();
            // First the errno, then the gate: whoever finds it shut has one.
            self.fail_all(&mut inner, errno);
            self.gate.shut();
            inner.events.take()
        };
        // Waits for a running handler, which takes no lock.
        drop(events);
        self.gate.close();
        // SAFETY: The work is initialised; process context. It runs rather than
        // being cancelled, for it owns a reference to the tunnel.
        unsafe { bindings::flush_work(Work::raw_get(&self.work)) };
    }

    /// Gives all memory back, newest first, after [`Self::stop`].
    pub fn give_back(&self) {
        let mut inner = self.inner.lock();
        let reaper = &self.hub.reaper;
        inner.openings.incoming.take();
        while let Some(windows) = inner.segments.take_newest() {
            segments::give_back(windows, reaper);
        }
        if let Some(control) = inner.control.take() {
            control.give_back(reaper);
        }
    }

    /// Marks the tunnel broken: the peer broke a rule. Logged once; everyone on
    /// the tunnel gets `EPROTO`, nobody else notices.
    fn break_down(&self, inner: &mut Inner, violation: Violation) {
        if inner.broken.is_some() || !self.gate.is_open() {
            return;
        }
        inner.broken = Some(violation);
        self.stats.violations.add(1);
        pr_warn!(
            "domain {}: tunnel broken by the peer: {}\n",
            self.peer,
            violation.name()
        );
        self.fail_all(inner, Errno::Proto);
        self.gate.shut();
        self.switch_closing();
    }

    /// Asks the peer to close the device.
    pub(crate) fn switch_closing(&self) {
        if let Some(device) = &self.device {
            device.switch(XenbusState::Closing);
        }
    }

    /// Wakes everyone with an error.
    fn fail_all(&self, inner: &mut Inner, errno: Errno) {
        inner.openings.fail_all(self, errno);
    }

    /// Back: obeys what is set for the domain.
    pub(crate) fn obey(&self) {
        let Some(flow) = self.flow() else {
            return;
        };
        let numbers = self.hub.policies.load(self.peer);
        self.hub.mover.set(flow, numbers.params);
        self.capped.store(self.hub.mover.is_capped(flow), Relaxed);
    }

    /// Whether programs of this domain must claim what they move.
    pub(crate) fn is_capped(&self) -> bool {
        self.capped.load(Relaxed)
    }

    /// What this domain's program may move now of `want` bytes: all, without a
    /// cap; otherwise it waits for its turn, even with O_NONBLOCK, as a read of
    /// a disk does. [`Self::settle`] gives the rest back.
    pub(crate) fn claim(&self, want: u32) -> Result<u32> {
        loop {
            if !self.capped.load(Relaxed) {
                return Ok(u32::MAX);
            }
            let Some(flow) = self.flow() else {
                return Ok(u32::MAX);
            };
            let seen = self.turns.load(Relaxed);
            match self.hub.mover.claim(flow, want) {
                Claim::Granted(bytes) => return Ok(bytes),
                Claim::Free | Claim::Gone => return Ok(u32::MAX),
                Claim::Queued => {
                    self.turn.wait(None, || self.turns.load(Relaxed) != seen)?;
                }
            }
        }
    }

    /// Gives back what is left of a claim.
    pub(crate) fn settle(&self, claimed: u32, used: usize) {
        if claimed != u32::MAX {
            if let Some(flow) = self.flow() {
                let unused = claimed.saturating_sub(used as u32);
                self.hub.mover.refund(flow, unused);
            }
        }
    }

    /// The scheduler's name for this tunnel is `flow`.
    pub(crate) fn set_flow(&self, flow: FlowId) {
        self.flow.populate(flow);
    }

    /// What the scheduler counted.
    pub(crate) fn flow_stats(&self) -> Option<FlowStats> {
        let flow = self.flow()?;
        self.hub.mover.with(|s| s.stats(flow, clock()))
    }

    /// The scheduler's name for this tunnel.
    pub(crate) fn flow(&self) -> Option<FlowId> {
        self.flow.copy()
    }

    /// This domain's programs may claim again.
    pub(crate) fn grant_turn(&self) {
        self.turns.add(1, Relaxed);
        self.turn.wake_all();
    }

    /// Numbers for the debugfs file.
    pub fn gauges(&self) -> Gauges {
        let inner = self.inner.lock();
        Gauges {
            channels: inner.openings.channels(),
            region_pages: inner.segments.windows().wrapping_mul(16),
            segments: inner.segments.count(),
            broken: inner.broken,
        }
    }

    // --- Control ring ---

    /// Rings the doorbell of a channel and sends the event.
    pub(crate) fn notify(&self, live: &Live, id: u32) {
        if self.device.is_none() {
            // Both ends are here: the other one's number differs in one bit.
            self.slots.with(id ^ 1, |e| e.on_event());
            return;
        }
        self.role.rings().ring(&self.page.words(live), id);
        self.stats.events_sent.add(1);
        evtchn::notify(self.irq.load(Acquire));
    }

    /// Queues a message; [`Self::flush`] sends it.
    pub(crate) fn post(&self, inner: &mut Inner, slot: Slot) {
        if inner.outbox.push(slot, GFP_KERNEL).is_err() {
            // A message that cannot be kept would leave both sides waiting.
            pr_err!("domain {}: out of memory, tunnel closed\n", self.peer);
            self.fail_all(inner, Errno::ConnReset);
            self.gate.shut();
            self.switch_closing();
        }
    }

    /// Sends what there are slots for. The rest goes when the peer says that it
    /// took some.
    pub(crate) fn flush(&self, inner: &mut Inner) {
        let Some(live) = self.gate.enter() else {
            return;
        };
        let words = self.page.words(&live);
        let mut notify = false;
        let mut sent = 0usize;
        let result = loop {
            let Some(slot) = inner.outbox.get(sent).copied() else {
                break Ok(());
            };
            match inner.ring.send(&words, &slot) {
                Ok(Some(wanted)) => {
                    notify |= wanted;
                    sent = sent.wrapping_add(1);
                }
                Ok(None) => {
                    self.armed.store(1, Release);
                    match inner.ring.arm_send(&words) {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(violation) => break Err(violation),
                    }
                }
                Err(violation) => break Err(violation),
            }
        };
        if sent > 0 {
            let mut index = 0usize;
            inner.outbox.retain(|_| {
                index = index.wrapping_add(1);
                index > sent
            });
            if inner.outbox.is_empty() && inner.outbox.capacity() > OUTBOX_KEPT {
                inner.outbox = KVVec::new();
            }
        }
        if notify {
            self.notify(&live, 0);
        }
        drop(live);
        if let Err(violation) = result {
            self.break_down(inner, violation);
        }
    }

    fn schedule(self: &Arc<Self>) {
        // Already scheduled is fine: the worker looks at everything.
        let _ = crate::queue().enqueue(self.clone());
    }

    /// Takes the next message, if there is one and room for its answers.
    fn next_message(&self, inner: &mut Inner) -> Result<Option<Slot>, Violation> {
        if inner.outbox.len() >= OUTBOX_MAX {
            return Ok(None);
        }
        let Some(live) = self.gate.enter() else {
            return Ok(None);
        };
        let words = self.page.words(&live);
        let message = inner.ring.receive(&words)?;
        Ok(message.map(|(slot, notify)| {
            if notify {
                self.notify(&live, 0);
            }
            slot
        }))
    }

    /// Asks for an event at the next message; `true`: there is one already.
    fn arm(&self, inner: &mut Inner) -> Result<bool, Violation> {
        let Some(live) = self.gate.enter() else {
            return Ok(false);
        };
        self.armed.store(1, Release);
        let there = inner.ring.arm_receive(&self.page.words(&live))?;
        Ok(there && inner.outbox.len() < OUTBOX_MAX)
    }

    /// Handles messages until there are none; `true`: there is more to do.
    fn pump(self: &Arc<Self>, inner: &mut Inner) -> Result<bool, Violation> {
        for _ in 0..BATCH {
            match self.next_message(inner)? {
                Some(slot) => self.handle(inner, &slot)?,
                None => {
                    self.flush(inner);
                    if !self.arm(inner)? {
                        return Ok(false);
                    }
                }
            }
        }
        self.flush(inner);
        Ok(true)
    }
}

impl WorkItem for Tunnel {
    type Pointer = Arc<Tunnel>;

    fn run(this: Arc<Tunnel>) {
        let mut inner = this.inner.lock();
        let more = match this.pump(&mut inner) {
            Ok(more) => more,
            Err(violation) => {
                this.break_down(&mut inner, violation);
                false
            }
        };
        drop(inner);
        if more && this.gate.is_open() {
            this.schedule();
        }
    }
}

impl Handler for Tunnel {
    fn on_event(this: ArcBorrow<'_, Self>) -> Eoi {
        let Some(live) = this.gate.enter() else {
            return Eoi::Done;
        };
        this.stats.events.add(1);
        let mut news = 0u32;
        this.role.hears().take(&this.page.words(&live), |id| {
            let wanted = if id == 0 {
                let armed = this.armed.xchg(0, Full) == 1;
                if armed {
                    let _ = crate::queue().enqueue(Arc::from(this));
                }
                armed
            } else {
                this.slots.with(id, |e| e.on_event()).unwrap_or(false)
            };
            news = news.wrapping_add(wanted.into());
        });
        if news > 0 {
            this.early.store(news.wrapping_sub(1).min(2), Relaxed);
            return Eoi::Done;
        }
        let early = this.early.load(Relaxed);
        if early > 0 {
            this.early.store(early.wrapping_sub(1), Relaxed);
            return Eoi::Done;
        }
        this.stats.spurious.add(1);
        Eoi::Spurious
    }
}

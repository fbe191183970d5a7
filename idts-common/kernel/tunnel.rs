// SPDX-License-Identifier: GPL-2.0

//! A tunnel: the link of a pair of domains.
//!
//! Owns set-up and teardown with its order. What the two sides agree on is in
//! [`terms`], events are heard in [`queues`], messages move in [`pump`]; what
//! they say is in [`crate::opening`]. The back's scheduler meets it in [`claims`].
//! Channels move their data without coming here.
//!
//! Locks, outer to inner: a tunnel's `inner`, an endpoint's `inner`, the hub's
//! `ports` and `tunnels`, the wish's. The event handlers take none.

mod claims;
mod closer;
mod pump;
mod queues;
mod terms;

use idts_core::allocator::SliceAllocator;
use idts_core::control::ControlRing;
use idts_core::error::Violation;
use idts_core::negotiation::Negotiated;
use idts_core::nodes;
use idts_core::role::Role;
use idts_core::sched::FlowId;
use idts_core::wire::{self, page, Slot, BROKEN_MAX, QUEUES};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed};
use kernel::sync::{new_mutex, Arc, Mutex, SetOnce};
use kernel::workqueue::{
    impl_has_delayed_work, impl_has_work, new_delayed_work, new_work, DelayedWork, Work,
};

pub(crate) use self::claims::ALL;
use self::closer::Closer;
use self::queues::Ear;
pub(crate) use self::queues::Lane;
pub use self::terms::{announce, was_refused};
use crate::accounts::Account;
use crate::asks::Asks;
use crate::hub::Hub;
use crate::link::table::Table;
use crate::link::watch::Watch;
use crate::mem::revocable::Revocable;
use crate::mem::shared::SharedSlice;
use crate::opening::Openings;
use crate::region::segments::{self, Pages, Segments};
use crate::stats::Stats;
use crate::sys::errno::Errno;
use crate::sys::test_override;
use crate::sys::wait::WaitQueue;
use crate::sys::work;
use crate::xen::evtchn::EventChannel;
use crate::xen::grant::{GrantedPages, MappedPages};
use crate::xen::peer::Peer;
use crate::xen::xenbus::Device;

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
    pub(crate) book: KBox<SliceAllocator>,
    pub(crate) segments: Segments,
    pub(crate) openings: Openings,
    broken: Option<Violation>,
    control: Option<Pages>,
    events: KVec<EventChannel<Ear>>,
}

/// The link to one other domain.
#[pin_data]
pub struct Tunnel {
    /// Which side we are.
    pub role: Role,
    /// The other domain.
    pub peer: u16,
    /// Keeps accesses to shared memory and teardown apart.
    pub(crate) gate: Revocable,
    /// Counters.
    pub(crate) stats: Stats,
    /// What is kept of the other domain across its tunnels.
    pub(crate) account: Arc<Account>,
    pub(crate) hub: Arc<Hub>,
    /// The device; none for the tunnel of a domain with itself.
    pub(crate) device: Option<Peer>,
    /// Which channel is whose, for the event handlers.
    pub(crate) table: Table,
    closer: Option<Arc<Closer>>,
    page: SharedSlice,
    /// Back: grant reference of the control page that is mapped.
    reference: u32,
    /// What both sides agreed on.
    pub(crate) terms: Negotiated,
    /// The control ring, as the event handler sees it.
    control_watch: Watch,
    lanes: [Lane; QUEUES as usize],
    /// Back: the scheduler's name for this tunnel.
    flow: SetOnce<FlowId>,
    /// Back: programs of this domain claim what they move.
    capped: Atomic<bool>,
    /// Turns that were handed to this domain's own programs, and who waits.
    turns: Atomic<u32>,
    /// Somebody who does not sleep waits for the next.
    turn_armed: Atomic<bool>,
    #[pin]
    turn: WaitQueue,
    /// The worker waits for an event of the control ring.
    armed: Atomic<u32>,
    /// Channels that the peer broke, and the last rule that it broke with one.
    broken_channels: Atomic<u32>,
    last_violation: Atomic<u32>,
    /// There are messages that nobody has taken.
    mail: Atomic<u32>,
    #[pin]
    work: Work<Tunnel>,
    /// Looks whether a helper took them.
    #[pin]
    late: DelayedWork<Tunnel, 1>,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Tunnel> for Tunnel { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Tunnel { self.late }
}

impl Tunnel {
    pub(crate) fn new(
        device: Option<&Device>,
        hub: &Arc<Hub>,
        terms: Negotiated,
        control: Pages,
        reference: u32,
    ) -> Result<Arc<Self>> {
        let role = hub.role;
        let page = control.slice();
        let book = work::zeroed::<SliceAllocator>()?;
        let peer = device.map_or(0, |d| d.peer());
        let account = hub.account(peer)?;
        let closer = device.map(|d| Closer::new(d.into())).transpose()?;
        let asks = Asks::new()?;
        Arc::pin_init(
            pin_init!(Self {
                role,
                peer,
                gate: Revocable::new(),
                stats: Stats::new(),
                account,
                hub: hub.clone(),
                device: device.map(Peer::from),
                table: Table::new(),
                closer,
                page,
                reference,
                terms,
                control_watch: Watch::new(role.control_lines(), page::SLOTS),
                lanes: [const { Lane::new() }; QUEUES as usize],
                flow: SetOnce::new(),
                capped: Atomic::new(false),
                turns: Atomic::new(0),
                turn_armed: Atomic::new(false),
                turn <- WaitQueue::new(),
                armed: Atomic::new(0),
                broken_channels: Atomic::new(0),
                last_violation: Atomic::new(0),
                mail: Atomic::new(0),
                work <- new_work!("idts_tunnel"),
                late <- new_delayed_work!("idts_late"),
                inner <- new_mutex!(Inner {
                    ring: ControlRing::new(hub.role),
                    outbox: KVVec::new(),
                    book,
                    segments: Segments::new(),
                    openings: Openings::new(terms.queues, asks),
                    broken: None,
                    control: Some(control),
                    events: KVec::new(),
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Front: allocates, grants and publishes a tunnel.
    pub fn offer(device: &Device, hub: &Arc<Hub>) -> Result<Arc<Self>> {
        let terms = terms::answer(device, hub)?;
        let control = GrantedPages::new(device.peer(), 1)?;
        let reference = control.refs().first().copied().ok_or(ENOMEM)?;
        let tunnel = Self::new(Some(device), hub, terms, Pages::Granted(control), reference)?;
        let offered = tunnel.offer_queues(device);
        tunnel.or_end(offered.and_then(|()| device.write(nodes::CONTROL_REF, reference)))
    }

    /// Back: reads, checks and maps what the front published.
    pub fn map(device: &Device, hub: &Arc<Hub>) -> Result<Arc<Self>> {
        let terms = terms::judge(device, hub)?;
        let reference = device.read_peer(nodes::CONTROL_REF, 1, u32::MAX)?;
        let control = MappedPages::new(&device.into(), &mut [reference])?;
        let tunnel = Self::new(Some(device), hub, terms, Pages::Mapped(control), reference)?;
        let bound = tunnel.bind_queues(device);
        tunnel.or_end(bound)
    }

    /// The tunnel, or, where its set-up failed, nothing that is left of it.
    fn or_end(self: Arc<Self>, set_up: Result) -> Result<Arc<Self>> {
        if let Err(error) = set_up {
            self.stop(Errno::NetDown);
            self.give_back();
            return Err(error);
        }
        Ok(self)
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

    /// Makes the tunnel reachable: both sides are connected.
    pub fn start(self: &Arc<Self>) -> Result {
        if self.role == Role::Front {
            // Not earlier: a back that starts anew before it is connected finds
            // an unused control page.
            self.grow(&mut self.inner.lock(), wire::FIRST_WINDOWS)?;
        }
        if self.role == Role::Back {
            let _obeying = self.hub.policies.one_at_a_time();
            let numbers = self.hub.policies.load(&self.hub, self.peer);
            let flow = self.hub.mover.join(self, numbers.params)?;
            self.set_flow(flow);
        }
        self.hub.add(self)?;
        // What changed before it was in the list is read now.
        self.obey();
        self.schedule();
        Ok(())
    }

    /// Ends the tunnel: marks it dead, tells everyone, and waits for accesses
    /// under way, none of which sleeps. May be called twice.
    pub fn stop(self: &Arc<Self>, errno: Errno) {
        if let Some(closer) = &self.closer {
            closer.end();
        }
        self.end(errno);
    }

    /// The same while xenstore does not answer, for the domain was restored. What
    /// waits for it comes to nothing: the nodes are gone.
    pub fn lose(self: &Arc<Self>, errno: Errno) {
        if let Some(closer) = &self.closer {
            closer.end_later();
        }
        self.end(errno);
    }

    fn end(self: &Arc<Self>, errno: Errno) {
        self.hub.remove(self);
        if let Some(flow) = self.flow() {
            self.hub.mover.leave(flow);
        }
        test_override::delay(c"stop");
        let events = {
            let mut inner = self.inner.lock();
            // First the errno, then the gate: whoever finds it shut has one.
            inner.openings.fail_all(errno);
            self.gate.revoke_nosync();
            core::mem::take(&mut inner.events)
        };
        // Whoever is still inside may send an event: ports are given up after.
        self.gate.revoke();
        // What handlers left to do has to be done before; none begins any more.
        for queue in events.iter() {
            queue.handler().finish();
        }
        // Waits for running handlers, which take no lock.
        drop(events);
        // Nobody queues them again, whoever still has the tunnel.
        work::disable_delayed::<_, 1>(self);
        work::disable::<_, 0>(self);
        // Its last message is judged: not earlier, for without an entry other
        // rights might hold than its own.
        if self.role == Role::Back {
            self.hub.policies.forget(self.peer);
        }
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

    /// Marks the tunnel broken: the peer broke a rule. Everyone on
    /// the tunnel gets `EPROTO`, nobody else notices.
    fn break_down(&self, inner: &mut Inner, violation: Violation) {
        if inner.broken.is_some() || self.gate.is_revoked() {
            return;
        }
        inner.broken = Some(violation);
        self.stats.violations.add(1);
        self.account.violated(violation);
        if self.account.may_say() {
            pr_warn!(
                "domain {}: tunnel broken by the peer: {}\n",
                self.peer,
                violation.name()
            );
        }
        inner.openings.fail_all(Errno::Proto);
        self.gate.revoke_nosync();
        self.switch_closing();
    }

    /// The peer broke a channel: counts it. Inside the gate, so that the worker is
    /// called before [`Self::stop`] waits for it.
    pub(crate) fn channel_broken(self: &Arc<Self>, violation: Violation) {
        self.stats.violations.add(1);
        self.account.violated(violation);
        self.last_violation.store(violation as u32, Relaxed);
        let before = self.broken_channels.fetch_add(1, Full);
        if before.wrapping_add(1) == BROKEN_MAX {
            self.schedule();
        }
    }

    /// The rule that the peer broke last, with one channel too many.
    pub(crate) fn too_many_broken(&self) -> Option<Violation> {
        if self.broken_channels.load(Acquire) < BROKEN_MAX {
            return None;
        }
        let index = self.last_violation.load(Relaxed) as usize;
        Violation::ALL.get(index).copied()
    }

    /// Asks the peer to close the device. With any lock held.
    pub(crate) fn switch_closing(&self) {
        if let Some(closer) = &self.closer {
            closer.ask();
        }
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
}

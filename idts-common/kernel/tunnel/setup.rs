// SPDX-License-Identifier: GPL-2.0

//! Set-up and teardown of a tunnel, in their order.

use idts_core::error::Violation;
use idts_core::nodes;
use idts_core::role::Role as Side;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::host::Host;
use super::negotiate;
use super::role::Role;
use super::services::Services;
use super::tunnel::{Inner, Parts, Tunnel};
use crate::link::irq::{QueueIrq, NAMES};
use crate::link::CONTROL;
use crate::region::segments::{self, Pages};
use crate::sys::errno::Errno;
use crate::sys::test_override;
use crate::sys::work;
use crate::xen::evtchn::EventChannel;
use crate::xen::grant::{GrantedPages, MappedPages};
use crate::xen::peer::Peer;
use crate::xen::xenbus::Device;

impl Tunnel {
    /// As the granter: allocates, grants and publishes a tunnel.
    ///
    /// # Errors
    /// The peer's offer does not fit, or there is no memory; nothing is left then.
    pub fn offer(
        device: &Device,
        services: &Arc<Services>,
        host: Arc<dyn Host>,
    ) -> Result<Arc<Self>> {
        let terms = negotiate::answer(device, services)?;
        let control = GrantedPages::new(device.peer(), 1)?;
        let reference = control.refs().first().copied().ok_or(ENOMEM)?;
        let parts = Parts {
            side: Side::Front,
            role: Role::granter(),
            terms,
            control: Pages::Granted(control),
            reference,
        };
        let tunnel = Self::new(Some(device), device.peer(), services, host, parts)?;
        let offered = tunnel.offer_queues(device);
        tunnel.or_end(offered.and_then(|()| device.write(nodes::CONTROL_REF, reference)))
    }

    /// As the mapper: reads, checks and maps what the granter published.
    ///
    /// # Errors
    /// It does not fit, or there is no memory; nothing is left then.
    pub fn map(
        device: &Device,
        services: &Arc<Services>,
        host: Arc<dyn Host>,
    ) -> Result<Arc<Self>> {
        let terms = negotiate::judge(device, services)?;
        let reference = device.read_peer(nodes::CONTROL_REF, 1, u32::MAX)?;
        let control = MappedPages::new(&device.into(), &mut [reference])?;
        let parts = Parts {
            side: Side::Back,
            role: Role::mapper(),
            terms,
            control: Pages::Mapped(control),
            reference,
        };
        let tunnel = Self::new(Some(device), device.peer(), services, host, parts)?;
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

    /// As the granter: makes an event channel for each queue, and writes their ports.
    fn offer_queues(&self, device: &Device) -> Result {
        for (((number, _), name), node) in self.link.queues().zip(NAMES).zip(nodes::EVENT_CHANNELS)
        {
            let handler = QueueIrq::new(&self.link, number)?;
            let offered = EventChannel::alloc_unbound(self.peer, name, handler);
            // The toolstack reads there why the device does not come up.
            let (events, port) = offered.inspect_err(|error| {
                device.report_error(*error, c"allocating an event channel", false);
            })?;
            self.keep_queue(number, events)?;
            device.write(node, port)?;
        }
        Ok(())
    }

    /// As the mapper: binds the event channel of each queue.
    fn bind_queues(&self, device: &Device) -> Result {
        let peer = Peer::from(device);
        for (((number, _), name), node) in self.link.queues().zip(NAMES).zip(nodes::EVENT_CHANNELS)
        {
            let port = device.read_peer(node, 1, u32::MAX)?;
            let handler = QueueIrq::new(&self.link, number)?;
            let events = EventChannel::bind_interdomain(&peer, port, name, handler)?;
            self.keep_queue(number, events)?;
        }
        Ok(())
    }

    fn keep_queue(&self, number: u32, events: EventChannel<QueueIrq>) -> Result {
        let irq = events.irq();
        self.inner.lock().events.push(events, GFP_KERNEL)?;
        if let Some(queue) = self.link.queue(number) {
            queue.bind(irq);
        }
        Ok(())
    }

    /// As the mapper: whether the granter offers another control page than the one that is
    /// mapped, for it started anew without our noticing.
    pub fn is_stale(&self, device: &Device) -> bool {
        device.read_peer(nodes::CONTROL_REF, 1, u32::MAX) != Ok(self.reference)
    }

    /// Both sides are connected: channels may be opened, once somebody finds the tunnel.
    ///
    /// # Errors
    /// There is no memory; [`Self::stop`] is owed.
    pub(crate) fn start(self: &Arc<Self>) -> Result {
        self.grow_first()
    }

    /// Ends the tunnel: marks it dead, tells everyone, and waits for accesses
    /// under way, none of which sleeps. May be called twice. May sleep.
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
        test_override::delay(c"stop");
        let (events, reader) = {
            let mut inner = self.inner.lock();
            // First the errno, then the gate: whoever finds it shut has one.
            inner.channels.fail_all(errno);
            self.link.gate.revoke_nosync();
            (core::mem::take(&mut inner.events), inner.reader.take())
        };
        // Whoever is still inside may send an event: ports are given up after.
        self.link.gate.revoke();
        // What handlers left to do has to be done before; none begins any more.
        for queue in events.iter() {
            queue.handler().finish();
        }
        // Waits for running handlers, which take no lock.
        drop(events);
        if let Some(reader) = reader {
            let own = self.link.table.clear(CONTROL, &reader);
            self.services.grace.drop_later(own);
        }
        // Nobody queues them again, whoever still has the tunnel.
        work::disable_delayed::<_, 2>(self);
        work::disable_delayed::<_, 1>(self);
        work::disable::<_, 0>(self);
    }

    /// Gives all memory back, newest first, after [`Self::stop`].
    pub fn give_back(&self) {
        let mut inner = self.inner.lock();
        let reclaim = &self.services.reclaim;
        inner.role.drop_incoming();
        while let Some(windows) = inner.segments.take_newest() {
            segments::give_back(windows, reclaim);
        }
        if let Some(control) = inner.control.take() {
            control.give_back(reclaim);
        }
    }

    /// Marks the tunnel broken: the peer broke a rule. Everyone on
    /// the tunnel gets `EPROTO`, nobody else notices.
    pub(super) fn break_down(&self, inner: &mut Inner, violation: Violation) {
        if inner.broken.is_some() || !self.link.is_open() {
            return;
        }
        inner.broken = Some(violation);
        self.link.violated(violation);
        if self.link.may_log() {
            pr_warn!(
                "domain {}: tunnel broken by the peer: {}\n",
                self.peer,
                violation.name()
            );
        }
        inner.channels.fail_all(Errno::Proto);
        self.link.gate.revoke_nosync();
        self.switch_closing();
    }

    /// Asks the peer to close the device. With any lock held.
    pub(super) fn switch_closing(&self) {
        if let Some(closer) = &self.closer {
            closer.ask();
        }
    }
}

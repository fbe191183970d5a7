// SPDX-License-Identifier: GPL-2.0

//! Set-up and teardown of a tunnel.

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
    /// Granter: allocates, grants and publishes a tunnel.
    ///
    /// # Errors
    /// The peer's offer does not fit, or there is no memory. Nothing is left behind.
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

    /// Mapper: reads, checks and maps the memory that the granter published.
    ///
    /// # Errors
    /// It does not fit, or there is no memory. Nothing is left behind.
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

    /// Returns the tunnel, or undoes a set-up that failed.
    fn or_end(self: Arc<Self>, set_up: Result) -> Result<Arc<Self>> {
        if let Err(error) = set_up {
            self.stop(Errno::NetDown);
            self.give_back();
            return Err(error);
        }
        Ok(self)
    }

    /// Granter: allocates an event channel for each queue, and writes their ports.
    fn offer_queues(&self, device: &Device) -> Result {
        for (((number, _), name), node) in self.link.queues().zip(NAMES).zip(nodes::EVENT_CHANNELS)
        {
            let handler = QueueIrq::new(&self.link, number)?;
            let offered = EventChannel::alloc_unbound(self.peer, name, handler);
            // The toolstack reads the reason there.
            let (events, port) = offered.inspect_err(|error| {
                device.report_error(*error, c"allocating an event channel", false);
            })?;
            self.keep_queue(number, events)?;
            device.write(node, port)?;
        }
        Ok(())
    }

    /// Mapper: binds the event channel of each queue.
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

    /// Keeps a queue's event channel, and sends events by it from now on.
    fn keep_queue(&self, number: u32, events: EventChannel<QueueIrq>) -> Result {
        let irq = events.irq();
        self.inner.lock().events.push(events, GFP_KERNEL)?;
        if let Some(queue) = self.link.queue(number) {
            queue.bind(irq);
        }
        Ok(())
    }

    /// Mapper: returns whether the granter offers another control page than the mapped one,
    /// because it restarted unnoticed.
    pub fn is_stale(&self, device: &Device) -> bool {
        device.read_peer(nodes::CONTROL_REF, 1, u32::MAX) != Ok(self.reference)
    }

    /// Starts the tunnel once both sides are connected.
    ///
    /// # Errors
    /// `ENOMEM` or `ENOSPC`; the caller must call [`Self::stop`].
    pub(crate) fn start(self: &Arc<Self>) -> Result {
        self.grow_first()
    }

    /// Ends the tunnel with `errno` for all its waiters, and waits until no access to its memory
    /// is under way. May be called twice. May sleep.
    pub fn stop(self: &Arc<Self>, errno: Errno) {
        if let Some(closer) = &self.closer {
            closer.end();
        }
        self.end(errno);
    }

    /// As [`Self::stop`], after the domain was restored: does not wait for pending xenstore
    /// writes, whose nodes are gone.
    pub fn lose(self: &Arc<Self>, errno: Errno) {
        if let Some(closer) = &self.closer {
            closer.end_later();
        }
        self.end(errno);
    }

    /// Ends the tunnel but for its closer.
    fn end(self: &Arc<Self>, errno: Errno) {
        test_override::delay(c"stop");
        let (events, reader) = {
            let mut inner = self.inner.lock();
            // The errno first: a waiter that finds the gate revoked then has one.
            inner.channels.fail_all(errno);
            self.link.gate.revoke_nosync();
            (core::mem::take(&mut inner.events), inner.reader.take())
        };
        // An access under way may still send an event, so the event channels are closed
        // afterwards.
        self.link.gate.revoke();
        // No handler starts any more; the work that they left is finished before teardown.
        for queue in events.iter() {
            queue.handler().finish();
        }
        // Waits for running handlers. They take no lock, so this cannot deadlock.
        drop(events);
        if let Some(reader) = reader {
            let own = {
                let _inner = self.inner.lock();
                self.link.table.clear(CONTROL, &reader)
            };
            self.services.grace.drop_later(own);
        }
        // The work items cannot be queued again, even if another thread still holds the tunnel.
        work::disable_delayed::<_, 2>(self);
        work::disable_delayed::<_, 1>(self);
        work::disable::<_, 0>(self);
    }

    /// Returns all memory after [`Self::stop`], newest first.
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

    /// Breaks the tunnel after a violation by the peer: all its channels fail with `EPROTO`.
    /// Other tunnels are not affected.
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

    /// Switches the device to Closing from a work item. Callable with any lock held.
    pub(super) fn switch_closing(&self) {
        if let Some(closer) = &self.closer {
            closer.ask();
        }
    }
}

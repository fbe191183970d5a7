// SPDX-License-Identifier: GPL-2.0

//! The tunnel as a whole: its parts, and the state under its lock.

use idts_core::allocator::SliceAllocator;
use idts_core::control::ControlRing;
use idts_core::error::Violation;
use idts_core::negotiation::Negotiated;
use idts_core::role::Role as Side;
use idts_core::wire::{page, ChannelId, Refusal, Slot};
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};
use kernel::workqueue::{
    impl_has_delayed_work, impl_has_work, new_delayed_work, new_work, DelayedWork, Work,
};

use super::channels::Channels;
use super::host::{Attempt, Carrier, Host, OpenRequest};
use super::role::Role;
use super::services::Services;
use super::shares::Shares;
use crate::channel::{Channel, Owner};
use crate::link::irq::QueueIrq;
use crate::link::waiter::{Waiter, Wake, WakeReason};
use crate::link::watch::Watch;
use crate::link::{Link, Reach, CONTROL};
use crate::mem::revocable::Revocable;
use crate::region::segments::{Pages, Segments};
use crate::sys::errno::Errno;
use crate::sys::work;
use crate::xen::closer::Closer;
use crate::xen::evtchn::EventChannel;
use crate::xen::peer::Peer;
use crate::xen::xenbus::Device;

/// State under a tunnel's lock.
pub(crate) struct Inner {
    pub(super) ring: ControlRing,
    /// Messages that wait for a free slot of the ring.
    pub(super) outbox: KVVec<Slot>,
    /// The waiter of the control ring. None: a loopback tunnel, or one that has ended.
    pub(super) reader: Option<Arc<Waiter>>,
    /// The slices of the region that are in use.
    pub(super) book: KBox<SliceAllocator>,
    pub(super) segments: Segments,
    pub(super) channels: Channels,
    pub(super) shares: Arc<Shares>,
    pub(super) role: Role,
    /// The violation that broke the tunnel.
    pub(super) broken: Option<Violation>,
    pub(super) control: Option<Pages>,
    pub(super) events: KVec<EventChannel<QueueIrq>>,
}

/// The tunnel to one other domain, or from a domain to itself.
#[pin_data]
pub struct Tunnel {
    /// The link that the channels are on.
    pub link: Arc<Link>,
    /// The peer's domain id.
    pub peer: u16,
    pub(super) services: Arc<Services>,
    pub(super) host: Arc<dyn Host>,
    /// The xenbus device. None: a loopback tunnel.
    pub(super) device: Option<Peer>,
    pub(super) closer: Option<Arc<Closer>>,
    /// Grant reference of the control page.
    pub(super) reference: u32,
    /// The negotiated version, features and queues.
    pub(super) terms: Negotiated,
    /// Set by the event handler; cleared by the thread that takes the messages over.
    pub(super) mail: Atomic<u32>,
    #[pin]
    work: Work<Tunnel>,
    /// Checks a tick later that a task has processed the messages inline.
    #[pin]
    late: DelayedWork<Tunnel, 1>,
    /// Retires idle segments.
    #[pin]
    trim: DelayedWork<Tunnel, 2>,
    #[pin]
    pub(super) inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Tunnel> for Tunnel { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Tunnel { self.late }
    impl HasDelayedWork<Self, 2> for Tunnel { self.trim }
}

/// The parts in which the roles' tunnels differ.
pub(super) struct Parts {
    pub(super) side: Side,
    pub(super) role: Role,
    pub(super) terms: Negotiated,
    pub(super) control: Pages,
    pub(super) reference: u32,
}

impl Tunnel {
    /// Creates a tunnel whose set-up has just begun.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(
        device: Option<&Device>,
        peer: u16,
        services: &Arc<Services>,
        host: Arc<dyn Host>,
        parts: Parts,
    ) -> Result<Arc<Self>> {
        let Parts {
            side,
            role,
            terms,
            control,
            reference,
        } = parts;
        let reach = match device {
            Some(_) => Reach::Domain,
            None => Reach::Loopback,
        };
        let account = services.accounts.of(peer)?;
        let page = control.slice();
        let gate = Arc::new(Revocable::new(), GFP_KERNEL)?;
        let link = Link::new(
            (side, reach),
            peer,
            account,
            page,
            gate.clone(),
            terms.queues,
        )?;
        let reader = match device {
            Some(_) => Some(Waiter::new(
                page,
                Watch::new(side.control_lines(), page::SLOTS),
            )?),
            None => None,
        };
        let services = services.clone();
        let closer = device.map(|d| Closer::new(d.into())).transpose()?;
        let (book, shares) = (work::zeroed::<SliceAllocator>()?, Shares::new()?);
        let tunnel = Arc::pin_init(
            pin_init!(Self {
                link,
                peer,
                services,
                host,
                device: device.map(Peer::from),
                closer,
                reference,
                terms,
                mail: Atomic::new(0),
                work <- new_work!("idts_tunnel"),
                late <- new_delayed_work!("idts_late"),
                trim <- new_delayed_work!("idts_trim"),
                inner <- new_mutex!(Inner {
                    ring: ControlRing::new(side),
                    outbox: KVVec::new(),
                    reader: None,
                    book,
                    segments: Segments::new(gate),
                    channels: Channels::new(terms.queues),
                    shares,
                    role,
                    broken: None,
                    control: Some(control),
                    events: KVec::new(),
                }),
            }),
            GFP_KERNEL,
        )?;
        if let Some(reader) = reader {
            tunnel.hear_control(reader)?;
        }
        Ok(tunnel)
    }

    /// Wakes this tunnel for events of the control ring. The waiter and the tunnel own each
    /// other until the tunnel ends.
    fn hear_control(self: &Arc<Self>, reader: Arc<Waiter>) -> Result {
        reader.belongs_to(self.clone());
        self.link.table.prepare(CONTROL)?;
        self.services
            .grace
            .drop_later(self.link.table.set(CONTROL, &reader));
        self.inner.lock().reader = Some(reader);
        Ok(())
    }
}

impl Owner for Tunnel {
    fn close(self: ArcBorrow<'_, Self>, channel: &Channel) {
        Arc::from(self).close_channel(channel);
    }
}

impl Wake for Tunnel {
    /// Handles an event of the control ring.
    fn wake(self: ArcBorrow<'_, Self>, _: WakeReason) {
        Arc::from(self).tell_of_mail();
    }
}

impl Carrier for Tunnel {
    fn connect(
        self: ArcBorrow<'_, Self>,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno> {
        Arc::from(self).connect_attempt(attempt, request)
    }

    fn abandon(&self, attempt: &Attempt) {
        self.abandon_attempt(attempt);
    }

    fn answer(self: ArcBorrow<'_, Self>, id: ChannelId, refusal: Option<Refusal>) {
        Arc::from(self).answer_granter(id, refusal);
    }
}

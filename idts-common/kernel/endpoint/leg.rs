// SPDX-License-Identifier: GPL-2.0

//! Legs: endpoints of relays and groups, which have no file.

use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};

use super::{Endpoint, State};
use crate::channel::Channel;
use crate::groups::{Group, Groups, Member};
use crate::hub::Hub;
use crate::link::waiter::Wake;
use crate::mover::Mover;
use crate::opening::Wanted;
use crate::relay::Relay;
use crate::sys::errno::Errno;
use crate::tunnel::Tunnel;

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
    /// A group that the endpoint is to join.
    Joining(Arc<Endpoint>, Arc<Member>),
    Group(Arc<Group>),
}

/// What of a leg the mover knows: its place in the inbox, and what it belongs to.
#[pin_data]
pub(crate) struct Leg {
    mover: Arc<Mover>,
    /// 1 while it is in the inbox.
    pub(crate) queued: Atomic<u32>,
    pub(crate) next: Atomic<*mut Leg>,
    #[pin]
    owner: Mutex<Option<Owner>>,
}

impl Wake for Leg {
    fn wake(self: ArcBorrow<'_, Self>) {
        self.mover.news(self);
    }
}

impl Leg {
    fn new(mover: Arc<Mover>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mover,
                queued: Atomic::new(0),
                next: Atomic::new(core::ptr::null_mut()),
                owner <- new_mutex!(None),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Gives it an owner, or another one.
    pub(crate) fn belongs_to(&self, owner: Owner) {
        let old = self.owner.lock().replace(owner);
        drop(old);
    }

    /// What it belongs to.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner.lock().clone()
    }
}

impl Endpoint {
    /// A new leg.
    pub(crate) fn leg(hub: Arc<Hub>) -> Result<Arc<Self>> {
        let leg = Leg::new(hub.mover.clone())?;
        Self::make(hub, Some(leg), None)
    }

    /// A leg at the end of a channel that the peer opened.
    pub(crate) fn accepted_leg(hub: Arc<Hub>, channel: Arc<Channel>) -> Result<Arc<Self>> {
        let leg = Self::leg(hub)?;
        leg.accept_end(channel);
        Ok(leg)
    }

    /// Gives a leg its owner.
    pub(crate) fn belongs_to(&self, owner: Owner) {
        if let Some(leg) = &self.leg {
            leg.belongs_to(owner);
        }
    }

    /// Connects a leg to the other domain.
    pub(crate) fn connect_leg(self: &Arc<Self>, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        self.begin_leg(tunnel, wanted);
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
            .is_some_and(|c| c.error() != 0 || c.tunnel.gate.is_revoked())
    }

    /// Whether there may be something to read from a leg that is not armed.
    pub(crate) fn leg_has_news(&self) -> bool {
        self.channel.as_ref().is_none_or(|c| !c.is_quiet())
    }

    /// Arms a leg that is not. `true`: there may be something to read.
    pub(crate) fn arm_dry_leg(&self) -> bool {
        self.channel.as_ref().is_none_or(|c| {
            c.waiter.read.arm();
            c.arm_read()
        })
    }

    /// Closes a leg.
    pub(crate) fn end_leg(&self) {
        crate::sys::test_override::delay(c"leg-end");
        // It and its owner own each other until here.
        let owner = self.leg.as_ref().and_then(|leg| leg.owner.lock().take());
        if let Some(channel) = self.channel.as_ref() {
            channel.tunnel.close(channel);
        }
        drop(owner);
    }
}

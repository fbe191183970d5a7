// SPDX-License-Identifier: GPL-2.0

//! Legs: endpoints of relays and groups, which have no file.

use kernel::sync::atomic::Release;
use kernel::sync::Arc;

use super::{Endpoint, State};
use crate::errno::Errno;
use crate::groups::{Group, Groups, Member};
use crate::opening::Wanted;
use crate::relay::Relay;
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
    /// A group that it is to join.
    Joining(Arc<Member>),
    Group(Arc<Group>),
}

impl Endpoint {
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
            tunnel: Some(tunnel.clone()),
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

    /// Whether there may be something to read from a leg that is not armed.
    pub(crate) fn leg_has_news(&self) -> bool {
        self.channel.as_ref().is_none_or(|c| !c.is_quiet())
    }

    /// Arms a leg that is not. `true`: there may be something to read.
    pub(crate) fn arm_dry_leg(&self) -> bool {
        self.read.arm();
        self.channel.as_ref().is_none_or(|c| c.arm_read())
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
}

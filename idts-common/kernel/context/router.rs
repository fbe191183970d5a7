// SPDX-License-Identifier: GPL-2.0

//! The router of a module: the way to other domains, and their rights here.
//!
//! A guest's module reaches every domain through its one backend, which it may have to ask
//! for; dom0's has a tunnel to each, with policy, relays, groups and a scheduler. Called by
//! endpoints and by the context, which lends it to tunnels as their `Host`.

use idts_core::policy::DomainSettings;
use idts_core::wire::{Name, Open, Refusal};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::channel::Channel;
use crate::sys::errno::Errno;
use crate::tunnel::host::{Attempt, Carrier, Host, LocalMember, OpenRequest};
use crate::tunnel::Tunnel;

/// The domain, or the group, that a program wants to reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A domain.
    Domain(u16),
    /// A domain, by its alias.
    Alias(Name),
    /// A group.
    Group(Name),
}

/// A destination, as the tunnel's peer is told of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The domain, as the program is told of it.
    pub domid: u16,
    /// The field `domain` of the request.
    pub domain: u32,
    /// The group, or the alias where the peer alone knows the domain behind it.
    pub name: Option<Name>,
}

/// See the module's documentation. Guests have no brokers, so some functions have the
/// answer of a module that has none.
pub trait Router: Send + Sync {
    /// The role of the module, as the UAPI numbers it.
    fn role(&self) -> u32;

    /// This domain's id, as far as it is known; else the UAPI's number for any.
    fn own_domid(&self) -> u16;

    /// The module's context is there, which is the host of its tunnels.
    ///
    /// # Errors
    /// The module cannot be loaded.
    fn start(&self, host: Arc<dyn Host>) -> Result;

    /// Finishes all work, at module exit. May sleep.
    fn finish(&self);

    /// The domain was restored: its nodes in xenstore are new, and its tunnels gone.
    fn restored(&self) {}

    /// The address of a destination.
    ///
    /// # Errors
    /// It is unknown.
    fn address(&self, destination: Destination) -> Result<Address>;

    /// The tunnel to an address; none if there will be one for [`Self::wait`]. May sleep.
    ///
    /// # Errors
    /// There is none, and will be none.
    fn route(&self, address: &Address) -> Result<Option<Arc<dyn Carrier>>>;

    /// Has an attempt wait for a tunnel.
    ///
    /// # Errors
    /// It does not wait.
    fn wait(&self, _attempt: &Attempt, _request: OpenRequest) -> Result {
        Err(Errno::NetDown.into())
    }

    /// An attempt waits no more.
    fn abandon(&self, _attempt: &Attempt) {}

    /// Ports were bound or freed; `any`: some are bound.
    fn ports_changed(&self, _any: bool) {}

    /// A tunnel is connected: makes it reachable, by the registry.
    ///
    /// # Errors
    /// `ENOSPC`: there is no place for one more.
    fn up(&self, tunnel: &Arc<Tunnel>) -> Result;

    /// A tunnel ends; it is in the registry no more.
    fn down(&self, _tunnel: &Arc<Tunnel>) {}

    /// The last message of a peer's tunnel is handled.
    fn gone(&self, _peer: u16) {}

    /// The limits of a peer.
    fn limits(&self, _peer: u16) -> DomainSettings {
        DomainSettings::DEFAULT
    }

    /// The domain behind an alias.
    fn alias(&self, _alias: &Name) -> Option<u16> {
        None
    }

    /// Whether policy lets a peer open a channel.
    fn may_open(&self, _peer: u16, _open: &Open, _group: Option<&Name>) -> bool {
        false
    }

    /// Whether policy takes a channel from a peer.
    fn lost_right(&self, _peer: u16, _open: &Open, _group: Option<&Name>) -> bool {
        false
    }

    /// Takes the near end of a channel to another domain or a group.
    ///
    /// # Errors
    /// It is not taken.
    fn broker(
        &self,
        _tunnel: Arc<dyn Carrier>,
        _channel: &Arc<Channel>,
        _open: &Open,
        _group: Option<Name>,
    ) -> Result<(), Refusal> {
        Err(Refusal::Forbidden)
    }

    /// Takes the far end of a local channel into a group.
    ///
    /// # Errors
    /// It is not taken.
    fn join(&self, _far: &Arc<Channel>, _member: LocalMember) -> Result<(), Refusal> {
        Err(Refusal::Forbidden)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The router of a module: routes to other domains. It is the broker of the module's tunnels,
//! too.
//!
//! A guest's module reaches all domains through its one backend, from which it may have to
//! request a tunnel. dom0's has a tunnel to each guest, with policy, relays, groups and a
//! scheduler. Called by endpoints and by the context; tunnels call it as their [`Broker`].

use idts_core::wire::Name;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::sys::errno::Errno;
use crate::tunnel::host::{Attempt, Broker, Carrier, Host, OpenRequest};
use crate::tunnel::Tunnel;

/// The destination of a connect: a domain or a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A domain, by its id.
    Domain(u16),
    /// A domain, by its alias.
    Alias(Name),
    /// A group, by its name.
    Group(Name),
}

/// A destination, as it is sent to the tunnel's peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The domain id that the program sees.
    pub domid: u16,
    /// The field `domain` of the request.
    pub domain: u32,
    /// The name of the group, or of the domain if only the peer can resolve its alias.
    pub name: Option<Name>,
}

/// The routes of a module; see the module documentation.
///
/// The default implementations are those of a module without a broker.
pub trait Router: Broker {
    /// The role of the module (`ROLE_*` of the UAPI).
    fn role(&self) -> u32;

    /// This domain's id, or `DOMID_ANY` if it is not known.
    fn own_domid(&self) -> u16;

    /// Starts the router. `host` is the module's context, the host of its tunnels.
    ///
    /// # Errors
    /// The module cannot be loaded.
    fn start(&self, host: Arc<dyn Host>) -> Result;

    /// Finishes all work at module exit. May sleep.
    fn finish(&self);

    /// The domain was restored: its nodes in xenstore are new, and its tunnels are gone.
    fn restored(&self) {}

    /// Resolves a destination.
    ///
    /// # Errors
    /// The destination is unknown.
    fn address(&self, destination: Destination) -> Result<Address>;

    /// Returns the tunnel to an address, or `None` if [`Self::wait`] can wait for one. May
    /// sleep.
    ///
    /// # Errors
    /// There is no tunnel, and none will come.
    fn route(&self, address: &Address) -> Result<Option<Arc<dyn Carrier>>>;

    /// Queues an attempt until there is a tunnel.
    ///
    /// # Errors
    /// The attempt is not queued.
    fn wait(&self, _attempt: &Attempt, _request: OpenRequest) -> Result {
        Err(Errno::NetDown.into())
    }

    /// Removes an attempt from the queue.
    fn abandon(&self, _attempt: &Attempt) {}

    /// Ports were bound or freed; `any` tells if some are bound.
    fn ports_changed(&self, _any: &dyn Fn() -> bool) {}

    /// Adds a connected tunnel to the registry.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many tunnels. `ENOMEM`.
    fn up(&self, tunnel: &Arc<Tunnel>) -> Result;

    /// Notes that a tunnel ends. The registry does not have it any more.
    fn down(&self, _tunnel: &Arc<Tunnel>) {}

    /// Notes that the last message of a peer's tunnel is handled.
    fn gone(&self, _peer: u16) {}

    /// Handles a change at `path` below [`idts_core::policy::DIR`].
    fn policy_changed(&self, _path: &[u8]) {}
}

// SPDX-License-Identifier: GPL-2.0

//! The traits between a tunnel and the parties around it: its module, the openers that request
//! channels, and the acceptors of channels that the peer opens.
//!
//! | trait | called by | implemented by |
//! |---|---|---|
//! | [`Carrier`] | openers, a broker that owes an answer | a tunnel |
//! | [`Opener`] | tunnels, timeouts, a router | an endpoint, a relay end |
//! | [`Acceptor`] | tunnels | an endpoint that listens |
//! | [`Host`] | tunnels | the module's context |
//! | [`Broker`] | tunnels | the module's router |

use idts_core::policy::DomainSettings;
use idts_core::wire::{ChannelId, Kind, Name, Open, Ports, Refusal};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use super::payer::Payer;
use crate::channel::Channel;
use crate::sys::errno::Errno;

/// A request for a channel.
#[derive(Clone, Copy)]
pub struct OpenRequest {
    /// Ports, from the requester's point of view.
    pub ports: Ports,
    /// Size of the ring that the requester writes.
    pub tx: u32,
    /// Size of the ring that the requester reads.
    pub rx: u32,
    /// In a granter the target domain, in a mapper the domain that requests.
    pub domain: u32,
    /// The kind of the channel.
    pub kind: Kind,
    /// The group, or the alias of the target domain, if there is one.
    pub name: Option<Name>,
}

impl OpenRequest {
    /// The size of the larger ring.
    pub(crate) fn largest(&self) -> u32 {
        self.tx.max(self.rx)
    }

    /// Bytes of both rings.
    pub(crate) fn bytes(&self) -> u32 {
        self.tx.saturating_add(self.rx)
    }
}

/// A connection to a peer on which openers open channels.
pub trait Carrier: Send + Sync {
    /// Begins to open a channel for an attempt. The answer to the attempt may come before this
    /// returns.
    ///
    /// # Errors
    /// The tunnel is gone, or a limit is reached. The attempt gets no other answer.
    fn connect(
        self: ArcBorrow<'_, Self>,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno>;

    /// Abandons an attempt: a channel that is accepted later is closed at once.
    fn abandon(&self, attempt: &Attempt);

    /// Sends the peer the answer that [`Broker::take`] owes it. Does nothing once the tunnel was
    /// stopped.
    fn answer(self: ArcBorrow<'_, Self>, id: ChannelId, refusal: Option<Refusal>);
}

/// An opener of channels, one after the other. Each attempt has its own number, so that a late
/// answer is never taken for that of the next one.
///
/// All functions but [`Self::give_up`] may be called under the tunnel's lock.
pub trait Opener: Send + Sync {
    /// The peer accepted. Returns false if the attempt is over, and then the caller closes the
    /// channel.
    fn opened(self: ArcBorrow<'_, Self>, attempt: u32, channel: &Arc<Channel>) -> bool;

    /// The attempt failed.
    fn refused(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno);

    /// Returns whether the attempt still waits for its answer.
    fn awaits(&self, attempt: u32) -> bool;

    /// An attempt that waited for a tunnel has one now. Returns false if the attempt is over.
    fn has_tunnel(&self, attempt: u32, tunnel: &Arc<dyn Carrier>) -> bool;

    /// Ends the attempt with an errno, and abandons its request.
    fn give_up(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno);

    /// The account that pays. None: no program of this domain made the request.
    fn payer(&self) -> Option<&Arc<Payer>>;
}

/// An attempt of an opener, held by the parties that may answer it.
#[derive(Clone)]
pub struct Attempt {
    opener: Arc<dyn Opener>,
    number: u32,
}

impl Attempt {
    /// Creates the handle of attempt `number` of `opener`.
    pub fn new(opener: Arc<dyn Opener>, number: u32) -> Self {
        Self { opener, number }
    }

    /// See [`Opener::opened`].
    #[must_use]
    pub fn opened(&self, channel: &Arc<Channel>) -> bool {
        let opener = self.opener.as_arc_borrow();
        opener.opened(self.number, channel)
    }

    /// See [`Opener::refused`].
    pub fn refused(&self, errno: Errno) {
        self.opener.as_arc_borrow().refused(self.number, errno);
    }

    /// See [`Opener::awaits`].
    pub fn is_awaited(&self) -> bool {
        self.opener.awaits(self.number)
    }

    /// See [`Opener::give_up`].
    pub(crate) fn give_up(&self, errno: Errno) {
        self.opener.as_arc_borrow().give_up(self.number, errno);
    }

    /// See [`Opener::payer`].
    pub fn payer(&self) -> Option<&Arc<Payer>> {
        self.opener.payer()
    }

    /// Requests a channel from a tunnel. The answer may come before this returns.
    pub fn ask(&self, tunnel: &Arc<dyn Carrier>, request: OpenRequest) {
        if let Err(errno) = tunnel.as_arc_borrow().connect(self, request) {
            self.refused(errno);
        }
    }

    /// Continues an attempt that waited for a tunnel.
    pub fn go_on(&self, tunnel: &Arc<dyn Carrier>, request: OpenRequest) {
        if self.opener.has_tunnel(self.number, tunnel) {
            self.ask(tunnel, request);
        }
    }

    /// Returns whether both are the same attempt.
    pub fn is(&self, other: &Attempt) -> bool {
        self.is_of(&*other.opener) && self.number == other.number
    }

    /// Returns whether it is an attempt of `opener`.
    pub(crate) fn is_of(&self, opener: &dyn Opener) -> bool {
        core::ptr::addr_eq(&raw const *self.opener, &raw const *opener)
    }
}

/// Accepts channels that a peer opens to a port.
pub trait Acceptor: Send + Sync {
    /// The account that pays for the channel's rings.
    fn payer(&self) -> Option<&Arc<Payer>>;

    /// The largest ring that it accepts.
    fn max_ring(&self) -> u32;

    /// Takes a channel. May be called under the tunnel's lock.
    ///
    /// # Errors
    /// It does not listen, its backlog is full, or there is no memory: the caller keeps the
    /// channel.
    fn offer(&self, channel: &Arc<Channel>) -> Result<(), Refusal>;
}

/// A program of this domain that joins a group.
pub struct LocalMember {
    /// The group.
    pub name: Name,
    /// [`Kind::Publish`] or [`Kind::Subscribe`].
    pub kind: Kind,
    /// Options of the group, encoded as in the source port of an OPEN.
    pub options: u32,
    /// The program's attempt, which gets the answer.
    pub attempt: Attempt,
    /// The program's end of the channel.
    pub channel: Arc<Channel>,
}

/// The module that a tunnel belongs to.
pub trait Host: Send + Sync {
    /// Returns the acceptor at `port` for a channel from domain `peer`, whose larger ring has
    /// `ring` bytes.
    ///
    /// # Errors
    /// No acceptor listens there for this domain, or not for so large a ring.
    fn listener(&self, port: u32, peer: u16, ring: u32) -> Result<Arc<dyn Acceptor>, Refusal>;

    /// Returns the module's broker.
    fn broker(&self) -> &dyn Broker;
}

/// The rights of other domains in a module, and the channels that are not for its own programs.
///
/// The default implementations are those of a module without a broker.
pub trait Broker: Send + Sync {
    /// Returns the limits of a peer.
    fn limits(&self, _peer: u16) -> DomainSettings {
        DomainSettings::DEFAULT
    }

    /// Returns the domain with an alias.
    fn resolve(&self, _alias: &Name) -> Option<u16> {
        None
    }

    /// Returns whether policy allows `peer` to open a channel, to `group` if there is one.
    fn may_open(&self, _peer: u16, _open: &Open, _group: Option<&Name>) -> bool {
        false
    }

    /// Returns whether policy revokes a channel that `peer` has.
    fn lost_right(&self, _peer: u16, _open: &Open, _group: Option<&Name>) -> bool {
        false
    }

    /// Takes the near end of a channel that the peer opened to another domain, or to a group.
    /// [`Carrier::answer`] must be called on `tunnel` later.
    ///
    /// # Errors
    /// The channel is refused, and no answer is owed.
    fn take(
        &self,
        _tunnel: Arc<dyn Carrier>,
        _channel: &Arc<Channel>,
        _open: &Open,
        _group: Option<Name>,
    ) -> Result<(), Refusal> {
        Err(Refusal::Forbidden)
    }

    /// Takes the far end of a loopback channel into a group. The attempt must be answered later.
    ///
    /// # Errors
    /// The channel is refused, and no answer is owed.
    fn join(&self, _far: &Arc<Channel>, _member: LocalMember) -> Result<(), Refusal> {
        Err(Refusal::Forbidden)
    }
}

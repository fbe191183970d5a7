// SPDX-License-Identifier: GPL-2.0

//! A tunnel and the parties around it: its module, those who ask it for channels, those who
//! take channels that the peer opens.
//!
//! | trait | called by | implemented by |
//! |---|---|---|
//! | [`Carrier`] | openers, whoever owes an answer | a tunnel |
//! | [`Opener`] | tunnels, timeouts, a router | an endpoint, a relay's end |
//! | [`Acceptor`] | tunnels | an endpoint that listens |
//! | [`Host`] | tunnels | the module's context, with its router |

use idts_core::policy::DomainSettings;
use idts_core::wire::{ChannelId, Kind, Name, Open, Ports, Refusal};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use super::payer::Payer;
use crate::channel::Channel;
use crate::sys::errno::Errno;

/// A channel that somebody asks for.
#[derive(Clone, Copy)]
pub struct OpenRequest {
    /// Ports, from the asker's view.
    pub ports: Ports,
    /// Size of the ring that the asker will write.
    pub tx: u32,
    /// Size of the ring that the asker will read.
    pub rx: u32,
    /// For a granter the domain that is wanted, for a mapper the domain that asks.
    pub domain: u32,
    /// What the channel carries.
    pub kind: Kind,
    /// The group, or the alias of the domain, where one is wanted.
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

/// Opens channels for others.
pub trait Carrier: Send + Sync {
    /// Begins to open a channel for an attempt, which is told of the answer later, or
    /// before this returns.
    ///
    /// # Errors
    /// The attempt is told nothing: the tunnel is gone, or a limit is met.
    fn connect(
        self: ArcBorrow<'_, Self>,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno>;

    /// Nobody waits for an attempt any more. An answer that comes later closes the
    /// channel at once.
    fn abandon(&self, attempt: &Attempt);

    /// Gives the peer the answer that [`Host::broker`] owes it. Nothing is said once the
    /// tunnel was stopped.
    fn answer(self: ArcBorrow<'_, Self>, id: ChannelId, refusal: Option<Refusal>);
}

/// Asks for channels, one after the other. Each time is an attempt with a number of its
/// own, so that a late answer is never taken for the next one's.
///
/// All but [`Self::give_up`] may be called under the tunnel's lock.
pub trait Opener: Send + Sync {
    /// The peer accepted. `false`: nobody waits, and the channel is the caller's to close.
    fn opened(self: ArcBorrow<'_, Self>, attempt: u32, channel: &Arc<Channel>) -> bool;

    /// The attempt failed.
    fn refused(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno);

    /// Whether an answer to the attempt is awaited.
    fn awaits(&self, attempt: u32) -> bool;

    /// An attempt that waited for a tunnel has one now. `false`: nobody waits any more.
    fn has_tunnel(&self, attempt: u32, tunnel: &Arc<dyn Carrier>) -> bool;

    /// Nobody waits for the attempt any more.
    fn give_up(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno);

    /// The account that pays; none for what no program of this domain asked for.
    fn payer(&self) -> Option<&Arc<Payer>>;
}

/// An attempt of an opener, as those know it who are to answer.
#[derive(Clone)]
pub struct Attempt {
    opener: Arc<dyn Opener>,
    number: u32,
}

impl Attempt {
    /// Attempt `number` of `opener`.
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

    /// Asks a tunnel. The answer comes later, or before this returns.
    pub fn ask(&self, tunnel: &Arc<dyn Carrier>, request: OpenRequest) {
        if let Err(errno) = tunnel.as_arc_borrow().connect(self, request) {
            self.refused(errno);
        }
    }

    /// Goes on with a tunnel that the attempt waited for.
    pub fn go_on(&self, tunnel: &Arc<dyn Carrier>, request: OpenRequest) {
        if self.opener.has_tunnel(self.number, tunnel) {
            self.ask(tunnel, request);
        }
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Attempt) -> bool {
        self.is_of(&*other.opener) && self.number == other.number
    }

    /// Whether it is one of `opener`'s.
    pub(crate) fn is_of(&self, opener: &dyn Opener) -> bool {
        core::ptr::addr_eq(&raw const *self.opener, &raw const *opener)
    }
}

/// Takes channels that a peer opens to a port.
pub trait Acceptor: Send + Sync {
    /// The account that pays for the channel's rings.
    fn payer(&self) -> Option<&Arc<Payer>>;

    /// The largest ring that it takes.
    fn max_ring(&self) -> u32;

    /// Takes a channel. May be called under the tunnel's lock.
    ///
    /// # Errors
    /// Nobody listens, there are too many, or no memory: the channel is the caller's still.
    fn offer(&self, channel: &Arc<Channel>) -> Result<(), Refusal>;
}

/// A program of this domain that is to be in a group.
pub struct LocalMember {
    /// The group.
    pub name: Name,
    /// [`Kind::Publish`] or [`Kind::Subscribe`].
    pub kind: Kind,
    /// Options of the group, as the source of an OPEN has them.
    pub options: u32,
    /// The program's attempt, which is told the answer.
    pub attempt: Attempt,
    /// The end that the program gets.
    pub channel: Arc<Channel>,
}

/// The module that a tunnel belongs to.
pub trait Host: Send + Sync {
    /// The acceptor at `port` for a channel from domain `peer`, the larger ring of which
    /// has `ring` bytes.
    ///
    /// # Errors
    /// Nobody listens there, or not for so large a ring.
    fn listener(&self, port: u32, peer: u16, ring: u32) -> Result<Arc<dyn Acceptor>, Refusal>;

    /// The limits of a peer.
    fn limits(&self, peer: u16) -> DomainSettings;

    /// The domain behind an alias.
    fn resolve(&self, alias: &Name) -> Option<u16>;

    /// Whether policy lets `peer` open a channel: to a group, if there is one.
    fn may_open(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool;

    /// Whether policy takes from `peer` a channel that it has.
    fn lost_right(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool;

    /// Takes the near end of a channel that the peer opened to another domain, or to a
    /// group. `tunnel` is owed a call of [`Carrier::answer`].
    ///
    /// # Errors
    /// Nothing is owed.
    fn broker(
        &self,
        tunnel: Arc<dyn Carrier>,
        channel: &Arc<Channel>,
        open: &Open,
        group: Option<Name>,
    ) -> Result<(), Refusal>;

    /// Takes the far end of a channel of this domain with itself into a group. An answer to
    /// the attempt is owed.
    ///
    /// # Errors
    /// Nothing is owed.
    fn join(&self, far: &Arc<Channel>, member: LocalMember) -> Result<(), Refusal>;
}

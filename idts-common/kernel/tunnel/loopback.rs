// SPDX-License-Identifier: GPL-2.0

//! A loopback tunnel, from a domain to itself: both ends of its channels are here.
//!
//! It has no peer, no grants and no events: a notification looks up the other end in the table.
//! The ids of a channel's two ends differ in the lowest bit.

use idts_core::negotiation::Negotiated;
use idts_core::opening::Event;
use idts_core::quota::Scope;
use idts_core::ring::Lines;
use idts_core::role::Role as Side;
use idts_core::wire::{line, ChannelId, Name, Open, PAGE, WINDOW};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::channels::{ChannelEntry, Costs};
use super::host::{Acceptor, Attempt, Host, LocalMember, OpenRequest};
use super::payer::Rings;
use super::role::Role;
use super::services::Services;
use super::tunnel::{Parts, Tunnel};
use crate::channel::{Channel, Memory as ChannelMemory, Setup};
use crate::mem::local::LocalPages;
use crate::mem::shared::{RingMemory, SharedSlice};
use crate::region::segments::Pages;
use crate::sys::errno::Errno;
use crate::sys::test_override;

/// The memory of a channel, kept until both ends are gone.
struct Local {
    _pages: KVec<LocalPages>,
    /// Charged to the requester.
    _rings: Rings,
}

/// Whom a program of this domain wants.
enum Whom {
    Acceptor(Arc<dyn Acceptor>),
    Group(Name),
}

/// Both ends of a channel: the asker's, the other.
type Pair = (Arc<Channel>, Arc<Channel>);

/// Allocates a ring and maps it for both ends.
fn ring(size: u32, pages: &mut KVec<LocalPages>) -> Result<(RingMemory, RingMemory)> {
    let mut pieces: [KVec<SharedSlice>; 2] = [KVec::new(), KVec::new()];
    let mut left = size;
    while left > 0 {
        let block = LocalPages::new(left.min(WINDOW))?;
        for pieces in &mut pieces {
            pieces.push(block.slice(), GFP_KERNEL_ACCOUNT)?;
        }
        pages.push(block, GFP_KERNEL_ACCOUNT)?;
        left = left.saturating_sub(WINDOW);
    }
    let [ours, theirs] = pieces;
    Ok((RingMemory::new(ours), RingMemory::new(theirs)))
}

impl Tunnel {
    /// Creates the tunnel of this domain, `own`, to itself.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn loopback(own: u16, services: &Arc<Services>, host: Arc<dyn Host>) -> Result<Arc<Self>> {
        let page = LocalPages::new(PAGE)?;
        let parts = Parts {
            side: Side::Front,
            role: Role::Loopback,
            terms: Negotiated::LOOPBACK,
            control: Pages::Local(page),
            reference: 0,
        };
        Self::new(None, own, services, host, parts)
    }

    /// Creates both ends of a channel, at the cost of the cgroup that is charged at the time.
    fn pair(self: &Arc<Self>, request: &OpenRequest, rings: Rings) -> Result<Pair> {
        let mut pages = KVec::new();
        let lines = LocalPages::new(PAGE)?;
        let at = lines.slice();
        pages.push(lines, GFP_KERNEL_ACCOUNT)?;
        let (tx, tx_other) = ring(request.tx, &mut pages)?;
        let (rx, rx_other) = ring(request.rx, &mut pages)?;
        let local = Local {
            _pages: pages,
            _rings: rings,
        };
        let local = Arc::new(local, GFP_KERNEL_ACCOUNT)?;
        let mut inner = self.inner.lock();
        let [our_id, their_id] = inner.channels.next_pair()?;
        self.link.table.prepare(our_id.id)?;
        let end = |channel, lines, sizes, tx, rx| {
            let open = Open {
                channel,
                ports: request.ports,
                kind: request.kind,
                ..Open::default()
            };
            let setup = Setup {
                link: self.link.clone(),
                owner: self.clone(),
                far: self.peer,
                lines,
                memory: ChannelMemory {
                    lines: at,
                    gate: self.link.gate.clone(),
                    tx,
                    rx,
                },
                sizes,
                keeps: Some(local.clone()),
            };
            Channel::new(&open, setup)
        };
        let (first, second) = (0, line::SIZE);
        let (own, peer) = (first, second);
        let ours = end(
            our_id,
            Lines { own, peer },
            (request.tx, request.rx),
            tx,
            rx,
        )?;
        let (own, peer) = (second, first);
        let sizes = (request.rx, request.tx);
        let theirs = end(their_id, Lines { own, peer }, sizes, rx_other, tx_other)?;
        for (id, channel) in [(our_id, &ours), (their_id, &theirs)] {
            inner
                .channels
                .begin(entry(id, channel.clone()), Event::AnswerRequest);
            self.list(channel);
        }
        Ok((ours, theirs))
    }

    /// Opens a channel for a local program to an acceptor or a group of this domain.
    ///
    /// # Errors
    /// The reason of the refusal. The attempt gets no other answer.
    pub(super) fn connect_loopback(
        self: &Arc<Self>,
        attempt: &Attempt,
        request: OpenRequest,
    ) -> Result<(), Errno> {
        let port = request.ports.target;
        let whom = match request.name {
            Some(name) => Whom::Group(name),
            None => Whom::Acceptor(self.host.listener(port, self.peer, request.largest())?),
        };
        let payer = attempt.payer().ok_or(Errno::NoSpace)?;
        let bytes = request.bytes().wrapping_add(PAGE);
        let rings = payer.rings(Scope::Loopback, bytes, || self.services.grace.flush())?;
        let pair = payer.charge(|| self.pair(&request, rings));
        let (ours, theirs) = pair.map_err(|error| payer.got_none(error))?;
        test_override::delay(c"home-connect");
        let taken = match whom {
            Whom::Acceptor(acceptor) => acceptor.offer(&theirs).map(|()| true),
            Whom::Group(name) => {
                let member = LocalMember {
                    name,
                    kind: request.kind,
                    options: request.ports.source,
                    attempt: attempt.clone(),
                    channel: ours.clone(),
                };
                payer.charge(|| self.host.broker().join(&theirs, member).map(|()| false))
            }
        };
        let result = match taken {
            // The group gives the answer.
            Ok(false) => return Ok(()),
            Ok(true) => {
                self.link.stats.opened.add(1);
                match attempt.opened(&ours) {
                    true => return Ok(()),
                    // An attempt that is over ends as if its program had closed the channel.
                    false => Errno::ConnReset,
                }
            }
            Err(why) => why.into(),
        };
        self.close_channel(&ours);
        self.close_channel(&theirs);
        Err(result)
    }
}

/// The table entry of one end.
fn entry(id: ChannelId, channel: Arc<Channel>) -> ChannelEntry {
    ChannelEntry {
        open: Open {
            channel: id,
            ..Open::default()
        },
        channel,
        group: None,
        attempt: None,
        costs: Costs::default(),
    }
}

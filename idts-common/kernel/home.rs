// SPDX-License-Identifier: GPL-2.0

//! The tunnel of a domain with itself: channels both ends of which are here.
//!
//! It has no peer, no grants and no events: a notification looks the other end
//! up. Its channels' numbers go in pairs, which differ in the lowest bit.

use idts_core::negotiation::Negotiated;
use idts_core::quota::Scope;
use idts_core::ring::Lines;
use idts_core::sched::Params;
use idts_core::wire::{line, Open, Slice, PAGE, WINDOW};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::channel::{Channel, Memory as ChannelMemory};
use crate::endpoint::Attempt;
use crate::groups::{Asker, Member};
use crate::hub::Hub;
use crate::mem::local::LocalPages;
use crate::mem::shared::{RingMemory, SharedSlice};
use crate::opening::Wanted;
use crate::payer::Rings;
use crate::region::segments::Pages;
use crate::sys::errno::Errno;
use crate::tunnel::Tunnel;

/// What the two ends of a channel lie in, as long as one of them is there.
pub(crate) struct Local {
    _pages: KVec<LocalPages>,
    /// Whoever asked for the channel has them in the book.
    _rings: Rings,
}

/// Both ends of a channel: the one that asked, the other.
type Pair = (Arc<Channel>, Arc<Channel>);

/// Pages of a ring, and their pieces twice, for both ends.
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
    /// The tunnel of this domain with itself.
    pub(crate) fn home(hub: &Arc<Hub>) -> Result<Arc<Self>> {
        let page = LocalPages::new(PAGE)?;
        let tunnel = Self::new(None, hub, Negotiated::LOOPBACK, Pages::Local(page), 0)?;
        tunnel.set_flow(hub.mover.join(&tunnel, Params::DEFAULT)?);
        Ok(tunnel)
    }

    /// A new channel, both ends of it; whoever is charged at the time pays.
    fn pair(self: &Arc<Self>, wanted: &Wanted, rings: Rings) -> Result<Pair> {
        let mut pages = KVec::new();
        let lines = LocalPages::new(PAGE)?;
        let at = lines.slice();
        pages.push(lines, GFP_KERNEL_ACCOUNT)?;
        let (tx, tx_other) = ring(wanted.tx, &mut pages)?;
        let (rx, rx_other) = ring(wanted.rx, &mut pages)?;
        let local = Local {
            _pages: pages,
            _rings: rings,
        };
        let local = Arc::new(local, GFP_KERNEL_ACCOUNT)?;
        let mut inner = self.inner.lock();
        let [our_id, their_id] = inner.openings.next_pair()?;
        self.table.prepare(our_id.id)?;
        let end = |channel, swapped: bool, tx, rx| {
            let (own, peer) = match swapped {
                false => (0, line::SIZE),
                true => (line::SIZE, 0),
            };
            let sizes = match swapped {
                false => (wanted.tx, wanted.rx),
                true => (wanted.rx, wanted.tx),
            };
            let open = Open {
                channel,
                ports: wanted.ports,
                kind: wanted.kind,
                front_ring: Slice::default(),
                ..Open::default()
            };
            let memory = ChannelMemory { lines: at, tx, rx };
            let lines = Lines { own, peer };
            Channel::new(
                self.clone(),
                &open,
                0,
                lines,
                memory,
                sizes,
                Some(local.clone()),
            )
        };
        let ours = end(our_id, false, tx, rx)?;
        let theirs = end(their_id, true, rx_other, tx_other)?;
        inner.openings.keep(ours.clone());
        inner.openings.keep(theirs.clone());
        self.list(&ours);
        self.list(&theirs);
        Ok((ours, theirs))
    }

    /// Opens a channel for a local endpoint to a listener, or to a group, here.
    pub(crate) fn connect_home(
        self: &Arc<Self>,
        attempt: &Attempt,
        wanted: Wanted,
    ) -> Result<(), Errno> {
        let listener = match wanted.name {
            Some(_) => None,
            None => Some(
                self.hub
                    .listener(wanted.ports.target, 0, wanted.largest())?,
            ),
        };
        let payer = attempt.endpoint.payer().ok_or(Errno::NoSpace)?;
        let bytes = wanted.bytes().wrapping_add(PAGE);
        let rings = payer.rings(Scope::Loopback, bytes, || self.hub.reaper.flush())?;
        let pair = payer.charge(|| self.pair(&wanted, rings));
        let (ours, theirs) = pair.map_err(|error| payer.got_none(error))?;
        crate::sys::test_override::delay(c"home-connect");
        let undo = |errno| {
            self.close(&ours);
            self.close(&theirs);
            Err(errno)
        };
        if let Some(name) = wanted.name {
            let member = Member {
                name,
                kind: wanted.kind,
                how: wanted.ports.source,
                asker: Asker::Local(attempt.clone(), ours.clone()),
            };
            return match payer.charge(|| self.make_member(&theirs, member)) {
                Ok(()) => Ok(()),
                Err(why) => undo(why.into()),
            };
        }
        let child = match listener.as_ref().map(|l| l.child(&theirs)) {
            Some(Ok(child)) => child,
            Some(Err(why)) => return undo(why.into()),
            None => return undo(Errno::ConnRefused),
        };
        match listener.map(|l| l.offer(child)) {
            Some(Ok(())) => {
                self.stats.opened.add(1);
                // Who has given up leaves as if it had closed.
                match attempt.connected(&ours) {
                    true => Ok(()),
                    false => undo(Errno::ConnReset),
                }
            }
            Some(Err(_)) | None => undo(Errno::ConnRefused),
        }
    }
}

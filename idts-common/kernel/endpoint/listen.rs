// SPDX-License-Identifier: GPL-2.0

//! Bind, listen and accept.

use idts_core::ioctl::ListenParams;
use idts_core::wire::{Refusal, RING_MAX};
use kernel::prelude::*;
use kernel::sync::Arc;

use super::endpoint::{Endpoint, State};
use crate::channel::Channel;
use crate::sys::wait::Awaited;
use crate::tunnel::host::Acceptor;
use crate::tunnel::payer::Payer;

impl Endpoint {
    /// Binds to `port` for connections from `peer`.
    ///
    /// # Errors
    /// `EINVAL`: the endpoint is not idle. As [`crate::context::Context::bind`].
    pub(crate) fn bind(self: &Arc<Self>, port: u32, peer: u16) -> Result {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Idle) {
            return Err(EINVAL);
        }
        let bind = || self.context.bind(port, peer, self.clone());
        inner.port = self.payer().charge(bind)?;
        inner.bound = true;
        inner.state = State::Bound;
        Ok(())
    }

    /// Listens on the bound port, or changes backlog and largest ring of a listener.
    ///
    /// # Errors
    /// `EINVAL`: the endpoint is not bound, or listens for another kind. `ENOMEM`.
    pub(crate) fn listen(&self, wanted: ListenParams) -> Result {
        let backlog = wanted.backlog as usize;
        let queue = || KVec::with_capacity(backlog, GFP_KERNEL_ACCOUNT);
        let mut inner = self.inner.lock();
        match &mut inner.state {
            State::Listening {
                backlog: b,
                max_ring,
                kind,
                ..
            } if *kind == wanted.kind => {
                *b = backlog;
                *max_ring = wanted.max_ring;
            }
            State::Bound => {
                inner.state = State::Listening {
                    kind: wanted.kind,
                    max_ring: wanted.max_ring,
                    backlog,
                    queue: self.payer().charge(queue)?,
                    refused: 0,
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Creates the endpoint of an incoming channel, at the listener's cost.
    fn child(&self, channel: &Arc<Channel>) -> Result<Arc<Endpoint>, Refusal> {
        // A message is being handled, which cannot wait for room.
        let seat = self.payer().seat(|| ()).map_err(|_| Refusal::NoSpace)?;
        let make = || Endpoint::accepted(self.context.clone(), channel.clone(), seat);
        self.payer().charge(make).map_err(|error| {
            self.payer().got_none(error);
            Refusal::NoSpace
        })
    }

    /// Queues a connected endpoint for accept. Returns it if this endpoint does not listen for
    /// its kind, or the backlog is full.
    fn enqueue(&self, child: Arc<Endpoint>) -> Result<(), Arc<Endpoint>> {
        {
            let mut inner = self.inner.lock();
            let State::Listening {
                kind,
                backlog,
                queue,
                refused,
                ..
            } = &mut inner.state
            else {
                return Err(child);
            };
            if child.channel.as_ref().is_none_or(|c| c.kind != *kind) {
                return Err(child);
            }
            if queue.len() >= *backlog {
                *refused = refused.wrapping_add(1);
                return Err(child);
            }
            let spare = child.clone();
            if queue.push(child, GFP_KERNEL).is_err() {
                return Err(spare);
            }
        }
        self.kick();
        Ok(())
    }

    /// `accept(2)`: takes the next connection.
    ///
    /// # Errors
    /// `EINVAL`: the endpoint does not listen. `EAGAIN`, `ERESTARTSYS`.
    pub(crate) fn accept(&self, nonblock: bool) -> Result<Arc<Endpoint>> {
        loop {
            let change = Awaited::arm(&self.change);
            {
                let mut inner = self.inner.lock();
                let State::Listening { queue, .. } = &mut inner.state else {
                    return Err(EINVAL);
                };
                if !queue.is_empty() {
                    return Ok(queue.remove(0)?);
                }
            }
            if nonblock {
                return Err(EAGAIN);
            }
            self.wait_change(change, None)?;
        }
    }
}

impl Acceptor for Endpoint {
    fn payer(&self) -> Option<&Arc<Payer>> {
        Some(Endpoint::payer(self))
    }

    fn max_ring(&self) -> u32 {
        match self.inner.lock().state {
            State::Listening { max_ring, .. } => max_ring,
            _ => RING_MAX,
        }
    }

    fn offer(&self, channel: &Arc<Channel>) -> Result<(), Refusal> {
        let child = self.child(channel)?;
        self.enqueue(child).map_err(|_| Refusal::Refused)
    }
}

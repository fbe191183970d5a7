// SPDX-License-Identifier: GPL-2.0

//! Ports: bind, listen, accept.

use idts_core::wire::Kind;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::{Endpoint, State};
use crate::wait::Awaited;

impl Endpoint {
    /// Binds to `port` for connections from `peer`.
    pub(crate) fn bind(self: &Arc<Self>, port: u32, peer: u16) -> Result {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, State::Idle) {
            return Err(EINVAL);
        }
        inner.port = self.hub.bind(port, peer, self)?;
        inner.bound = true;
        inner.state = State::Bound;
        Ok(())
    }

    /// Listens on the bound port.
    pub(crate) fn listen(&self, backlog: u32, wanted: Kind) -> Result {
        let backlog = backlog as usize;
        let mut inner = self.inner.lock();
        match &mut inner.state {
            State::Listening {
                backlog: b, kind, ..
            } if *kind == wanted => *b = backlog,
            State::Bound => {
                inner.state = State::Listening {
                    kind: wanted,
                    backlog,
                    queue: KVec::with_capacity(backlog, GFP_KERNEL)?,
                    refused: 0,
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    /// Queues a connected endpoint for accept. Gives it back if nobody listens
    /// or the backlog is full.
    pub(crate) fn offer(&self, child: Arc<Endpoint>) -> Result<(), Arc<Endpoint>> {
        {
            let mut inner = self.inner.lock();
            let State::Listening {
                kind,
                backlog,
                queue,
                refused,
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

    /// Takes the next connection.
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

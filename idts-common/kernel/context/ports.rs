// SPDX-License-Identifier: GPL-2.0

//! The bound ports of a module, and their acceptors.

use idts_core::uapi;
use idts_core::wire::Refusal;
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNode};
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::sys::errno::Errno;
use crate::tunnel::host::Acceptor;
use crate::tunnel::payer::Users;

/// Most ports that are bound at once, by all users together.
const PORTS_MAX: usize = 4096;

/// A bound port.
struct Port {
    /// The domain that may connect, or `DOMID_ANY`.
    peer: u16,
    acceptor: Arc<dyn Acceptor>,
}

/// The bound ports, by number.
struct Bound {
    ports: RBTree<u32, Port>,
    count: usize,
    next_ephemeral: u32,
}

/// The bound ports of a module.
pub(crate) struct Ports {
    users: Arc<Users>,
    bound: Pin<KBox<Mutex<Bound>>>,
}

impl Ports {
    /// Creates an empty table.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(users: Arc<Users>) -> Result<Self> {
        let bound = Bound {
            ports: RBTree::new(),
            count: 0,
            next_ephemeral: uapi::PORT_EPHEMERAL,
        };
        let bound = KBox::pin_init(new_mutex!(bound), GFP_KERNEL)?;
        Ok(Self { users, bound })
    }

    /// Returns whether any port is bound.
    pub(super) fn any(&self) -> bool {
        self.bound.lock().count > 0
    }

    /// Binds an acceptor to a port. Port 0 picks a free ephemeral one. Returns the port.
    ///
    /// # Errors
    /// `ENOSPC`: too many ports are bound. `EADDRINUSE`: the port is bound. `ENOMEM`.
    pub(super) fn bind(&self, port: u32, peer: u16, acceptor: Arc<dyn Acceptor>) -> Result<u32> {
        let mut bound = self.bound.lock();
        if bound.count >= PORTS_MAX {
            self.users.no_port.add(1);
            return Err(Errno::NoSpace.into());
        }
        let taken = |bound: &Bound, n| bound.ports.get(&n).is_some();
        let number = if port != 0 {
            if taken(&bound, port) {
                return Err(Errno::AddrInUse.into());
            }
            port
        } else {
            loop {
                let n = bound.next_ephemeral;
                bound.next_ephemeral = n.wrapping_add(1) | uapi::PORT_EPHEMERAL;
                if !taken(&bound, n) {
                    break n;
                }
            }
        };
        let port = Port { peer, acceptor };
        let node = RBTreeNode::new(number, port, GFP_KERNEL_ACCOUNT)?;
        bound.ports.insert(node);
        bound.count = bound.count.wrapping_add(1);
        Ok(number)
    }

    /// Unbinds a port.
    pub(super) fn unbind(&self, port: u32) {
        let mut bound = self.bound.lock();
        let entry = bound.ports.remove(&port);
        if entry.is_some() {
            bound.count = bound.count.saturating_sub(1);
        }
        drop(bound);
        drop(entry);
    }

    /// Returns the acceptor at `port` for a channel from domain `peer`, whose larger ring has
    /// `ring` bytes.
    ///
    /// # Errors
    /// [`Refusal::Refused`]: no acceptor listens there for this domain. [`Refusal::NoSpace`]:
    /// the ring is larger than it takes.
    pub(super) fn listener(
        &self,
        port: u32,
        peer: u16,
        ring: u32,
    ) -> Result<Arc<dyn Acceptor>, Refusal> {
        let acceptor = {
            let bound = self.bound.lock();
            let port = bound.ports.get(&port);
            let port = port.filter(|p| p.peer == uapi::DOMID_ANY || p.peer == peer);
            port.map(|p| p.acceptor.clone()).ok_or(Refusal::Refused)?
        };
        if ring > acceptor.max_ring() {
            self.users.rings_too_large.add(1);
            return Err(Refusal::NoSpace);
        }
        Ok(acceptor)
    }
}

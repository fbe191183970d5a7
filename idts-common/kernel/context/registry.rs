// SPDX-License-Identifier: GPL-2.0

//! The registry of a module's tunnels to other domains, with a debugfs file for each tunnel.

use idts_core::registry::{Place, Registry as Peers};
use kernel::debugfs;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::tunnel::inline::Pending;
use crate::tunnel::report::Report;
use crate::tunnel::Tunnel;

/// A registered tunnel.
struct Entry {
    tunnel: Arc<Tunnel>,
    /// The debugfs file, removed when dropped.
    _file: Option<Pin<KBox<debugfs::File<Report>>>>,
}

/// The tunnels of a module, by peer.
#[pin_data]
pub struct Registry {
    #[pin]
    tunnels: Mutex<Peers<KVec<Place<Entry>>>>,
    debugfs: Arc<debugfs::Dir>,
}

impl Registry {
    /// Creates an empty registry.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(debugfs: Arc<debugfs::Dir>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                tunnels <- new_mutex!(Peers::new(KVec::new())),
                debugfs,
            }),
            GFP_KERNEL,
        )
    }

    /// The module's directory in debugfs.
    pub fn debugfs(&self) -> &debugfs::Dir {
        &self.debugfs
    }

    /// Adds a tunnel, which makes it reachable.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&self, tunnel: &Arc<Tunnel>) -> Result {
        let name = CString::try_from_fmt(fmt!("{}", tunnel.peer))?;
        let file = self
            .debugfs
            .read_only_file::<_, Error>(&name, Ok(Report(tunnel.clone())));
        let file = KBox::pin_init(file, GFP_KERNEL).ok();
        let entry = Entry {
            tunnel: tunnel.clone(),
            _file: file,
        };
        let mut tunnels = self.tunnels.lock();
        if !tunnels.has_place() {
            tunnels.places().push(None, GFP_KERNEL)?;
        }
        tunnels.add(tunnel.peer, entry).map_err(|_| ENOMEM)
    }

    /// Removes a tunnel, if it is in. Its debugfs file goes outside the lock, because that waits
    /// for readers.
    pub(super) fn remove(&self, tunnel: &Arc<Tunnel>) {
        let is = |entry: &Entry| Arc::ptr_eq(&entry.tunnel, tunnel);
        let entry = self.tunnels.lock().remove(is);
        drop(entry);
    }

    /// Returns the tunnel to a domain.
    pub fn tunnel(&self, peer: u16) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels.get(peer).map(|entry| entry.tunnel.clone())
    }

    /// Returns the only tunnel, in a module that reaches all domains through one peer.
    pub fn default_peer(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels.default_peer().map(|entry| entry.tunnel.clone())
    }

    /// Calls `f` with each tunnel, with nothing locked. It reaches every tunnel that stays
    /// registered; one that is added or removed meanwhile may be left out.
    pub fn for_each(&self, f: impl Fn(&Arc<Tunnel>)) {
        let mut last = None;
        loop {
            let tunnel = {
                let tunnels = self.tunnels.lock();
                tunnels.after(last).map(|entry| entry.tunnel.clone())
            };
            let Some(tunnel) = tunnel else {
                return;
            };
            last = Some(tunnel.peer);
            f(&tunnel);
        }
    }

    /// Takes over the messages of a tunnel that has some, and returns the tunnel.
    fn next_mail(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        let mut entries = tunnels.entries();
        entries
            .find(|entry| entry.tunnel.takes_mail())
            .map(|entry| entry.tunnel.clone())
    }

    /// Schedules the work of the tunnels that `which` selects. Under the lock, so a tunnel that
    /// is being stopped, which waits for its work, is not among them.
    fn leave(&self, which: impl Fn(&Arc<Tunnel>) -> bool) {
        let tunnels = self.tunnels.lock();
        for entry in tunnels.entries().filter(|entry| which(&entry.tunnel)) {
            entry.tunnel.schedule();
        }
    }
}

impl Pending for Registry {
    fn process(&self, looks: &mut usize) {
        while *looks > 0 {
            let Some(tunnel) = self.next_mail() else {
                return;
            };
            if tunnel.handle(looks) {
                self.leave(|t| Arc::ptr_eq(t, &tunnel));
            }
        }
    }

    fn leave_to_workers(&self) {
        self.leave(|tunnel| tunnel.takes_mail());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The registry of a module's tunnels to other domains, with a debugfs file for each.

use idts_core::registry::{Place, Registry as Peers};
use kernel::debugfs;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::tunnel::inline::Pending;
use crate::tunnel::report::Report;
use crate::tunnel::Tunnel;

struct Entry {
    tunnel: Arc<Tunnel>,
    /// Removed from debugfs when dropped.
    _file: Option<Pin<KBox<debugfs::File<Report>>>>,
}

/// The tunnels.
#[pin_data]
pub struct Registry {
    #[pin]
    tunnels: Mutex<Peers<KVec<Place<Entry>>>>,
    debugfs: Arc<debugfs::Dir>,
}

impl Registry {
    /// No tunnels.
    pub(super) fn new(debugfs: Arc<debugfs::Dir>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                tunnels <- new_mutex!(Peers::new(KVec::new())),
                debugfs,
            }),
            GFP_KERNEL,
        )
    }

    /// The directory of the module's files.
    pub fn debugfs(&self) -> &debugfs::Dir {
        &self.debugfs
    }

    /// Makes a tunnel reachable.
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

    /// Makes a tunnel unreachable. Removing its file waits for readers, so this
    /// is done outside the lock.
    pub(super) fn remove(&self, tunnel: &Arc<Tunnel>) {
        let is = |entry: &Entry| Arc::ptr_eq(&entry.tunnel, tunnel);
        let entry = self.tunnels.lock().remove(is);
        drop(entry);
    }

    /// The tunnel to a domain.
    pub fn tunnel(&self, peer: u16) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels.get(peer).map(|entry| entry.tunnel.clone())
    }

    /// The tunnel to the one domain through which all others are reached, in a module that
    /// has but one tunnel.
    pub fn default_peer(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels.default_peer().map(|entry| entry.tunnel.clone())
    }

    /// Calls `f` with each tunnel, with nothing locked; one that comes or goes meanwhile
    /// may be left out, none that stays is.
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

    /// A tunnel with messages that nobody has taken.
    fn next_mail(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        let mut entries = tunnels.entries();
        entries
            .find(|entry| entry.tunnel.takes_mail())
            .map(|entry| entry.tunnel.clone())
    }

    /// Wakes the workers of some tunnels. Those that are to stop are in the list
    /// no more: whoever stops one waits for its worker.
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

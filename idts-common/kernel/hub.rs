// SPDX-License-Identifier: GPL-2.0

//! What a module has once: its tunnels, its ports, its reaper.
//!
//! Listening endpoints live here and not in a tunnel, so that they survive a
//! reconnect.

use core::borrow::Borrow;

use idts_core::role::Role;
use idts_core::wire::Refusal;
use idts_core::{uapi, wire};
use kernel::debugfs;
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNode};
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::accounts::{Account, Accounts, AccountsReport};
use crate::endpoint::{Attempt, Endpoint};
use crate::groups::Groups;
use crate::help::Help;
use crate::mover::Mover;
use crate::opening::Wanted;
use crate::payer::{self, Users};
use crate::policy::{self, Policies};
use crate::reaper::Reaper;
use crate::stats::{Report, SchedulerReport};
use crate::sys::busy_poll::WaitParams;
use crate::sys::counter::Counter;
use crate::sys::errno::Errno;
use crate::sys::work::OwnQueue;
use crate::tunnel::Tunnel;
use crate::wish::Wish;
use crate::xen::xenstore::Watch;

/// Ports that may be bound at once, by all users together.
const PORTS_MAX: usize = 4096;

struct Entry {
    tunnel: Arc<Tunnel>,
    /// Removed from debugfs when dropped.
    _file: Option<Pin<KBox<debugfs::File<Report>>>>,
}

struct Port {
    /// Who may connect, or `DOMID_ANY`.
    peer: u16,
    endpoint: Arc<Endpoint>,
}

struct Ports {
    bound: RBTree<u32, Port>,
    count: usize,
    next_ephemeral: u32,
}

/// A module's tunnels and ports.
#[pin_data]
pub struct Hub {
    /// Which side this module is.
    pub role: Role,
    /// Frees what cannot be freed at once.
    pub(crate) reaper: Arc<Reaper>,
    /// Front: what dom0 is told of the wish for a tunnel.
    pub(crate) wish: Arc<Wish>,
    /// Moves what is relayed.
    pub(crate) mover: Arc<Mover>,
    /// Who handles messages while it waits.
    #[pin]
    pub(crate) help: Help,
    /// What is kept of domains across their tunnels.
    accounts: Arc<Accounts>,
    /// What each domain may.
    #[pin]
    pub(crate) policies: Policies,
    /// Who publishes and subscribes.
    #[pin]
    pub(crate) groups: Groups,
    /// What users have.
    pub(crate) users: Arc<Users>,
    /// Connections with larger rings than their listener takes.
    pub(crate) rings_too_large: Counter,
    /// Binds for which there were too many ports.
    pub(crate) no_port: Counter,
    /// Back: the tunnel of this domain with itself.
    #[pin]
    home: Mutex<Option<Arc<Tunnel>>>,
    #[pin]
    tunnels: Mutex<KVec<Entry>>,
    #[pin]
    ports: Mutex<Ports>,
    debugfs: debugfs::Dir,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Installed::new`, before any other use.
    unsafe(uninit) static CURRENT: Mutex<Option<Arc<Hub>>> = None;
}

/// Makes a hub the module's own while it lives, and finishes its work then.
pub struct Installed {
    /// Back: watches what the administrator sets. Goes first.
    watch: Option<Pin<KBox<Watch>>>,
    /// Back: the debugfs file of the scheduler.
    _scheduler: Option<Pin<KBox<debugfs::File<SchedulerReport>>>>,
    /// The debugfs file of the rules that domains broke.
    _violations: Option<Pin<KBox<debugfs::File<AccountsReport>>>>,
    /// The debugfs file of the users.
    _users: Option<Pin<KBox<debugfs::File<payer::Report>>>>,
    hub: Arc<Hub>,
    /// Goes last.
    _queue: OwnQueue,
}

/// A module's parameter: kernels hand it over by reference, from 7.3 on by value.
pub fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

impl Installed {
    /// Installs the module's hub. `waiting` is how its readers and writers wait.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`.
    pub unsafe fn new(role: Role, waiting: WaitParams) -> Result<Self> {
        crate::sys::busy_poll::set(waiting);
        // SAFETY: Called once, first, as this function requires.
        let queue = unsafe { OwnQueue::new()? };
        // SAFETY: As above.
        unsafe { CURRENT.init() };
        let hub = Hub::new(role)?;
        *CURRENT.lock() = Some(hub.clone());
        let mut installed = Self {
            watch: None,
            _scheduler: None,
            _violations: hub.report_violations(),
            _users: hub.report_users(),
            hub,
            _queue: queue,
        };
        if role == Role::Back {
            installed._scheduler = installed.hub.report_scheduler();
            let home = Tunnel::home(&installed.hub)?;
            *installed.hub.home.lock() = Some(home);
            installed.watch = Some(Watch::new(c"idts", policy::changed)?);
        }
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.watch = None;
        if let Some(home) = self.hub.home.lock().take() {
            home.stop(Errno::ConnReset);
            home.give_back();
        }
        self.hub.mover.finish();
        self.hub.wish.finish();
        self.hub.reaper.finish();
        *CURRENT.lock() = None;
    }
}

impl Hub {
    /// The module's hub.
    pub fn current() -> Result<Arc<Self>> {
        CURRENT.lock().clone().ok_or(ENODEV)
    }

    /// A hub without tunnels and ports.
    pub fn new(role: Role) -> Result<Arc<Self>> {
        let reaper = Reaper::new()?;
        let mover = Mover::new()?;
        let wish = Wish::new()?;
        let accounts = Accounts::new()?;
        let users = Users::new()?;
        Arc::pin_init(
            pin_init!(Self {
                role,
                reaper,
                wish,
                mover,
                help <- Help::new(),
                accounts,
                policies <- Policies::new(),
                groups <- Groups::new(),
                users,
                rings_too_large: Counter::new(),
                no_port: Counter::new(),
                home <- new_mutex!(None),
                tunnels <- new_mutex!(KVec::new()),
                ports <- new_mutex!(Ports {
                    bound: RBTree::new(),
                    count: 0,
                    next_ephemeral: uapi::PORT_EPHEMERAL,
                }),
                debugfs: debugfs::Dir::new(c"idts"),
            }),
            GFP_KERNEL,
        )
    }

    fn report_scheduler(&self) -> Option<Pin<KBox<debugfs::File<SchedulerReport>>>> {
        let report = Ok(SchedulerReport(self.mover.clone()));
        let file = self
            .debugfs
            .read_only_file::<_, Error>(c"scheduler", report);
        KBox::pin_init(file, GFP_KERNEL).ok()
    }

    fn report_violations(&self) -> Option<Pin<KBox<debugfs::File<AccountsReport>>>> {
        let report = Ok(AccountsReport(self.accounts.clone()));
        let file = self
            .debugfs
            .read_only_file::<_, Error>(c"violations", report);
        KBox::pin_init(file, GFP_KERNEL).ok()
    }

    /// What is kept of a domain across its tunnels.
    pub(crate) fn account(&self, domid: u16) -> Result<Arc<Account>> {
        self.accounts.of(domid)
    }

    /// Whether the log may have a line now that a domain caused, by a set-up that
    /// it spoiled for instance. If not, it is counted.
    pub fn may_say(&self, domid: u16) -> bool {
        self.account(domid).is_ok_and(|account| account.may_say())
    }

    fn report_users(self: &Arc<Self>) -> Option<Pin<KBox<debugfs::File<payer::Report>>>> {
        let report = Ok(payer::Report(self.clone()));
        let file = self.debugfs.read_only_file::<_, Error>(c"users", report);
        KBox::pin_init(file, GFP_KERNEL).ok()
    }

    /// Makes a tunnel reachable.
    pub fn add(&self, tunnel: &Arc<Tunnel>) -> Result {
        let name = CString::try_from_fmt(fmt!("{}", tunnel.peer))?;
        let file = KBox::pin_init(
            self.debugfs
                .read_only_file::<_, Error>(&name, Ok(Report(tunnel.clone()))),
            GFP_KERNEL,
        )
        .ok();
        self.tunnels.lock().push(
            Entry {
                tunnel: tunnel.clone(),
                _file: file,
            },
            GFP_KERNEL,
        )?;
        if self.role == Role::Front {
            self.wish.is_met(tunnel);
        }
        Ok(())
    }

    /// Front: has a connect wait for a tunnel.
    pub(crate) fn wait_for_tunnel(&self, attempt: &Attempt, wanted: Wanted) -> Result {
        self.wish.wait(attempt, wanted)?;
        // It may have come in the meantime.
        if let Some(tunnel) = self.tunnel(0) {
            self.wish.is_met(&tunnel);
        }
        Ok(())
    }

    /// Front: the domain was restored.
    pub fn restored(&self) {
        self.wish.restored();
    }

    /// Front: tells dom0 whether ports are bound.
    fn tell_ports(&self) {
        if self.role == Role::Front {
            let any = self.ports.lock().count > 0;
            self.wish.ports(any, self.tunnel(0).is_some());
        }
    }

    /// Makes a tunnel unreachable. Removing its file waits for readers, so this
    /// is done outside the lock.
    pub fn remove(&self, tunnel: &Arc<Tunnel>) {
        let mut tunnels = self.tunnels.lock();
        let position = tunnels.iter().position(|e| Arc::ptr_eq(&e.tunnel, tunnel));
        let entry = position.map(|i| tunnels.remove(i));
        drop(tunnels);
        drop(entry);
    }

    /// A tunnel with messages that nobody has taken.
    fn next_mail(&self) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels
            .iter()
            .find(|e| e.tunnel.takes_mail())
            .map(|e| e.tunnel.clone())
    }

    /// Handles messages of the tunnels that have some, with so many looks, which are
    /// counted off.
    pub(crate) fn take_mail(&self, most: &mut usize) {
        while *most > 0 {
            let Some(tunnel) = self.next_mail() else {
                return;
            };
            if tunnel.handle(most) {
                self.leave_to_worker(|t| Arc::ptr_eq(t, &tunnel));
            }
        }
    }

    /// Leaves messages to the tunnels' workers.
    pub(crate) fn pass_mail_on(&self) {
        self.leave_to_worker(|tunnel| tunnel.takes_mail());
    }

    /// Wakes the workers of some tunnels. Those that are to stop are in the list
    /// no more: whoever stops one waits for its worker.
    fn leave_to_worker(&self, which: impl Fn(&Arc<Tunnel>) -> bool) {
        let tunnels = self.tunnels.lock();
        for entry in tunnels.iter().filter(|e| which(&e.tunnel)) {
            entry.tunnel.schedule();
        }
    }

    /// The tunnel to a domain.
    pub fn tunnel(&self, domid: u16) -> Option<Arc<Tunnel>> {
        let tunnels = self.tunnels.lock();
        tunnels
            .iter()
            .find(|e| e.tunnel.peer == domid)
            .map(|e| e.tunnel.clone())
    }

    /// The tunnel over which this domain reaches another: from a guest every
    /// domain is behind dom0, which decides.
    pub(crate) fn reach(&self, domid: u16) -> Result<Arc<Tunnel>> {
        match self.role {
            Role::Front if u32::from(domid) >= wire::DOMAINS => Err(Errno::Access.into()),
            Role::Front => self.tunnel(0).ok_or(Errno::NetDown.into()),
            Role::Back if domid == 0 => self.home.lock().clone().ok_or(Errno::NetDown.into()),
            Role::Back => self.tunnel(domid).ok_or(Errno::HostUnreach.into()),
        }
    }

    /// Obeys what is set for one domain, or, with none, for all.
    pub(crate) fn obey(&self, domid: Option<u16>) {
        if domid.is_none() {
            let (policy, rate) = policy::scheduler();
            self.mover.set_policy(policy, rate);
        }
        self.for_each_tunnel(|tunnel| {
            if domid.is_none_or(|d| d == tunnel.peer) {
                tunnel.obey();
            }
        });
        // An alias is in the rules of others.
        self.for_each_tunnel(|tunnel| tunnel.end_unrightful());
    }

    /// Calls `f` with each tunnel; one that comes or goes meanwhile may be left
    /// out, none that stays is.
    fn for_each_tunnel(&self, f: impl Fn(&Arc<Tunnel>)) {
        let mut last = None;
        loop {
            let tunnel = {
                let tunnels = self.tunnels.lock();
                let rest = tunnels.iter().map(|e| &e.tunnel);
                let rest = rest.filter(|t| last.is_none_or(|last| t.peer > last));
                rest.min_by_key(|t| t.peer).cloned()
            };
            let Some(tunnel) = tunnel else {
                return;
            };
            last = Some(tunnel.peer);
            f(&tunnel);
        }
    }

    /// The role, as the UAPI numbers it.
    pub fn role_number(&self) -> u32 {
        match self.role {
            Role::Front => uapi::ROLE_FRONT,
            Role::Back => uapi::ROLE_BACK,
        }
    }

    /// What this domain knows of its own id.
    pub fn own_domid(&self) -> u16 {
        match self.role {
            Role::Front => uapi::DOMID_ANY,
            Role::Back => 0,
        }
    }

    /// Binds an endpoint to a port; 0 asks for one. Returns the port.
    pub(crate) fn bind(&self, port: u32, peer: u16, endpoint: &Arc<Endpoint>) -> Result<u32> {
        let mut ports = self.ports.lock();
        if ports.count >= PORTS_MAX {
            self.no_port.add(1);
            return Err(Errno::NoSpace.into());
        }
        let taken = |ports: &Ports, n| ports.bound.get(&n).is_some();
        let number = if port != 0 {
            if taken(&ports, port) {
                return Err(Errno::AddrInUse.into());
            }
            port
        } else {
            loop {
                let n = ports.next_ephemeral;
                ports.next_ephemeral = n.wrapping_add(1) | uapi::PORT_EPHEMERAL;
                if !taken(&ports, n) {
                    break n;
                }
            }
        };
        let port = Port {
            peer,
            endpoint: endpoint.clone(),
        };
        let node = RBTreeNode::new(number, port, GFP_KERNEL_ACCOUNT)?;
        ports.bound.insert(node);
        ports.count = ports.count.wrapping_add(1);
        drop(ports);
        self.tell_ports();
        Ok(number)
    }

    /// Frees a port.
    pub fn unbind(&self, port: u32) {
        let mut ports = self.ports.lock();
        let entry = ports.bound.remove(&port);
        if entry.is_some() {
            ports.count = ports.count.saturating_sub(1);
        }
        drop(ports);
        drop(entry);
        self.tell_ports();
    }

    /// The endpoint bound to a port, for a connection from domain `peer`.
    fn bound(&self, port: u32, peer: u16) -> Option<Arc<Endpoint>> {
        let ports = self.ports.lock();
        ports
            .bound
            .get(&port)
            .filter(|p| p.peer == uapi::DOMID_ANY || p.peer == peer)
            .map(|p| p.endpoint.clone())
    }

    /// The endpoint that is to get a connection from domain `peer`, the larger
    /// ring of which has `ring` bytes.
    pub(crate) fn listener(
        &self,
        port: u32,
        peer: u16,
        ring: u32,
    ) -> Result<Arc<Endpoint>, Refusal> {
        let listener = self.bound(port, peer).ok_or(Refusal::Refused)?;
        if ring > listener.max_ring() {
            self.rings_too_large.add(1);
            return Err(Refusal::NoSpace);
        }
        Ok(listener)
    }
}

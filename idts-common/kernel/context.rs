// SPDX-License-Identifier: GPL-2.0

//! The context of a module: what it has once.
//!
//! Its [`ports`], the [`registry`] of its tunnels, the [`timeout`]s of connects that nobody
//! waits for, and its [`router`], which the guest's module and dom0's implement each in
//! their own way. Ports are here and not in a tunnel, so that listeners survive a
//! reconnect.

pub mod ports;
pub mod registry;
pub mod router;
mod timeout;

use idts_core::policy::DomainSettings;
use idts_core::wire::{Name, Open, Refusal};
use kernel::debugfs;
use kernel::prelude::*;
use kernel::sync::Arc;

use self::ports::Ports;
use self::registry::Registry;
use self::router::Router;
use self::timeout::Timeouts;
use crate::channel::Channel;
use crate::link::accounts::AccountsReport;
use crate::sys::errno::Errno;
use crate::sys::wait::{Awaited, Woken};
use crate::tunnel::host::{Acceptor, Carrier, Host, LocalMember};
use crate::tunnel::services::Services;
use crate::tunnel::{payer, Tunnel};

/// A module's context.
pub struct Context {
    /// Shared parts that every tunnel uses.
    pub services: Arc<Services>,
    /// The tunnels to other domains.
    pub registry: Arc<Registry>,
    /// The way to other domains, and their rights.
    pub router: Arc<dyn Router>,
    pub(crate) ports: Ports,
    pub(crate) timeouts: Arc<Timeouts>,
    /// The debugfs file of the violations.
    _violations: Option<Pin<KBox<debugfs::File<AccountsReport>>>>,
    /// The debugfs file of the users.
    _users: Option<Pin<KBox<debugfs::File<payer::Report>>>>,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Context::install`, before any other use.
    unsafe(uninit) static CURRENT: Mutex<Option<Arc<Context>>> = None;
}

impl Context {
    /// Makes the context of a module that reaches other domains by the router that
    /// `router` makes.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`.
    pub(crate) unsafe fn install(
        router: impl FnOnce(&Arc<Services>, &Arc<Registry>) -> Result<Arc<dyn Router>>,
    ) -> Result<Arc<Self>> {
        let directory = Arc::new(debugfs::Dir::new(c"idts"), GFP_KERNEL)?;
        let services = Services::new()?;
        let registry = Registry::new(directory.clone())?;
        let router = router(&services, &registry)?;
        let violations = Ok(AccountsReport(services.accounts.clone()));
        let violations = directory.read_only_file::<_, Error>(c"violations", violations);
        let users = Ok(payer::Report(services.users.clone()));
        let users = directory.read_only_file::<_, Error>(c"users", users);
        let context = Self {
            ports: Ports::new(services.users.clone())?,
            timeouts: Timeouts::new()?,
            _violations: KBox::pin_init(violations, GFP_KERNEL).ok(),
            _users: KBox::pin_init(users, GFP_KERNEL).ok(),
            services,
            registry,
            router,
        };
        let context = Arc::new(context, GFP_KERNEL)?;
        // SAFETY: Called once, first, as this function requires.
        unsafe { CURRENT.init() };
        *CURRENT.lock() = Some(context.clone());
        context.router.start(context.clone())?;
        Ok(context)
    }

    /// The module's context.
    ///
    /// # Errors
    /// `ENODEV`: the module is not loaded yet, or goes.
    pub fn current() -> Result<Arc<Self>> {
        CURRENT.lock().clone().ok_or(ENODEV)
    }

    /// Finishes all work, at module exit, when no tunnel to another domain is left. May
    /// sleep.
    pub(crate) fn finish(&self) {
        self.router.finish();
        self.timeouts.finish();
        self.services.finish();
        *CURRENT.lock() = None;
    }

    /// Waits for `change`, and handles messages meanwhile. `None`: another process does
    /// that.
    pub(crate) fn process_until(
        &self,
        change: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Option<Result<Woken>> {
        let inline = &self.services.inline;
        inline.wait(&*self.registry, change, jiffies)
    }

    /// Binds an acceptor to `port` for connections from domain `peer`; port 0 asks for one.
    /// Returns the port.
    pub(crate) fn bind(&self, port: u32, peer: u16, acceptor: Arc<dyn Acceptor>) -> Result<u32> {
        let port = self.ports.bind(port, peer, acceptor)?;
        self.router.ports_changed(self.ports.any());
        Ok(port)
    }

    /// Frees a port.
    pub(crate) fn unbind(&self, port: u32) {
        self.ports.unbind(port);
        self.router.ports_changed(self.ports.any());
    }
}

/// Tunnels.
impl Context {
    /// Makes a tunnel reachable: both of its sides are connected.
    ///
    /// # Errors
    /// There is no memory, or no place for one more tunnel; [`Self::stop`] is owed.
    pub fn start(&self, tunnel: &Arc<Tunnel>) -> Result {
        tunnel.start()?;
        self.router.up(tunnel)?;
        tunnel.schedule();
        Ok(())
    }

    /// Ends a tunnel, for good; whoever waits is told `errno`. May be called twice. May
    /// sleep.
    pub fn stop(&self, tunnel: &Arc<Tunnel>, errno: Errno) {
        self.end(tunnel, |tunnel| tunnel.stop(errno));
    }

    /// The same while xenstore does not answer, for the domain was restored.
    pub fn lose(&self, tunnel: &Arc<Tunnel>, errno: Errno) {
        self.end(tunnel, |tunnel| tunnel.lose(errno));
    }

    fn end(&self, tunnel: &Arc<Tunnel>, end: impl FnOnce(&Arc<Tunnel>)) {
        self.registry.remove(tunnel);
        self.router.down(tunnel);
        end(tunnel);
        // Its last message is judged: not earlier, for without an entry other
        // rights might hold than its own.
        self.router.gone(tunnel.peer);
    }
}

impl Host for Context {
    fn listener(&self, port: u32, peer: u16, ring: u32) -> Result<Arc<dyn Acceptor>, Refusal> {
        self.ports.listener(port, peer, ring)
    }

    fn limits(&self, peer: u16) -> DomainSettings {
        self.router.limits(peer)
    }

    fn resolve(&self, alias: &Name) -> Option<u16> {
        self.router.alias(alias)
    }

    fn may_open(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool {
        self.router.may_open(peer, open, group)
    }

    fn lost_right(&self, peer: u16, open: &Open, group: Option<&Name>) -> bool {
        self.router.lost_right(peer, open, group)
    }

    fn broker(
        &self,
        tunnel: Arc<dyn Carrier>,
        channel: &Arc<Channel>,
        open: &Open,
        group: Option<Name>,
    ) -> Result<(), Refusal> {
        self.router.broker(tunnel, channel, open, group)
    }

    fn join(&self, far: &Arc<Channel>, member: LocalMember) -> Result<(), Refusal> {
        self.router.join(far, member)
    }
}

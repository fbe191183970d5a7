// SPDX-License-Identifier: GPL-2.0

//! The context of a module: the parts that exist once.
//!
//! It has the [`ports`], the [`registry`] of tunnels, the [`timeout`]s of nonblocking connects,
//! and the [`router`], which the guest's module and dom0's implement differently. Ports belong
//! to the context, not to a tunnel, so that listeners survive a reconnect.

pub mod ports;
pub mod registry;
pub mod router;
mod timeout;

use idts_core::wire::Refusal;
use kernel::debugfs;
use kernel::prelude::*;
use kernel::sync::Arc;

use self::ports::Ports;
use self::registry::Registry;
use self::router::Router;
use self::timeout::Timeouts;
use crate::link::accounts::AccountsReport;
use crate::sys::errno::Errno;
use crate::sys::wait::{Awaited, Woken};
use crate::tunnel::host::{Acceptor, Broker, Host};
use crate::tunnel::services::Services;
use crate::tunnel::{payer, Tunnel};

/// The context of a module.
pub struct Context {
    /// The parts that all tunnels share.
    pub services: Arc<Services>,
    /// The tunnels to other domains.
    pub registry: Arc<Registry>,
    /// The routes to other domains, and their rights.
    pub router: Arc<dyn Router>,
    pub(crate) ports: Ports,
    pub(crate) timeouts: Arc<Timeouts>,
}

/// The debugfs files of a module. Its code must not go before them.
pub(crate) struct Files {
    _violations: Option<Pin<KBox<debugfs::File<AccountsReport>>>>,
    _users: Option<Pin<KBox<debugfs::File<payer::Report>>>>,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `Context::install`, before any other use.
    unsafe(uninit) static CURRENT: Mutex<Option<Arc<Context>>> = None;
}

impl Context {
    /// Creates the context, with the router that `router` makes, and starts the router.
    ///
    /// # Errors
    /// `ENOMEM`, or the router's error.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`.
    pub(crate) unsafe fn install(
        router: impl FnOnce(&Arc<Services>, &Arc<Registry>) -> Result<Arc<dyn Router>>,
    ) -> Result<Arc<Self>> {
        let directory = Arc::new(debugfs::Dir::new(c"idts"), GFP_KERNEL)?;
        let services = Services::new()?;
        let registry = Registry::new(directory)?;
        let router = router(&services, &registry)?;
        let context = Self {
            ports: Ports::new(services.users.clone())?,
            timeouts: Timeouts::new()?,
            services,
            registry,
            router,
        };
        let context = Arc::new(context, GFP_KERNEL)?;
        // SAFETY: Called once, first, as this function requires.
        unsafe { CURRENT.init() };
        *CURRENT.lock() = Some(context.clone());
        let started = context.router.start(context.clone());
        // What has begun ends, or else it is left over with the code gone.
        started.inspect_err(|_| context.finish())?;
        Ok(context)
    }

    /// Makes the module's debugfs files.
    pub(crate) fn files(&self) -> Files {
        let (services, directory) = (&self.services, self.registry.debugfs());
        let violations = Ok(AccountsReport(services.accounts.clone()));
        let violations = directory.read_only_file::<_, Error>(c"violations", violations);
        let users = Ok(payer::Report(services.users.clone()));
        let users = directory.read_only_file::<_, Error>(c"users", users);
        Files {
            _violations: KBox::pin_init(violations, GFP_KERNEL).ok(),
            _users: KBox::pin_init(users, GFP_KERNEL).ok(),
        }
    }

    /// The module's context.
    ///
    /// # Errors
    /// `ENODEV`: the module is not loaded yet, or is being unloaded.
    pub fn current() -> Result<Arc<Self>> {
        CURRENT.lock().clone().ok_or(ENODEV)
    }

    /// Finishes all work at module exit, after the last tunnel to another domain. May sleep.
    pub(crate) fn finish(&self) {
        self.router.finish();
        self.timeouts.finish();
        self.services.finish();
        *CURRENT.lock() = None;
    }

    /// Waits for `change`, at most for `jiffies`, and processes control messages meanwhile.
    /// Returns `None` if another task does that already, or this one may not.
    pub(crate) fn process_until(
        &self,
        change: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Option<Result<Woken>> {
        let inline = &self.services.inline;
        inline.wait(&*self.registry, change, jiffies)
    }

    /// Binds an acceptor to `port` for connections from domain `peer`. Port 0 picks a free one.
    /// Returns the port.
    ///
    /// # Errors
    /// As [`Ports::bind`].
    pub(crate) fn bind(&self, port: u32, peer: u16, acceptor: Arc<dyn Acceptor>) -> Result<u32> {
        let port = self.ports.bind(port, peer, acceptor)?;
        self.router.ports_changed(&|| self.ports.any());
        Ok(port)
    }

    /// Unbinds a port.
    pub(crate) fn unbind(&self, port: u32) {
        self.ports.unbind(port);
        self.router.ports_changed(&|| self.ports.any());
    }
}

/// Start and end of tunnels.
impl Context {
    /// Makes a tunnel reachable once both sides are connected.
    ///
    /// # Errors
    /// `ENOMEM`, or `ENOSPC`: there are too many tunnels. The caller must call [`Self::stop`].
    pub fn start(&self, tunnel: &Arc<Tunnel>) -> Result {
        tunnel.start()?;
        self.router.up(tunnel)?;
        tunnel.schedule();
        Ok(())
    }

    /// Ends a tunnel for good, with `errno` for all its waiters. May be called twice. May sleep.
    pub fn stop(&self, tunnel: &Arc<Tunnel>, errno: Errno) {
        self.end(tunnel, |tunnel| tunnel.stop(errno));
    }

    /// As [`Self::stop`], after the domain was restored, when xenstore may not answer.
    pub fn lose(&self, tunnel: &Arc<Tunnel>, errno: Errno) {
        self.end(tunnel, |tunnel| tunnel.lose(errno));
    }

    /// Removes a tunnel from the registry and the router, and calls `end` in between.
    fn end(&self, tunnel: &Arc<Tunnel>, end: impl FnOnce(&Arc<Tunnel>)) {
        self.registry.remove(tunnel);
        self.router.down(tunnel);
        end(tunnel);
        // The rights of the peer are dropped last: without them, a message that is still being
        // handled might be judged by others.
        self.router.gone(tunnel.peer);
    }
}

impl Host for Context {
    fn listener(&self, port: u32, peer: u16, ring: u32) -> Result<Arc<dyn Acceptor>, Refusal> {
        self.ports.listener(port, peer, ring)
    }

    fn broker(&self) -> &dyn Broker {
        &*self.router
    }
}

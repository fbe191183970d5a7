// SPDX-License-Identifier: GPL-2.0

//! A loaded module: its registrations, in the order in which they are undone.

use core::borrow::Borrow;

use kernel::driver::Registration;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::context::registry::Registry;
use crate::context::router::Router;
use crate::context::{Context, Files};
use crate::dev::chardev::CharDev;
use crate::sys::busy_poll::{self, WaitParams};
use crate::sys::work::OwnQueue;
use crate::tunnel::services::Services;
use crate::xen::xenbus::{Adapter, Driver};
use crate::xen::xenstore;

/// Returns the value of a module parameter, which kernels pass by reference, and by value from
/// 7.3 on.
pub fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

/// The context of a loaded module. Dropping it finishes all work.
struct Installed {
    _files: Files,
    context: Arc<Context>,
    /// Dropped last: the context's work runs on it.
    _queue: OwnQueue,
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.context.finish();
    }
}

/// A loaded module. Its drop order unloads it: first the driver, which ends all tunnels; then
/// the device, so that no file can be opened; then the context with what is left.
pub struct Loaded<D: Driver> {
    _driver: Pin<KBox<Registration<Adapter<D>>>>,
    _chardev: Pin<KBox<CharDev>>,
    _installed: Installed,
}

impl<D: Driver> Loaded<D> {
    /// Loads the module `name`, which reaches other domains by the [`Router`] that `router`
    /// makes. `waiting` configures how its readers and writers wait.
    ///
    /// # Errors
    /// `ENODEV` without Xen; `ENOMEM`; the error of a registration, for example `EBUSY`.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`.
    pub unsafe fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        waiting: WaitParams,
        router: impl FnOnce(&Arc<Services>, &Arc<Registry>) -> Result<Arc<dyn Router>>,
    ) -> Result<Self> {
        if !xenstore::is_available() {
            return Err(ENODEV);
        }
        busy_poll::set(waiting);
        // SAFETY: Called once, first, as this function requires.
        let queue = unsafe { OwnQueue::new()? };
        // SAFETY: Once, as this function requires.
        let context = unsafe { Context::install(router)? };
        let installed = Installed {
            _files: context.files(),
            context,
            _queue: queue,
        };
        let driver = KBox::pin_init(Registration::new(name, module), GFP_KERNEL)?;
        // The device comes last: an `init` that fails must leave no open file behind.
        let chardev = CharDev::register()?;
        Ok(Self {
            _driver: driver,
            _chardev: chardev,
            _installed: installed,
        })
    }
}

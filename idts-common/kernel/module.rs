// SPDX-License-Identifier: GPL-2.0

//! A loaded module: its registrations, in the order of undoing.

use core::borrow::Borrow;

use kernel::driver::Registration;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::context::registry::Registry;
use crate::context::router::Router;
use crate::context::Context;
use crate::dev::chardev::CharDev;
use crate::sys::busy_poll::{self, WaitParams};
use crate::sys::work::OwnQueue;
use crate::tunnel::services::Services;
use crate::xen::xenbus::{Adapter, Driver};
use crate::xen::xenstore;

/// A module's parameter: kernels hand it over by reference, from 7.3 on by value.
pub fn parameter(value: impl Borrow<u32>) -> u32 {
    *value.borrow()
}

/// A module's context while it is loaded. Dropping it finishes all work.
struct Installed {
    context: Arc<Context>,
    /// Goes last.
    _queue: OwnQueue,
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.context.finish();
    }
}

/// A loaded module: first no device is driven any more, which ends all tunnels; then
/// nobody can open the device; then what is left is freed.
pub struct Loaded<D: Driver> {
    _driver: Pin<KBox<Registration<Adapter<D>>>>,
    _chardev: Pin<KBox<CharDev>>,
    _installed: Installed,
}

impl<D: Driver> Loaded<D> {
    /// Loads the module `name`, which reaches other domains by the router that `router`
    /// makes. `waiting` is how its readers and writers wait.
    ///
    /// # Errors
    /// `ENODEV` without Xen; there is no memory; or the device's name is taken.
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
            context,
            _queue: queue,
        };
        let driver = KBox::pin_init(Registration::new(name, module), GFP_KERNEL)?;
        // Last: a file that is opened must not outlive an `init` that fails.
        let chardev = CharDev::register()?;
        Ok(Self {
            _driver: driver,
            _chardev: chardev,
            _installed: installed,
        })
    }
}

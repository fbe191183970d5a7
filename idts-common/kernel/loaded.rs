// SPDX-License-Identifier: GPL-2.0

//! What either module holds while it is loaded.

use idts_core::role::Role;
use kernel::driver::Registration;
use kernel::prelude::*;

use crate::dev::chardev::CharDev;
use crate::hub::Installed;
use crate::sys::busy_poll::WaitParams;
use crate::xen::xenbus::{Adapter, Driver, End};
use crate::xen::xenstore;

/// A loaded module, in the order of undoing: first no device is driven any more,
/// which ends all tunnels; then nobody can open the device; then what is left is
/// freed.
pub struct Loaded<D: Driver> {
    _driver: Pin<KBox<Registration<Adapter<D>>>>,
    _chardev: Pin<KBox<CharDev>>,
    _hub: Installed,
}

impl<D: Driver> Loaded<D> {
    /// Loads the module `name`; `ENODEV` without Xen. `waiting` is how its readers and writers wait.
    ///
    /// # Safety
    ///
    /// Called once, from the module's `init`.
    pub unsafe fn new(
        name: &'static CStr,
        module: &'static ThisModule,
        waiting: WaitParams,
    ) -> Result<Self> {
        if !xenstore::is_available() {
            return Err(ENODEV);
        }
        let role = match D::END {
            End::Front => Role::Front,
            End::Back => Role::Back,
        };
        // SAFETY: Once, as this function requires.
        let hub = unsafe { Installed::new(role, waiting)? };
        let driver = KBox::pin_init(Registration::new(name, module), GFP_KERNEL)?;
        // Last: a file that is opened must not outlive an `init` that fails.
        let chardev = CharDev::register()?;
        Ok(Self {
            _driver: driver,
            _chardev: chardev,
            _hub: hub,
        })
    }
}

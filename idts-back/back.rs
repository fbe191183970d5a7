// SPDX-License-Identifier: GPL-2.0

//! idts_back.ko: the backend, in dom0.

use idts_core::control::Role;
use idts_kernel::chardev::CharDev;
use idts_kernel::hub::{parameter, Installed};
use idts_kernel::xenbus::Adapter;
use kernel::driver::Registration;
use kernel::prelude::*;

mod driver;

/// What the module holds while it is loaded, in the order of undoing: first no
/// device is driven any more, which ends all tunnels; then nobody can open the
/// device; then what is left is freed.
struct IdtsBack {
    _driver: Pin<KBox<Registration<Adapter<driver::Back>>>>,
    _chardev: Pin<KBox<CharDev>>,
    _hub: Installed,
}

impl kernel::Module for IdtsBack {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Once, here.
        let hub =
            unsafe { Installed::new(Role::Back, parameter(module_parameters::poll_us.value()))? };
        let chardev = CharDev::register(module)?;
        let driver = KBox::pin_init(
            Registration::new(<Self as kernel::ModuleMetadata>::NAME, module),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _driver: driver,
            _chardev: chardev,
            _hub: hub,
        })
    }
}

module! {
    type: IdtsBack,
    name: "idts_back",
    authors: ["The IDTS authors"],
    description: "Inter-domain data transfer over shared memory: dom0 side",
    license: "GPL",
    alias: ["xen-backend:idts"],
    params: {
        poll_us: u32 {
            default: 50,
            description: "How long a reader or a writer looks again before it sleeps, in microseconds, at most 200; 0: not at all",
        },
    },
}

// SPDX-License-Identifier: GPL-2.0

//! idts_front.ko: the frontend, one in each guest.

use idts_core::control::Role;
use idts_kernel::chardev::CharDev;
use idts_kernel::hub::{parameter, Installed};
use idts_kernel::opening::keep_idle;
use idts_kernel::xenbus::Adapter;
use kernel::driver::Registration;
use kernel::prelude::*;

mod driver;

/// What the module holds while it is loaded, in the order of undoing: first no
/// device is driven any more, which ends all tunnels; then nobody can open the
/// device; then what is left is freed.
struct IdtsFront {
    _driver: Pin<KBox<Registration<Adapter<driver::Front>>>>,
    _chardev: Pin<KBox<CharDev>>,
    _hub: Installed,
}

impl kernel::Module for IdtsFront {
    fn init(module: &'static ThisModule) -> Result<Self> {
        keep_idle(parameter(module_parameters::idle_ms.value()));
        // SAFETY: Once, here.
        let hub =
            unsafe { Installed::new(Role::Front, parameter(module_parameters::poll_us.value()))? };
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
    type: IdtsFront,
    name: "idts_front",
    authors: ["The IDTS authors"],
    description: "Inter-domain data transfer over shared memory: guest side",
    license: "GPL",
    alias: ["xen:idts"],
    params: {
        poll_us: u32 {
            default: 50,
            description: "How long a reader or a writer looks again before it sleeps, in microseconds, at most 200; 0: not at all",
        },
        idle_ms: u32 {
            default: 3000,
            description: "How long shared memory that no channel uses is kept for the next one, in milliseconds",
        },
    },
}

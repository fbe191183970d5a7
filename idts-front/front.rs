// SPDX-License-Identifier: GPL-2.0

//! idts_front.ko: the frontend module, one in each guest.

use idts_kernel::module::{parameter, Loaded};
use idts_kernel::sys::busy_poll::WaitParams;
use idts_kernel::tunnel::keep_idle;
use idts_kernel::tunnel::payer::bound;
use kernel::prelude::*;

mod driver;
mod on_demand;

use self::on_demand::OnDemand;

struct IdtsFront {
    _loaded: Loaded<driver::Front>,
}

impl kernel::Module for IdtsFront {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let name = <Self as kernel::ModuleMetadata>::NAME;
        keep_idle(parameter(module_parameters::idle_ms.value()));
        bound(
            parameter(module_parameters::user_memory.value()),
            parameter(module_parameters::user_endpoints.value()),
            0,
        );
        let waiting = WaitParams {
            poll_us: parameter(module_parameters::poll_us.value()),
            halt: parameter(module_parameters::halt.value()) != 0,
        };
        // SAFETY: Once, here.
        let loaded = unsafe {
            Loaded::new(name, module, waiting, |_, registry| {
                OnDemand::router(registry)
            })?
        };
        Ok(Self { _loaded: loaded })
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
            default: 100,
            description: "How long a reader or a writer looks again before it sleeps, in microseconds, at most 200; 0: not at all",
        },
        halt: u32 {
            default: 1,
            description: "Whether, where nothing else is to be run, it halts the CPU in place before it sleeps; 0: never",
        },
        idle_ms: u32 {
            default: 3000,
            description: "How long shared memory that no channel uses is kept for the next one, in milliseconds",
        },
        user_memory: u32 {
            default: 64,
            description: "MiB of rings that a user without CAP_SYS_RESOURCE may have",
        },
        user_endpoints: u32 {
            default: 2048,
            description: "Endpoints, which are open files and connections that wait, that a user without CAP_SYS_RESOURCE may have",
        },
    },
}

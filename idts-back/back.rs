// SPDX-License-Identifier: GPL-2.0

//! idts_back.ko: the backend module, in dom0.

use idts_kernel::module::{parameter, Loaded};
use idts_kernel::sys::busy_poll::WaitParams;
use idts_kernel::tunnel::payer::bound;
use kernel::prelude::*;

mod broker;
mod driver;

use self::broker::Broker;

struct IdtsBack {
    _loaded: Loaded<driver::Back>,
}

impl kernel::Module for IdtsBack {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let name = <Self as kernel::ModuleMetadata>::NAME;
        bound(
            parameter(module_parameters::user_memory.value()),
            parameter(module_parameters::user_endpoints.value()),
            parameter(module_parameters::home_memory.value()),
        );
        let waiting = WaitParams {
            poll_us: parameter(module_parameters::poll_us.value()),
            halt: parameter(module_parameters::halt.value()) != 0,
        };
        driver::set_pace(
            parameter(module_parameters::setup_burst.value()),
            parameter(module_parameters::setup_ms.value()),
        );
        // SAFETY: Once, here.
        let loaded = unsafe { Loaded::new(name, module, waiting, Broker::router)? };
        Ok(Self { _loaded: loaded })
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
            default: 100,
            description: "How long a reader or a writer looks again before it sleeps, in microseconds, at most 200; 0: not at all",
        },
        halt: u32 {
            default: 1,
            description: "Whether, where nothing else is to be run, it halts the CPU in place before it sleeps; 0: never",
        },
        setup_burst: u32 {
            default: 8,
            description: "How often a guest may have its tunnel set up at once",
        },
        setup_ms: u32 {
            default: 5000,
            description: "After that, how long it waits for each, in milliseconds; 0: not at all",
        },
        user_memory: u32 {
            default: 64,
            description: "MiB of rings that a user without CAP_SYS_RESOURCE may have",
        },
        user_endpoints: u32 {
            default: 2048,
            description: "Endpoints, which are open files and connections that wait, that a user without CAP_SYS_RESOURCE may have",
        },
        home_memory: u32 {
            default: 0,
            description: "MiB of rings, of all users, between programs of this domain; 0: an eighth of its memory",
        },
    },
}

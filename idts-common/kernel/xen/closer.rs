// SPDX-License-Identifier: GPL-2.0

//! Asking the peer to close the device, where a lock is held or in haste.
//!
//! Xenstore may take long to answer, and as the domain is being saved it does not
//! until all devices are resumed, which wait for the locks. So a work item asks.

use idts_core::state::XenbusState;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

use crate::sys::work;
use crate::xen::xenbus::DeviceRef;

/// Switches a device to Closing.
#[pin_data]
pub(crate) struct Closer {
    /// The device to switch.
    device: DeviceRef,
    /// Switches it.
    #[pin]
    work: Work<Closer>,
}

impl_has_work! {
    impl HasWork<Self> for Closer { self.work }
}

impl Closer {
    /// Creates a closer that was not asked yet.
    pub(crate) fn new(device: DeviceRef) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                device,
                work <- new_work!("idts_closer"),
            }),
            GFP_KERNEL,
        )
    }

    /// Has it done soon.
    pub(crate) fn ask(self: &Arc<Self>) {
        let _ = work::queue().enqueue(self.clone());
    }

    /// Does not do it any more; done or not it is then.
    pub(crate) fn end(self: &Arc<Self>) {
        work::disable::<_, 0>(self);
    }

    /// The same, but leaves one that waits for xenstore waiting.
    pub(crate) fn end_later(self: &Arc<Self>) {
        work::disable_nosync::<_, 0>(self);
    }
}

impl WorkItem for Closer {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.device.switch_state(XenbusState::Closing);
    }
}

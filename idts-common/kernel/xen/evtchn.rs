// SPDX-License-Identifier: GPL-2.0

//! Event channels, bound to a handler with late EOI.
//!
//! Owns binding and unbinding. A handler says with its [`Eoi`] whether an event
//! brought work; Xen's event code slows a peer down that sends events for
//! nothing (drivers/xen/events/events_base.c, XSA-332 and XSA-391).

use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use crate::mem::revocable::AccessGuard;
use crate::sys::bindings;
use crate::xen::xenbus::Device;

/// What an event turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eoi {
    /// It brought work.
    Done,
    /// It brought nothing: a peer that goes on like this is delayed.
    Spurious,
}

/// Takes events in hard interrupt context: no locks, no sleeping.
pub(crate) trait Handler: Send + Sync + 'static {
    /// An event came on `irq`. `None`: it is not judged yet, and no other comes before
    /// [`late_eoi`] was called for it, which must be before the channel is dropped.
    fn on_event(this: ArcBorrow<'_, Self>, irq: u32) -> Option<Eoi>;
}

/// Ends an event that its handler did not judge. Once for each, and only while its
/// [`EventChannel`] is bound: another's events would come early otherwise.
pub(crate) fn late_eoi(irq: u32, eoi: Eoi) {
    let flags = match eoi {
        Eoi::Done => 0,
        Eoi::Spurious => bindings::XEN_EOI_FLAG_SPURIOUS,
    };
    // SAFETY: The interrupt of a channel that is bound, as documented: a handler that
    // runs keeps it so, and so does who waits for the handler's rest before unbinding.
    unsafe { bindings::xen_irq_lateeoi(irq, flags) };
}

/// A bound event channel. Dropping it waits for a running handler.
pub(crate) struct EventChannel<T: Handler> {
    irq: c_uint,
    handler: Arc<T>,
}

extern "C" fn trampoline<T: Handler>(irq: c_int, data: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `data` is the `Arc<T>` that the `EventChannel` holds until after
    // the handler was unbound; it is only shared.
    let handler = unsafe { ArcBorrow::from_raw(data.cast_const().cast::<T>()) };
    if let Some(eoi) = T::on_event(handler, irq as u32) {
        late_eoi(irq as u32, eoi);
    }
    bindings::irqreturn_IRQ_HANDLED
}

impl<T: Handler> EventChannel<T> {
    /// Allocates a port that the device's peer may bind, and binds our end. Comes with
    /// the port. `name` is shown in /proc/interrupts.
    pub(crate) fn offer(
        device: &Device,
        name: &'static CStr,
        handler: Arc<T>,
    ) -> Result<(Self, u32)> {
        let mut port = 0;
        // SAFETY: The device is valid; `port` is valid for writing.
        let result = unsafe { bindings::xenbus_alloc_evtchn(device.as_raw(), &mut port) };
        if result != 0 {
            return Err(Error::from_errno(result));
        }
        // SAFETY: The handler's data outlives the binding, see `Drop`.
        let irq = unsafe {
            bindings::bind_evtchn_to_irqhandler_lateeoi(
                port,
                Some(trampoline::<T>),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        if irq < 0 {
            // SAFETY: Allocated above and not bound.
            unsafe { bindings::xenbus_free_evtchn(device.as_raw(), port) };
            return Err(Error::from_errno(irq));
        }
        let irq = irq as c_uint;
        Ok((Self { irq, handler }, port))
    }

    /// Binds to the port that the device's peer offers.
    pub(crate) fn bind(
        device: &Device,
        port: u32,
        name: &'static CStr,
        handler: Arc<T>,
    ) -> Result<Self> {
        // SAFETY: The device is valid; the handler's data outlives the binding,
        // see `Drop`. Xen checks the port.
        let irq = unsafe {
            bindings::bind_interdomain_evtchn_to_irqhandler_lateeoi(
                device.as_raw(),
                port,
                Some(trampoline::<T>),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        if irq < 0 {
            return Err(Error::from_errno(irq));
        }
        let irq = irq as c_uint;
        Ok(Self { irq, handler })
    }

    /// Who hears its events.
    pub(crate) fn handler(&self) -> &T {
        &self.handler
    }

    /// The interrupt at this end, never 0: for [`notify`].
    pub(crate) fn irq(&self) -> u32 {
        self.irq
    }
}

impl<T: Handler> Drop for EventChannel<T> {
    fn drop(&mut self) {
        // SAFETY: Bound with this data; frees the irq, which waits for a
        // running handler, and closes the port.
        unsafe {
            bindings::unbind_from_irqhandler(self.irq, Arc::as_ptr(&self.handler).cast_mut().cast())
        };
    }
}

/// The CPU that this runs on, for as long as it does.
pub(crate) fn this_cpu() -> u32 {
    // SAFETY: No requirements.
    unsafe { bindings::idts_this_cpu() }
}

/// Sends an event on the interrupt of a bound [`EventChannel`]; on 0, none. `_live` is
/// of the gate that is closed before the channel is unbound.
pub(crate) fn notify(_live: &AccessGuard, irq: u32) {
    if irq != 0 {
        // SAFETY: An interrupt of an event channel, which stays bound while the gate's
        // `AccessGuard` is there.
        unsafe { bindings::notify_remote_via_irq(irq as c_int) };
    }
}

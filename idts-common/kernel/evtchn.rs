// SPDX-License-Identifier: GPL-2.0

//! Event channels, bound to a handler with late EOI.
//!
//! Owns binding and unbinding. A handler says with its [`Eoi`] whether an event
//! brought work; Xen's event code slows a peer down that sends events for
//! nothing (drivers/xen/events/events_base.c, XSA-332 and XSA-391).

use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use crate::bindings;
use crate::xenbus::Device;

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
    /// An event came.
    fn on_event(this: ArcBorrow<'_, Self>) -> Eoi;
}

/// A bound event channel. Dropping it waits for a running handler.
pub(crate) struct EventChannel<T: Handler> {
    irq: c_uint,
    port: u32,
    handler: Arc<T>,
}

extern "C" fn trampoline<T: Handler>(irq: c_int, data: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `data` is the `Arc<T>` that the `EventChannel` holds until after
    // the handler was unbound; it is only shared.
    let handler = unsafe { ArcBorrow::from_raw(data.cast_const().cast::<T>()) };
    let flags = match T::on_event(handler) {
        Eoi::Done => 0,
        Eoi::Spurious => bindings::XEN_EOI_FLAG_SPURIOUS,
    };
    // SAFETY: Exactly one late EOI for each event, on the event's own irq.
    unsafe { bindings::xen_irq_lateeoi(irq as c_uint, flags) };
    bindings::irqreturn_IRQ_HANDLED
}

impl<T: Handler> EventChannel<T> {
    /// Allocates a port that the device's peer may bind, and binds our end.
    /// `name` is shown in /proc/interrupts.
    pub(crate) fn offer(device: &Device, name: &'static CStr, handler: Arc<T>) -> Result<Self> {
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
        Ok(Self {
            irq: irq as c_uint,
            port,
            handler,
        })
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
        Ok(Self {
            irq: irq as c_uint,
            port,
            handler,
        })
    }

    /// The port, as the peer names it.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// What [`notify`] takes.
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

/// Sends an event. `irq` is that of an [`EventChannel`] that still lives.
pub(crate) fn notify(irq: u32) {
    // SAFETY: Looks the irq up; one that is not an event channel is ignored.
    unsafe { bindings::notify_remote_via_irq(irq as c_int) };
}

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
        let mut channel = Self {
            irq: irq as c_uint,
            port: 0,
            handler,
        };
        channel.port = local_port(device.peer(), port).ok_or(ENODEV)?;
        Ok(channel)
    }

    /// The port at this end.
    pub(crate) fn port(&self) -> u32 {
        self.port
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

/// Our port of the channel to a peer's port. The kernel keeps it to itself, so
/// Xen is asked of one port after the other, until there are no more.
fn local_port(peer: u16, remote: u32) -> Option<u32> {
    let mut status = bindings::evtchn_status {
        dom: bindings::DOMID_SELF as u16,
        ..Default::default()
    };
    while event_op(bindings::EVTCHNOP_status, &mut status) == 0 {
        if status.status == bindings::EVTCHNSTAT_interdomain {
            // SAFETY: Integers, and what the status says is there.
            let end = unsafe { status.u.interdomain };
            if (end.dom, end.port) == (peer, remote) {
                return Some(status.port);
            }
        }
        status.port = status.port.wrapping_add(1);
    }
    None
}

/// Sends an event on the port of an [`EventChannel`]. On any other, Xen refuses,
/// or somebody who waits for an event looks once in vain.
pub(crate) fn notify(port: u32) {
    let mut send = bindings::evtchn_send { port };
    event_op(bindings::EVTCHNOP_send, &mut send);
}

/// An operation that Xen does for any domain on its own ports.
fn event_op<T>(op: u32, argument: &mut T) -> c_int {
    // SAFETY: Xen checks what it is asked for; `argument` is what `op` takes, for
    // the two callers above.
    unsafe { bindings::idts_event_op(op as c_int, (&raw mut *argument).cast()) }
}

// SPDX-License-Identifier: GPL-2.0

//! Event channels, bound to a handler with late EOI.
//!
//! A handler says with its [`Eoi`] whether an event brought work, and Linux delays the events of
//! a peer that sends some for nothing (drivers/xen/events/events_base.c; XSA-332, XSA-391).
//! PROTOCOL.md section 6.4 says which events bring work.

use kernel::error::to_result;
use kernel::ffi::{c_int, c_uint, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

use crate::mem::revocable::AccessGuard;
use crate::sys::bindings;
use crate::xen::peer::Peer;

/// The verdict on an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eoi {
    /// It brought work.
    Done,
    /// It brought nothing. Linux delays what follows the second one in a row.
    Spurious,
}

/// Takes events in hard interrupt context: no locks, no sleeping.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Takes an event that came on `irq`, and returns what it was.
    ///
    /// `None`: the handler decides later, by [`late_eoi`], before the channel is dropped. Until
    /// then no other event comes.
    fn on_event(this: ArcBorrow<'_, Self>, irq: u32) -> Option<Eoi>;
}

/// Ends an event whose handler returned `None`.
///
/// Once for each such event, and only while its [`EventChannel`] is bound: another channel that
/// got the same `irq` would see its events early otherwise.
pub(crate) fn late_eoi(irq: u32, eoi: Eoi) {
    let flags = match eoi {
        Eoi::Done => 0,
        Eoi::Spurious => bindings::XEN_EOI_FLAG_SPURIOUS,
    };
    // SAFETY: The function takes any number and ignores one that is not bound. That it is ours
    // is up to the caller, as documented: the channel waits for a handler that runs, and its
    // owner for what the handler left, before it unbinds.
    unsafe { bindings::xen_irq_lateeoi(irq, flags) };
}

/// An event channel with its handler. Dropping it waits for a handler that runs, and closes the
/// port.
///
/// # Invariants
///
/// `irq` is bound to [`irq_handler`] with `handler` as its data, until this value is dropped.
pub(crate) struct EventChannel<T: Handler> {
    /// The interrupt at this end, never 0.
    irq: c_uint,
    /// The handler.
    handler: Arc<T>,
    /// The device that Linux accounts this channel to, until it is unbound.
    _accounted_to: Option<Peer>,
}

/// The C entry for events of a channel with handler `T`.
extern "C" fn irq_handler<T: Handler>(irq: c_int, data: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `data` is the `Arc<T>` that the `EventChannel` holds until after the handler was
    // unbound. It is only borrowed.
    let handler = unsafe { ArcBorrow::from_raw(data.cast_const().cast::<T>()) };
    if let Some(eoi) = T::on_event(handler, irq as u32) {
        late_eoi(irq as u32, eoi);
    }
    bindings::irqreturn_IRQ_HANDLED
}

impl<T: Handler> EventChannel<T> {
    /// Allocates a port that domain `peer` may bind, and binds this end to `handler`. `name` is
    /// shown in /proc/interrupts.
    ///
    /// Returns the channel and its port, which the caller tells the peer. Fails with Xen's errno
    /// (`ENOSPC` if this domain has no port left) or `ENOMEM`.
    pub(crate) fn alloc_unbound(
        peer: u16,
        name: &'static CStr,
        handler: Arc<T>,
    ) -> Result<(Self, u32)> {
        let mut port = 0;
        // SAFETY: `port` is valid for writing.
        to_result(unsafe { bindings::idts_alloc_unbound(peer, &mut port) })?;
        // SAFETY: The handler's data outlives the binding, see `Drop`. The name is static.
        let irq = unsafe {
            bindings::bind_evtchn_to_irqhandler_lateeoi(
                port,
                Some(irq_handler::<T>),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        if irq < 0 {
            // As Linux' own drivers do. It may have been closed with the interrupt, which
            // Xen says then.
            // SAFETY: The port was allocated above, and no channel has it.
            unsafe { bindings::idts_close_port(port) };
            return Err(Error::from_errno(irq));
        }
        // INVARIANT: Bound just now, with this data.
        let channel = Self {
            irq: irq as c_uint,
            handler,
            _accounted_to: None,
        };
        Ok((channel, port))
    }

    /// Binds this end to `handler`, and to `port`, which `peer` allocated for this domain. `name`
    /// is shown in /proc/interrupts.
    ///
    /// Fails with Xen's errno (`EINVAL` if the port is not one for us) or `ENOMEM`.
    ///
    /// Takes the peer's device and not only its id: Linux counts events and spurious ones in the
    /// device, delays by its `spurious_threshold`, and shows the delays as `jiffies_eoi_delayed`
    /// in /sys/bus/xen-backend, where an administrator finds a guest that storms. It has no
    /// call that binds by domain id and accounts. Linux keeps the pointer until the channel is
    /// unbound, without a count, which is why this value counts.
    pub(crate) fn bind_interdomain(
        peer: &Peer,
        port: u32,
        name: &'static CStr,
        handler: Arc<T>,
    ) -> Result<Self> {
        // SAFETY: The device lives as long as the binding, being kept beside it, and so does the
        // handler's data, see `Drop`. The name is static. Xen checks the port.
        let irq = unsafe {
            bindings::bind_interdomain_evtchn_to_irqhandler_lateeoi(
                peer.as_raw(),
                port,
                Some(irq_handler::<T>),
                0,
                name.as_char_ptr(),
                Arc::as_ptr(&handler).cast_mut().cast(),
            )
        };
        if irq < 0 {
            return Err(Error::from_errno(irq));
        }
        // INVARIANT: Bound just now, with this data.
        Ok(Self {
            irq: irq as c_uint,
            handler,
            _accounted_to: Some(peer.clone()),
        })
    }

    /// The handler of its events.
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
        // SAFETY: Bound with this data, as the invariant says. Frees the interrupt, which waits
        // for a handler that runs, and closes the port. The fields are dropped after this.
        unsafe {
            bindings::unbind_from_irqhandler(self.irq, Arc::as_ptr(&self.handler).cast_mut().cast())
        };
    }
}

/// Sends an event on the interrupt of an [`EventChannel`]; on 0, none.
///
/// The guard is of the `Revocable` that is revoked before the channel is dropped: otherwise the
/// event might go to another channel that got the same interrupt.
pub(crate) fn notify(_guard: &AccessGuard, irq: u32) {
    if irq != 0 {
        // SAFETY: The function takes any number and ignores one that is not bound.
        unsafe { bindings::notify_remote_via_irq(irq as c_int) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Xenbus: devices, drivers, states, and typed access to a device's nodes.
//!
//! Has the C entries of a xenbus driver, modelled on rust/kernel/auxiliary.rs. `idts_core::state`
//! decides what a state means, and the drivers carry it out. PROTOCOL.md sections 3 and 4;
//! drivers/xen/xenbus/xenbus_probe.c.

use core::marker::PhantomData;
use core::pin::Pin;

use idts_core::nodes;
use idts_core::state::XenbusState;
use kernel::device;
use kernel::driver::{DriverLayout, RegistrationOps};
use kernel::error::{from_result, to_result};
use kernel::ffi::{c_char, c_int, c_uint};
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::Arc;
use kernel::time::msecs_to_jiffies;
use kernel::types::Opaque;
use kernel::workqueue::{self, impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::sys::bindings;
use crate::sys::errno::Errno;
use crate::sys::work::disable_delayed;
use crate::xen::xenstore;

/// A `struct xenbus_device` that is bound to our driver, lent for one callback of [`Driver`].
///
/// # Invariants
///
/// The C structure is valid, and its driver is an [`Adapter`], while a reference to this exists.
#[repr(transparent)]
pub struct Device(Opaque<bindings::xenbus_device>);

// SAFETY: The methods call C functions that may run in any thread, and read or write one aligned
// word by one access, as those do.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

impl Device {
    /// Borrows what a C entry was called with.
    ///
    /// # Safety
    ///
    /// `dev` is valid, and bound to our driver, for `'a`.
    unsafe fn from_raw<'a>(dev: *mut bindings::xenbus_device) -> &'a Self {
        // SAFETY: `Device` is transparent over the C structure, which is valid for `'a`.
        // INVARIANT: As the caller guarantees.
        unsafe { &*dev.cast() }
    }

    /// The C structure, valid while `self` is borrowed.
    fn as_raw(&self) -> *mut bindings::xenbus_device {
        self.0.get()
    }

    /// The generic device, for the log.
    pub fn device(&self) -> &device::Device {
        // SAFETY: The embedded device lives as long as `self`.
        unsafe { device::Device::from_raw(&raw mut (*self.as_raw()).dev) }
    }

    /// The id of the domain at the other end. xenbus takes it from our own directory.
    pub fn peer(&self) -> u16 {
        // SAFETY: Set before probe and written again by a restore alone, which runs between
        // callbacks, as nothing else of the device does then.
        unsafe { (*self.as_raw()).otherend_id as u16 }
    }

    /// Our own state, as we wrote it last.
    pub fn state(&self) -> XenbusState {
        // SAFETY: One aligned word, which C writes without a lock, too.
        XenbusState::from_wire(unsafe { (&raw const (*self.as_raw()).state).read_volatile() })
    }

    /// Reads the peer's state from xenstore; `Unknown` if it cannot be read. Waits for xenstored.
    pub fn peer_state(&self) -> XenbusState {
        // SAFETY: The device is bound: `otherend` is set before probe, freed after remove, and
        // replaced by a restore, which runs between callbacks.
        XenbusState::from_wire(unsafe {
            bindings::xenbus_read_driver_state(self.as_raw(), (*self.as_raw()).otherend)
        })
    }

    /// Writes our state to xenstore, where the peer watches it.
    pub fn switch_state(&self, state: XenbusState) {
        // SAFETY: The device is valid, by the invariant.
        unsafe { switch_state(self.as_raw(), state) };
    }

    /// Reports an error to the toolstack, in xenstore's `error` directory, and to the log if `log`
    /// says that it may have a line.
    pub fn report_error(&self, error: Error, text: &CStr, log: bool) {
        if !log {
            // SAFETY: A C string that lives as long as the device.
            let node = unsafe { CStr::from_char_ptr((*self.as_raw()).nodename) };
            // Where `xenbus_dev_error` writes it. Without memory the toolstack is told less.
            if let Ok(dir) = CString::try_from_fmt(fmt!("error/{}", node)) {
                let value = fmt!("{} {}", error.to_errno().wrapping_neg(), text);
                let _ = xenstore::write(&dir, "error", value);
            }
            return;
        }
        // SAFETY: The device is valid, and the format takes one C string.
        unsafe {
            bindings::xenbus_dev_error(
                self.as_raw(),
                error.to_errno(),
                c"%s".as_char_ptr(),
                text.as_char_ptr(),
            )
        };
    }

    /// Tells Linux' shutdown path that this frontend is closed, and switches to Closed.
    pub fn frontend_closed(&self) {
        // SAFETY: The device is valid, by the invariant.
        unsafe { bindings::xenbus_frontend_closed(self.as_raw()) };
    }

    /// Forgets which state we wrote last: after a restore the nodes are gone, and what stands in
    /// new ones of the same name is not ours.
    fn forget_state(&self) {
        // SAFETY: One aligned word, which C writes without a lock, too.
        unsafe {
            (&raw mut (*self.as_raw()).state)
                .write_volatile(bindings::xenbus_state_XenbusStateUnknown)
        };
    }

    /// Returns whether the toolstack wants the device to stay. For backends.
    pub fn is_online(&self) -> bool {
        // SAFETY: The device is valid, by the invariant.
        unsafe { bindings::xenbus_dev_is_online(self.as_raw()) != 0 }
    }

    /// Writes a number into a node of ours. Fails with xenstored's errno.
    pub fn write(&self, node: &str, value: u32) -> Result {
        // SAFETY: `nodename` is a C string, fixed while the device lives.
        let dir = unsafe { CStr::from_char_ptr((*self.as_raw()).nodename) };
        xenstore::write(dir, node, value)
    }

    /// Reads a number from `min` to `max` that the peer wrote.
    ///
    /// Fails with `ENOENT` if the node is missing, with `EPROTO` if it holds anything but such a
    /// number, or with xenstored's errno.
    pub fn read_peer(&self, node: &str, min: u32, max: u32) -> Result<u32> {
        // SAFETY: `otherend` is a C string; as in `peer_state`.
        let dir = unsafe { CStr::from_char_ptr((*self.as_raw()).otherend) };
        let text = xenstore::read(dir, node)?;
        nodes::number(&text, min, max).ok_or(Errno::Proto.into())
    }
}

/// Writes the state of a device of ours, bound or not.
///
/// # Safety
///
/// `device` is valid.
unsafe fn switch_state(device: *mut bindings::xenbus_device, state: XenbusState) {
    // SAFETY: As the caller guarantees. The function touches our own node alone, and on a failure
    // it reports and closes the device itself.
    unsafe { bindings::xenbus_switch_state(device, state as c_uint) };
}

/// A counted reference to a device.
///
/// The device lives but need not be bound any more, so this type can do less than [`Device`].
///
/// # Invariants
///
/// The C structure is valid, and this value has one count of it.
pub struct DeviceRef(*mut bindings::xenbus_device);

// SAFETY: The device is counted and may be used from any thread.
unsafe impl Send for DeviceRef {}
// SAFETY: As above.
unsafe impl Sync for DeviceRef {}

impl From<&Device> for DeviceRef {
    fn from(device: &Device) -> Self {
        // SAFETY: The embedded device is valid, by the invariant.
        unsafe { bindings::get_device(&raw mut (*device.as_raw()).dev) };
        // INVARIANT: Counted just now.
        Self(device.as_raw())
    }
}

impl Clone for DeviceRef {
    fn clone(&self) -> Self {
        // SAFETY: Counted by `self`, so the embedded device is valid.
        unsafe { bindings::get_device(&raw mut (*self.0).dev) };
        // INVARIANT: Counted just now.
        Self(self.0)
    }
}

impl DeviceRef {
    /// The C structure, valid while `self` lives.
    pub(super) fn as_raw(&self) -> *mut bindings::xenbus_device {
        self.0
    }

    /// Writes our state to xenstore, where the peer watches it.
    pub(crate) fn switch_state(&self, state: XenbusState) {
        // SAFETY: Counted by `self`.
        unsafe { switch_state(self.0, state) };
    }
}

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: Counted by `self`, and given back once.
        unsafe { bindings::put_device(&raw mut (*self.0).dev) };
    }
}

/// The next step after a callback of [`Driver`] has returned, when nothing borrows the driver's
/// data any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Stay,
    /// Call [`Driver::peer_changed`] again in so many milliseconds.
    Again(u32),
    /// Unregister the device, which drops the driver's data.
    Unregister,
}

/// Which end of a xenbus device a driver is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `xenbus_register_frontend`.
    Front,
    /// `xenbus_register_backend`.
    Back,
}

/// A xenbus driver for devices of type `idts`.
///
/// `peer_changed` runs on the domain's one xenwatch thread, where it must wait neither for a
/// process nor for the peer. If it asked for that by [`Next::Again`], it runs on a work queue as
/// well, and the two calls may overlap.
pub trait Driver: 'static {
    /// Which end of the device the driver is for.
    const END: End;
    /// The driver's data of a bound device.
    type Data: Send + Sync + 'static;

    /// Binds a device. Right after this the peer's state is reported.
    fn probe(device: &Device) -> Result<Self::Data>;
    /// Reports the peer's state, which may be the same as before.
    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next;
    /// Gives everything back. After this xenbus writes Closed.
    fn unbind(device: &Device, data: &Self::Data);
    /// Reports that the domain was restored: the peer, its memory and its events belong to what
    /// was saved. No process runs, and xenstore does not answer yet.
    fn restored(data: &Self::Data);
}

/// A bound device: the driver's data, and the call that it asked for.
#[pin_data]
pub struct Bound<T: Driver> {
    /// The driver's data.
    data: T::Data,
    /// The device, bound for as long as `again` is not disabled.
    device: DeviceRef,
    /// Calls [`Driver::peer_changed`].
    #[pin]
    again: DelayedWork<Bound<T>>,
}

impl_has_delayed_work! {
    impl{T: Driver} HasDelayedWork<Bound<T>> for Bound<T> { self.again }
}

impl<T: Driver> Bound<T> {
    /// Binds `data` to a device. Fails with `ENOMEM`.
    fn new(device: &Device, data: T::Data) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                data,
                device: device.into(),
                again <- new_delayed_work!("idts_again"),
            }),
            GFP_KERNEL,
        )
    }

    /// Schedules a call of the driver in `ms` milliseconds, unless one is scheduled.
    fn call_again(self: &Arc<Self>, ms: u32) {
        // Freezable, because it looks at what a restore replaces. A call that is scheduled
        // already comes no later than it would have.
        let queue = workqueue::system_freezable();
        let _ = queue.enqueue_delayed(self.clone(), msecs_to_jiffies(ms));
    }
}

impl<T: Driver> WorkItem for Bound<T> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: Still bound: `remove_callback` waits for this, and disables the item.
        let device = unsafe { Device::from_raw(this.device.as_raw()) };
        match T::peer_changed(device, &this.data, device.peer_state()) {
            // Unregistering from here would wait for this item. The state that leads to it is
            // reported on xenwatch, too, which does it.
            Next::Stay | Next::Unregister => {}
            Next::Again(ms) => this.call_again(ms),
        }
    }
}

/// Connects a [`Driver`] to the C entries.
pub struct Adapter<T: Driver>(PhantomData<T>);

/// The device types that we drive: `idts`, and the end of the table.
#[repr(transparent)]
struct Ids([bindings::xenbus_device_id; 2]);

// SAFETY: Never written.
unsafe impl Sync for Ids {}

/// The table that xenbus matches devices by.
#[allow(clippy::indexing_slicing)] // Evaluated by the compiler.
static IDS: Ids = {
    let name = nodes::DEVICE.as_bytes();
    let mut ids = Ids([bindings::xenbus_device_id {
        devicetype: [0; 32],
    }; 2]);
    let mut i = 0;
    while i < name.len() {
        ids.0[0].devicetype[i] = name[i] as c_char;
        i += 1;
    }
    ids
};

// SAFETY: `xenbus_driver` is a C structure that embeds `driver`; `DriverData` is
// what `probe_callback` stores.
unsafe impl<T: Driver> DriverLayout for Adapter<T> {
    type DriverType = bindings::xenbus_driver;
    type DriverData<'bound> = Arc<Bound<T>>;
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(bindings::xenbus_driver, driver);
}

// SAFETY: `unregister` undoes a successful `register`.
unsafe impl<T: Driver> RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let driver = reg.get();
        // SAFETY: `reg` is valid, and no other thread sees it before it is registered.
        unsafe {
            (*driver).name = nodes_device_name();
            (*driver).ids = IDS.0.as_ptr();
            (*driver).not_essential = true;
            (*driver).probe = Some(Self::probe_callback);
            (*driver).remove = Some(Self::remove_callback);
            (*driver).otherend_changed = Some(Self::changed_callback);
            (*driver).driver.pm = Self::PM;
        }
        // SAFETY: `reg` stays pinned until `unregister`, as the caller guarantees.
        to_result(unsafe {
            match T::END {
                End::Front => bindings::__xenbus_register_frontend(
                    driver,
                    module.as_ptr(),
                    name.as_char_ptr(),
                ),
                End::Back => {
                    bindings::__xenbus_register_backend(driver, module.as_ptr(), name.as_char_ptr())
                }
            }
        })
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: Registered before, as the caller guarantees.
        unsafe { bindings::xenbus_unregister_driver(reg.get()) };
    }
}

/// The driver's name in sysfs.
fn nodes_device_name() -> *const c_char {
    c"idts".as_char_ptr()
}

impl<T: Driver> Adapter<T> {
    /// The bus has operations of its own for the phases freeze, thaw and restore. The phase
    /// before restore, restore_early, is the driver's.
    const PM: &'static bindings::dev_pm_ops = &bindings::dev_pm_ops {
        restore_early: Some(Self::restored_callback),
        ..pin_init::zeroed()
    };

    /// The bound device's data.
    ///
    /// # Safety
    ///
    /// Called between a successful probe and the end of remove.
    unsafe fn bound(device: &Device) -> Pin<&Arc<Bound<T>>> {
        // SAFETY: The generic device is embedded in ours. The type of context is that of bus
        // callbacks.
        let generic = unsafe {
            &*(&raw const (*device.as_raw()).dev).cast::<device::Device<device::CoreInternal<'_>>>()
        };
        // SAFETY: `probe_callback` stored one, as the caller guarantees.
        unsafe { generic.drvdata_borrow::<Arc<Bound<T>>>() }
    }

    /// `xenbus_driver.probe`.
    extern "C" fn probe_callback(
        raw: *mut bindings::xenbus_device,
        _id: *const bindings::xenbus_device_id,
    ) -> c_int {
        // SAFETY: xenbus calls this with a valid device, which it is binding.
        let device = unsafe { Device::from_raw(raw) };
        // SAFETY: As in `bound`.
        let generic =
            unsafe { &*(&raw const (*raw).dev).cast::<device::Device<device::CoreInternal<'_>>>() };
        from_result(|| {
            let bound = Bound::<T>::new(device, T::probe(device)?)?;
            generic.set_drvdata(Ok::<_, Error>(bound))?;
            Ok(0)
        })
    }

    /// `xenbus_driver.otherend_changed`.
    extern "C" fn changed_callback(
        raw: *mut bindings::xenbus_device,
        state: bindings::xenbus_state,
    ) {
        // SAFETY: xenbus calls this with a valid, bound device: it watches the peer after probe,
        // and waits for this call when it ends the watch before remove.
        let device = unsafe { Device::from_raw(raw) };
        // The borrow ends before `device_unregister`.
        let next = {
            // SAFETY: Bound, as above.
            let bound = unsafe { Self::bound(device) };
            let next = T::peer_changed(device, &bound.data, XenbusState::from_wire(state));
            if let Next::Again(ms) = next {
                bound.call_again(ms);
            }
            next
        };
        if next == Next::Unregister {
            // SAFETY: The device is registered, and nothing borrows its data.
            unsafe { bindings::device_unregister(&raw mut (*raw).dev) };
        }
    }

    /// `dev_pm_ops.restore_early`.
    extern "C" fn restored_callback(raw: *mut bindings::device) -> c_int {
        // SAFETY: Called for devices that our driver is bound to, which are embedded in xenbus
        // devices. Neither probe nor remove runs: the device's lock is held.
        let device =
            unsafe { Device::from_raw(kernel::container_of!(raw, bindings::xenbus_device, dev)) };
        device.forget_state();
        // SAFETY: Bound, as above.
        let bound = unsafe { Self::bound(device) };
        T::restored(&bound.data);
        0
    }

    /// `xenbus_driver.remove`.
    extern "C" fn remove_callback(raw: *mut bindings::xenbus_device) {
        // SAFETY: xenbus calls this with a valid, bound device.
        let device = unsafe { Device::from_raw(raw) };
        // SAFETY: Bound until this returns.
        let bound = unsafe { Self::bound(device) };
        disable_delayed::<_, 0>(&bound);
        T::unbind(device, &bound.data);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Xenbus: devices, drivers, state, and typed access to nodes.
//!
//! Owns the C entries of a xenbus driver. What a state change means is decided
//! by `idts_core::state` and carried out by the drivers. Modelled on
//! rust/kernel/auxiliary.rs.

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
use kernel::types::Opaque;

use crate::bindings;
use crate::errno::Errno;

/// A `struct xenbus_device` that is bound to our driver.
#[repr(transparent)]
pub struct Device(Opaque<bindings::xenbus_device>);

// SAFETY: All methods call C functions that may run in any thread.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

impl Device {
    /// # Safety
    ///
    /// `dev` is valid for `'a`.
    unsafe fn from_raw<'a>(dev: *mut bindings::xenbus_device) -> &'a Self {
        // SAFETY: `Device` is transparent over the C structure.
        unsafe { &*dev.cast() }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::xenbus_device {
        self.0.get()
    }

    /// The generic device.
    pub fn device(&self) -> &device::Device {
        // SAFETY: The embedded device lives as long as `self`.
        unsafe { device::Device::from_raw(&raw mut (*self.as_raw()).dev) }
    }

    /// The domain at the other end, as xenbus knows it.
    pub fn peer(&self) -> u16 {
        // SAFETY: Set before probe, fixed while bound.
        unsafe { (*self.as_raw()).otherend_id as u16 }
    }

    /// Our own state, as last written by us.
    pub fn state(&self) -> XenbusState {
        // SAFETY: A plain word, written by `switch_state`.
        XenbusState::from_wire(unsafe { (&raw const (*self.as_raw()).state).read_volatile() })
    }

    /// The peer's state, read now.
    pub fn peer_state(&self) -> XenbusState {
        // SAFETY: The device is valid; `otherend` is fixed while bound.
        XenbusState::from_wire(unsafe {
            bindings::xenbus_read_driver_state(self.as_raw(), (*self.as_raw()).otherend)
        })
    }

    /// Writes our state, which the peer watches.
    pub fn switch(&self, state: XenbusState) {
        // SAFETY: The device is valid. A failure is reported by xenbus itself,
        // which then closes the device.
        unsafe { bindings::xenbus_switch_state(self.as_raw(), state as c_uint) };
    }

    /// Tells the shutdown path that this frontend is closed, and switches to
    /// Closed.
    pub fn frontend_closed(&self) {
        // SAFETY: The device is valid.
        unsafe { bindings::xenbus_frontend_closed(self.as_raw()) };
    }

    /// Forgets what we wrote last, for the nodes are gone: what is written into
    /// new ones of the same name is not ours.
    fn forget_state(&self) {
        // SAFETY: A plain word; nobody else writes it while devices resume.
        unsafe {
            (&raw mut (*self.as_raw()).state)
                .write_volatile(bindings::xenbus_state_XenbusStateUnknown)
        };
    }

    /// Whether the toolstack wants the device to stay (backends).
    pub fn is_online(&self) -> bool {
        // SAFETY: The device is valid.
        unsafe { bindings::xenbus_dev_is_online(self.as_raw()) != 0 }
    }

    /// Writes a number into a node of ours.
    pub fn write(&self, node: &str, value: u32) -> Result {
        // SAFETY: `nodename` is a C string, fixed while the device lives.
        let dir = unsafe { CStr::from_char_ptr((*self.as_raw()).nodename) };
        write(dir, node, value)
    }

    /// Reads a number that the peer wrote, within `min` and `max`. A missing
    /// node is `ENOENT`, anything else that is not such a number `EPROTO`.
    pub fn read_peer(&self, node: &str, min: u32, max: u32) -> Result<u32> {
        // SAFETY: `otherend` is a C string, fixed while bound.
        let dir = unsafe { CStr::from_char_ptr((*self.as_raw()).otherend) };
        let text = read(dir, node)?;
        nodes::number(&text, min, max).ok_or(Errno::Proto.into())
    }
}

/// Writes a node of a directory.
pub(crate) fn write(dir: &CStr, node: &str, value: impl kernel::fmt::Display) -> Result {
    let node = CString::try_from_fmt(fmt!("{node}"))?;
    let value = CString::try_from_fmt(fmt!("{value}"))?;
    // SAFETY: All pointers are valid C strings.
    to_result(unsafe {
        bindings::xenbus_write(
            bindings::XBT_NIL,
            dir.as_char_ptr(),
            node.as_char_ptr(),
            value.as_char_ptr(),
        )
    })
}

/// Reads a node of a directory.
pub(crate) fn read(dir: &CStr, node: &str) -> Result<KVec<u8>> {
    let node = CString::try_from_fmt(fmt!("{node}"))?;
    let mut len: c_uint = 0;
    // SAFETY: All pointers are valid.
    let text = unsafe {
        bindings::xenbus_read(
            bindings::XBT_NIL,
            dir.as_char_ptr(),
            node.as_char_ptr(),
            &mut len,
        )
    };
    let text = kernel::error::from_err_ptr(text)?.cast::<u8>();
    let mut copy = KVec::new();
    // SAFETY: xenbus_read gives `len` bytes, private memory that is ours.
    let bytes = unsafe { core::slice::from_raw_parts(text, len as usize) };
    let copied = copy.extend_from_slice(bytes, GFP_KERNEL);
    // SAFETY: Allocated by xenbus_read with kmalloc, not used after this.
    unsafe { bindings::kfree(text.cast()) };
    copied?;
    Ok(copy)
}

/// A watch on a path of xenstore. Its function is called on the xenwatch
/// thread, once at the beginning and at every change of the path or below.
#[pin_data(PinnedDrop)]
pub(crate) struct Watch {
    #[pin]
    raw: Opaque<bindings::xenbus_watch>,
    function: fn(&[u8]),
}

// SAFETY: Registered and unregistered from any thread.
unsafe impl Send for Watch {}
// SAFETY: As above.
unsafe impl Sync for Watch {}

impl Watch {
    /// Watches `path`.
    pub(crate) fn new(path: &'static CStr, function: fn(&[u8])) -> Result<Pin<KBox<Self>>> {
        let watch = KBox::pin_init(
            pin_init!(Self {
                raw: Opaque::zeroed(),
                function,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Not registered yet; pinned until `drop` unregistered it.
        to_result(unsafe {
            let raw = watch.raw.get();
            (*raw).node = path.as_char_ptr();
            (*raw).callback = Some(Self::callback);
            bindings::register_xenbus_watch(raw)
        })?;
        Ok(watch)
    }

    extern "C" fn callback(
        raw: *mut bindings::xenbus_watch,
        path: *const c_char,
        _token: *const c_char,
    ) {
        // SAFETY: `raw` is the field of a `Watch` that is registered.
        let watch = unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) };
        // SAFETY: xenbus passes a C string.
        let path = unsafe { CStr::from_char_ptr(path) };
        (watch.function)(path.to_bytes());
    }
}

#[pinned_drop]
impl PinnedDrop for Watch {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: A watch that was not registered has no callback; the call
        // waits for one that runs.
        unsafe {
            if !(*self.raw.get()).list.next.is_null() {
                bindings::unregister_xenbus_watch(self.raw.get());
            }
        }
    }
}

/// A counted reference to a device.
pub struct DeviceRef(*mut bindings::xenbus_device);

// SAFETY: The device is counted and may be used from any thread.
unsafe impl Send for DeviceRef {}
// SAFETY: As above.
unsafe impl Sync for DeviceRef {}

impl From<&Device> for DeviceRef {
    fn from(device: &Device) -> Self {
        // SAFETY: The embedded device is valid.
        unsafe { bindings::get_device(&raw mut (*device.as_raw()).dev) };
        Self(device.as_raw())
    }
}

impl Clone for DeviceRef {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl core::ops::Deref for DeviceRef {
    type Target = Device;

    fn deref(&self) -> &Device {
        // SAFETY: Counted, so valid while `self` lives.
        unsafe { Device::from_raw(self.0) }
    }
}

impl Drop for DeviceRef {
    fn drop(&mut self) {
        // SAFETY: Counted once by `self`.
        unsafe { bindings::put_device(&raw mut (*self.0).dev) };
    }
}

/// What is to be done after a callback has returned, when nothing borrows the
/// driver's data any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Stay,
    /// Unregister the device; this drops the driver's data.
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
/// `peer_changed` runs on the one xenwatch thread of the domain: it never waits
/// for a process or for the peer.
pub trait Driver: 'static {
    /// Which end.
    const END: End;
    /// What belongs to a bound device.
    type Data: Send + Sync + 'static;

    /// Binds a device. The peer's state is reported right after this.
    fn probe(device: &Device) -> Result<Self::Data>;
    /// The peer's state is `state`; it may be reported more than once.
    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next;
    /// Gives everything back; xenbus writes Closed after this.
    fn unbind(device: &Device, data: &Self::Data);
    /// The domain was restored: the peer, its memory and its events are another
    /// domain's past. No process runs, and xenstore does not answer yet.
    fn restored(data: &Self::Data);
}

/// Connects a [`Driver`] to the C entries.
pub struct Adapter<T: Driver>(PhantomData<T>);

/// The device types that we drive: `idts`, and the end of the table.
#[repr(transparent)]
struct Ids([bindings::xenbus_device_id; 2]);

// SAFETY: Never written.
unsafe impl Sync for Ids {}

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

// SAFETY: `xenbus_driver` is a C structure that embeds `driver`; `Data` is what
// `probe_callback` stores.
unsafe impl<T: Driver> DriverLayout for Adapter<T> {
    type DriverType = bindings::xenbus_driver;
    type DriverData<'bound> = T::Data;
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
        // SAFETY: Fields may be set until the driver is registered.
        unsafe {
            (*driver).name = nodes_device_name();
            (*driver).ids = IDS.0.as_ptr();
            (*driver).not_essential = true;
            (*driver).probe = Some(Self::probe_callback);
            (*driver).remove = Some(Self::remove_callback);
            (*driver).otherend_changed = Some(Self::changed_callback);
            (*driver).driver.pm = Self::PM;
        }
        // SAFETY: `reg` stays pinned until `unregister`.
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
    /// The bus has operations of its own for the phases freeze, thaw and
    /// restore; the phase before, restore_early, it leaves to drivers.
    const PM: &'static bindings::dev_pm_ops = &bindings::dev_pm_ops {
        restore_early: Some(Self::restored_callback),
        ..pin_init::zeroed()
    };

    /// The bound device's data.
    ///
    /// # Safety
    ///
    /// Between a successful probe and the end of remove.
    unsafe fn data(device: &Device) -> Pin<&T::Data> {
        // SAFETY: The generic device is embedded in ours; the context type is
        // the one of bus callbacks.
        let generic = unsafe {
            &*(&raw const (*device.as_raw()).dev).cast::<device::Device<device::CoreInternal<'_>>>()
        };
        // SAFETY: `probe_callback` stored a `T::Data`.
        unsafe { generic.drvdata_borrow::<T::Data>() }
    }

    extern "C" fn probe_callback(
        raw: *mut bindings::xenbus_device,
        _id: *const bindings::xenbus_device_id,
    ) -> c_int {
        // SAFETY: xenbus calls this with a valid device.
        let device = unsafe { Device::from_raw(raw) };
        // SAFETY: As in `data`.
        let generic =
            unsafe { &*(&raw const (*raw).dev).cast::<device::Device<device::CoreInternal<'_>>>() };
        from_result(|| {
            let data = T::probe(device)?;
            generic.set_drvdata(Ok::<_, Error>(data))?;
            Ok(0)
        })
    }

    extern "C" fn changed_callback(
        raw: *mut bindings::xenbus_device,
        state: bindings::xenbus_state,
    ) {
        // SAFETY: xenbus calls this with a valid, bound device, and never at the
        // same time as probe or remove.
        let device = unsafe { Device::from_raw(raw) };
        // The borrow ends before `device_unregister`.
        let next = {
            // SAFETY: Bound, as above.
            let data = unsafe { Self::data(device) };
            T::peer_changed(device, &data, XenbusState::from_wire(state))
        };
        if next == Next::Unregister {
            // SAFETY: The device is registered; nothing borrows its data.
            unsafe { bindings::device_unregister(&raw mut (*raw).dev) };
        }
    }

    extern "C" fn restored_callback(raw: *mut bindings::device) -> c_int {
        // SAFETY: Called for devices that our driver is bound to, and these are
        // embedded in xenbus devices. Neither probe nor remove runs.
        let device =
            unsafe { Device::from_raw(kernel::container_of!(raw, bindings::xenbus_device, dev)) };
        device.forget_state();
        // SAFETY: Bound, as above.
        let data = unsafe { Self::data(device) };
        T::restored(&data);
        0
    }

    extern "C" fn remove_callback(raw: *mut bindings::xenbus_device) {
        // SAFETY: xenbus calls this with a valid, bound device.
        let device = unsafe { Device::from_raw(raw) };
        // SAFETY: Bound until this returns.
        let data = unsafe { Self::data(device) };
        T::unbind(device, &data);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Xenstore: whether it is available, its nodes, and watches on them.
//!
//! PROTOCOL.md section 3 has the nodes. What another domain can write is bytes, not text.

use core::pin::Pin;

use kernel::error::to_result;
use kernel::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::types::Opaque;

use crate::sys::bindings;

/// Returns whether this is a domain of Xen's with a xenstore. Elsewhere most of xenbus does not
/// work, and some of it is a BUG.
pub(crate) fn is_available() -> bool {
    // SAFETY: The function reads two words that are set at boot.
    unsafe { bindings::idts_has_xenbus() }
}

/// Writes a node of a directory. Waits for xenstored, and fails with its errno, or `ENOMEM`.
pub fn write(dir: &CStr, node: &str, value: impl kernel::fmt::Display) -> Result {
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

/// Reads a node of a directory. Waits for xenstored, and fails with its errno (`ENOENT` if there
/// is no such node), or `ENOMEM`.
pub fn read(dir: &CStr, node: &str) -> Result<KVec<u8>> {
    let node = CString::try_from_fmt(fmt!("{node}"))?;
    let mut len: c_uint = 0;
    // SAFETY: The strings are valid C strings, and `len` is valid for writing.
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
    // SAFETY: xenbus_read returned `len` bytes of private memory, which is ours.
    let bytes = unsafe { core::slice::from_raw_parts(text, len as usize) };
    let copied = copy.extend_from_slice(bytes, GFP_KERNEL);
    // SAFETY: Allocated by xenbus_read with kmalloc, and not used after this.
    unsafe { bindings::kfree(text.cast()) };
    copied?;
    Ok(copy)
}

/// A watch on a path of xenstore.
///
/// Its function is called on the xenwatch thread, once at the beginning and at each change of the
/// path or below, with the path that changed.
///
/// The watch is registered when xenstored runs. In the domain that runs xenstored that may be
/// long after this module is loaded, and a request before would wait for it and have xenbus
/// believe that it runs.
#[pin_data(PinnedDrop)]
pub struct Watch {
    /// The C structure of the watch.
    #[pin]
    raw: Opaque<bindings::xenbus_watch>,
    /// Called when xenstored runs.
    #[pin]
    notifier: Opaque<bindings::notifier_block>,
    /// Whether xenbus has the watch.
    registered: Atomic<bool>,
    /// The errno with which xenbus refused it, or 0.
    error: Atomic<c_int>,
    /// Called with the path that changed.
    function: fn(&[u8]),
}

// SAFETY: xenbus registers and unregisters watches in any thread.
unsafe impl Send for Watch {}
// SAFETY: A shared reference touches the atomic words and the function alone; `raw` and
// `notifier` are C's, which has locks of its own.
unsafe impl Sync for Watch {}

impl Watch {
    /// Watches `path` as soon as xenstored runs.
    ///
    /// Fails with `ENOMEM`, or with xenbus' errno if xenstored runs already. If it does not, a
    /// later failure is in the log alone.
    pub fn new(path: &'static CStr, function: fn(&[u8])) -> Result<Pin<KBox<Self>>> {
        let watch = KBox::pin_init(
            pin_init!(Self {
                raw: Opaque::zeroed(),
                notifier: Opaque::zeroed(),
                registered: Atomic::new(false),
                error: Atomic::new(0),
                function,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Neither is registered yet, so no other thread sees them. Both stay pinned
        // until `drop` has unregistered them.
        unsafe {
            let raw = watch.raw.get();
            (*raw).node = path.as_char_ptr();
            (*raw).callback = Some(Self::callback);
            let notifier = watch.notifier.get();
            (*notifier).notifier_call = Some(Self::present);
            bindings::register_xenstore_notifier(notifier);
        }
        // `present` may have been called at once.
        to_result(watch.error.load(Relaxed))?;
        Ok(watch)
    }

    /// The notifier's call: xenstored runs. Called once, by `register_xenstore_notifier` itself or
    /// later by its chain.
    extern "C" fn present(
        notifier: *mut bindings::notifier_block,
        _action: c_ulong,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: `notifier` is the field of a `Watch`, which lives until `drop` has taken it off
        // the chain, which waits for this call.
        let watch = unsafe { &*kernel::container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: Filled in by `new`, and not registered: this is called once.
        let error = unsafe { bindings::register_xenbus_watch(watch.raw.get()) };
        watch.registered.store(error == 0, Relaxed);
        watch.error.store(error, Relaxed);
        if error != 0 {
            pr_err!("a path of xenstore cannot be watched: {}\n", error);
        }
        // Never an error, which would keep the others on the chain from being called.
        bindings::NOTIFY_DONE as c_int
    }

    /// The watch's call.
    extern "C" fn callback(
        raw: *mut bindings::xenbus_watch,
        path: *const c_char,
        _token: *const c_char,
    ) {
        // SAFETY: `raw` is the field of a registered `Watch`, and unregistering waits for this.
        let watch = unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) };
        // SAFETY: xenbus passes a C string.
        let path = unsafe { CStr::from_char_ptr(path) };
        (watch.function)(path.to_bytes());
    }
}

#[pinned_drop]
impl PinnedDrop for Watch {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Waits for `present`, if that runs. A notifier that is not on the chain is not
        // found there.
        unsafe { bindings::unregister_xenstore_notifier(self.notifier.get()) };
        if self.registered.load(Relaxed) {
            // SAFETY: xenbus has it, as `present` noted. Waits for a callback that runs.
            unsafe { bindings::unregister_xenbus_watch(self.raw.get()) };
        }
    }
}

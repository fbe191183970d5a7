// SPDX-License-Identifier: GPL-2.0

//! User memory: iterators over a buffer that an ioctl names, and faulting buffers in.
//!
//! Copies run with page faults disabled, in an RCU section and under a channel's lock
//! (`mem::shared`). One that came up short lets go of these, faults the buffer in here and tries
//! again, so a buffer on userfaultfd or FUSE holds up its owner alone.

use kernel::error::to_result;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::types::Opaque;

use crate::sys::bindings;

/// A buffer of the calling process, as an iterator.
///
/// # Invariants
///
/// An initialised `iov_iter` of type ubuf, which is plain data and may be moved.
pub(crate) struct UserBuffer(Opaque<bindings::iov_iter>);

impl UserBuffer {
    /// Creates an iterator over `len` bytes at `at`.
    ///
    /// Fails with `EFAULT` if the range is not below the end of user memory. Whether anything is
    /// mapped there is up to the copies.
    fn new(direction: u32, at: u64, len: u32) -> Result<Self> {
        let buffer = Self(Opaque::zeroed());
        // SAFETY: Writes the iterator, which refers to nothing but the address. The copies
        // through it expect any address.
        to_result(unsafe {
            bindings::import_ubuf(
                direction as i32,
                at as *mut kernel::ffi::c_void,
                len as usize,
                buffer.0.get(),
            )
        })?;
        // INVARIANT: `import_ubuf` succeeded.
        Ok(buffer)
    }

    /// Runs `f` on a buffer of `len` bytes at `at` to read from. Fails as [`Self::new`].
    pub(crate) fn source<R>(
        at: u64,
        len: u32,
        f: impl FnOnce(&mut IovIterSource<'_>) -> R,
    ) -> Result<R> {
        let buffer = Self::new(bindings::ITER_SOURCE, at, len)?;
        // SAFETY: Initialised, for reading, and used through this reference alone.
        Ok(f(unsafe { IovIterSource::from_raw(buffer.0.get()) }))
    }

    /// Runs `f` on a buffer of `len` bytes at `at` to write to. Fails as [`Self::new`].
    pub(crate) fn dest<R>(
        at: u64,
        len: u32,
        f: impl FnOnce(&mut IovIterDest<'_>) -> R,
    ) -> Result<R> {
        let buffer = Self::new(bindings::ITER_DEST, at, len)?;
        // SAFETY: Initialised, for writing, and used through this reference alone.
        Ok(f(unsafe { IovIterDest::from_raw(buffer.0.get()) }))
    }
}

/// The most that is faulted in of a stream's buffer: a copy takes no more at once.
const STREAM_BYTES: u32 = 64 * 1024;

/// The number of bytes to fault in, of `len`, where `need` of them must be present.
fn bytes_to_fault_in(len: usize, need: u32) -> usize {
    len.min(need.max(STREAM_BYTES) as usize)
}

/// Returns whether enough is present, after `want` bytes were faulted in but for the last `left`.
fn check_faulted_in(want: usize, left: usize, need: u32) -> Result {
    signal_check()?;
    if want.saturating_sub(left) < want.min(need as usize) {
        return Err(EFAULT);
    }
    Ok(())
}

/// Faults a destination in, of which `need` bytes must be present: all of a record, one byte of a
/// stream.
///
/// Fails with `EFAULT` if they are not, with `ERESTARTSYS` on a signal. Sleeps for as long as the
/// buffer's owner likes: the caller holds nothing.
pub(crate) fn fault_in_writable(to: &mut IovIterDest<'_>, need: u32) -> Result {
    let want = bytes_to_fault_in(to.len(), need);
    // SAFETY: The iterator is valid, being borrowed.
    let left = unsafe { bindings::fault_in_iov_iter_writeable(to.as_raw(), want) };
    check_faulted_in(want, left, need)
}

/// Faults a source in, otherwise as [`fault_in_writable`].
pub(crate) fn fault_in_readable(from: &mut IovIterSource<'_>, need: u32) -> Result {
    let want = bytes_to_fault_in(from.len(), need);
    // SAFETY: The iterator is valid, being borrowed.
    let left = unsafe { bindings::fault_in_iov_iter_readable(from.as_raw(), want) };
    check_faulted_in(want, left, need)
}

/// Fails with `ERESTARTSYS` if the task has a signal: a buffer that is taken away again and again
/// must not keep a killed process.
pub(crate) fn signal_check() -> Result {
    if kernel::current!().signal_pending() {
        Err(ERESTARTSYS)
    } else {
        Ok(())
    }
}

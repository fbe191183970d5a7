// SPDX-License-Identifier: GPL-2.0

//! User memory: a buffer that an ioctl names, as what read(2) and write(2) get, and
//! faulting buffers in, with nothing held.

use kernel::error::to_result;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::types::Opaque;

use crate::sys::bindings;

/// A buffer of the calling process.
pub(crate) struct UserBuffer(Opaque<bindings::iov_iter>);

impl UserBuffer {
    /// `len` bytes at `at`; `EFAULT` where no process has memory.
    fn new(direction: u32, at: u64, len: u32) -> Result<Self> {
        let buffer = Self(Opaque::zeroed());
        // SAFETY: Writes the iterator, which refers to nothing but the address:
        // that is looked at by the copies, which expect any.
        to_result(unsafe {
            bindings::import_ubuf(
                direction as i32,
                at as *mut kernel::ffi::c_void,
                len as usize,
                buffer.0.get(),
            )
        })?;
        Ok(buffer)
    }

    /// Runs `f` on a buffer to read from.
    pub(crate) fn source<R>(
        at: u64,
        len: u32,
        f: impl FnOnce(&mut IovIterSource<'_>) -> R,
    ) -> Result<R> {
        let buffer = Self::new(bindings::ITER_SOURCE, at, len)?;
        // SAFETY: Initialised above, for reading, and ours alone.
        Ok(f(unsafe { IovIterSource::from_raw(buffer.0.get()) }))
    }

    /// Runs `f` on a buffer to write to.
    pub(crate) fn dest<R>(
        at: u64,
        len: u32,
        f: impl FnOnce(&mut IovIterDest<'_>) -> R,
    ) -> Result<R> {
        let buffer = Self::new(bindings::ITER_DEST, at, len)?;
        // SAFETY: Initialised above, for writing, and ours alone.
        Ok(f(unsafe { IovIterDest::from_raw(buffer.0.get()) }))
    }
}

/// A copy takes no more at once, so more of a stream's buffer need not be there.
const AT_ONCE: u32 = 64 * 1024;

/// Bytes to fault in at once, of `len`, where `need` of them must be there.
fn fault_in(len: usize, need: u32) -> usize {
    len.min(need.max(AT_ONCE) as usize)
}

/// Judges what came of faulting in `want` bytes, of which `left` could not be.
fn judge(want: usize, left: usize, need: u32) -> Result {
    signal_check()?;
    if want.saturating_sub(left) < want.min(need as usize) {
        return Err(EFAULT);
    }
    Ok(())
}

/// Faults a destination in, of which `need` bytes must be there: a record is
/// taken as a whole, of a stream one byte is of use. May sleep for as long as
/// the buffer's owner likes.
pub(crate) fn fault_in_writable(to: &mut IovIterDest<'_>, need: u32) -> Result {
    let want = fault_in(to.len(), need);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_writeable(to.as_raw(), want) };
    judge(want, left, need)
}

/// Faults a source in, as [`fault_in_writable`].
pub(crate) fn fault_in_readable(from: &mut IovIterSource<'_>, need: u32) -> Result {
    let want = fault_in(from.len(), need);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_readable(from.as_raw(), want) };
    judge(want, left, need)
}

/// A buffer that is taken away again and again must not keep a killed process.
fn signal_check() -> Result {
    if kernel::current!().signal_pending() {
        Err(ERESTARTSYS)
    } else {
        Ok(())
    }
}

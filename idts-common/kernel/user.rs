// SPDX-License-Identifier: GPL-2.0

//! A user's buffer that an ioctl names, as what read(2) and write(2) get.

use kernel::error::to_result;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;
use kernel::types::Opaque;

use crate::bindings;

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

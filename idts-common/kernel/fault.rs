// SPDX-License-Identifier: GPL-2.0

//! Faulting a user's buffer in, with nothing held.

use idts_core::wire;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;

use crate::bindings;

/// Bytes to fault in at once, of `len`, where `need` of them must be there.
fn fault_in(len: usize, need: u32) -> usize {
    len.min(need.max(wire::WINDOW) as usize)
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

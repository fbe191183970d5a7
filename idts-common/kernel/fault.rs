// SPDX-License-Identifier: GPL-2.0

//! Faulting a user's buffer in, with nothing held.

use idts_core::wire::{self, Kind};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;

use crate::bindings;

/// Bytes to fault in at once, of `len`. A record must be there as a whole.
fn fault_in(len: usize, kind: Kind) -> usize {
    match kind {
        Kind::Stream => len.min(wire::WINDOW as usize),
        _ => len.min(wire::RING_MAX as usize),
    }
}

/// Faults a destination in; may sleep for as long as the buffer's owner likes.
pub(crate) fn fault_in_writable(to: &mut IovIterDest<'_>, kind: Kind) -> Result {
    let want = fault_in(to.len(), kind);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_writeable(to.as_raw(), want) };
    if left == want {
        return Err(EFAULT);
    }
    signal_check()
}

/// Faults a source in, as [`fault_in_writable`].
pub(crate) fn fault_in_readable(from: &mut IovIterSource<'_>, kind: Kind) -> Result {
    let want = fault_in(from.len(), kind);
    // SAFETY: The iterator is valid.
    let left = unsafe { bindings::fault_in_iov_iter_readable(from.as_raw(), want) };
    if left == want {
        return Err(EFAULT);
    }
    signal_check()
}

/// A buffer that is taken away again and again must not keep a killed process.
fn signal_check() -> Result {
    if kernel::current!().signal_pending() {
        Err(ERESTARTSYS)
    } else {
        Ok(())
    }
}

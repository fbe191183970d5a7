// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks of a command, of which a thread that died left nothing half done.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whoever had it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// SPDX-License-Identifier: GPL-2.0
//! What guests are told, that a tunnel comes when they ask for it, and who holds
//! that: a `watch` that may be killed at any time. Whoever promises has a lock; who
//! finds it free, and a note that there were promises, takes them away.

use std::io::{self, Write};

use anyhow::{Context, Result};
use idts_xenstore::DOMAINS;

use crate::command::Manager;
use crate::lock::Lock;
use crate::model::tell_on_demand;
use crate::sweep;

/// Locked, and with something in it, by those who promise.
const FILE: &str = "run/tunnel-mgr.watch";

/// Promises from now on, until this is dropped.
pub fn make(manager: &Manager<'_>) -> Result<Lock> {
    let path = manager.kernel.root.join(FILE);
    let note = || -> io::Result<Lock> {
        let mut lock = Lock::wait(&path, true)?;
        lock.file().write_all(b"on-demand\n")?;
        Ok(lock)
    };
    note().with_context(|| format!("cannot lock {}", path.display()))
}

/// Takes away what nobody holds any more; false if somebody else promises now.
pub fn settle(manager: &mut Manager<'_>) -> Result<bool> {
    let path = manager.kernel.root.join(FILE);
    let lock = Lock::try_alone(&path);
    let mut lock = match lock.with_context(|| format!("cannot lock {}", path.display()))? {
        Some(Some(lock)) => lock,
        // Nobody ever promised anything.
        None => return Ok(true),
        Some(None) => return Ok(false),
    };
    if lock.file().metadata()?.len() > 0 {
        for id in sweep::ids(manager.store, DOMAINS)? {
            tell_on_demand(manager.store, id, manager.domain, false)?;
        }
        lock.file().set_len(0)?;
    }
    Ok(true)
}

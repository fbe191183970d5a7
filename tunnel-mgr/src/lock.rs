// SPDX-License-Identifier: GPL-2.0
//! Locks that end with the program, however it ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

/// A file that is locked until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits for the lock, which many may share, or one alone may have.
    pub fn wait(path: &Path, is_shared: bool) -> io::Result<Self> {
        // Who can open it can lock it.
        let file = File::options()
            .read(true)
            .write(true)
            .mode(0o600)
            .create(true)
            .truncate(false)
            .open(path)?;
        let how = match is_shared {
            true => FlockOperation::LockShared,
            false => FlockOperation::LockExclusive,
        };
        loop {
            match flock(&file, how) {
                Err(Errno::INTR) => {}
                result => return result.map(|()| Self(file)).map_err(Into::into),
            }
        }
    }

    /// The lock for one alone, none if somebody has it; and none at all where there is
    /// no file.
    pub fn try_alone(path: &Path) -> io::Result<Option<Option<Self>>> {
        let file = match File::options().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(Some(None)),
            result => result.map(|()| Some(Some(Self(file)))).map_err(Into::into),
        }
    }

    /// What is locked.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

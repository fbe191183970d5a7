// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose files are followed and written, and what the others get.

use std::io;

use rustix::fs::Stat;
use rustix::process::geteuid;

/// What is the caller's or root's is not another's trap.
pub fn is_trusted(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

pub fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What publishers and subscribers share: the group's name, the request that
//! joins it, and errors that name it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use idts_core::{policy, uapi};
use rustix::io::Errno;

use crate::endpoint::{insist, Endpoint, Waiting};
use crate::error::{Error, Result};
use crate::info::Info;
use crate::sys;

/// Joins the group `name` by `join`, one of `sys::publish` and `sys::subscribe`.
pub fn join(
    name: &str,
    call: &'static str,
    request: uapi::Group,
    join: impl Fn(BorrowedFd<'_>, uapi::Group) -> rustix::io::Result<()>,
) -> Result<Member> {
    let failed = |cause| Error::Group {
        group: name.into(),
        call,
        cause,
    };
    let name_bytes = to_raw(name).map_err(failed)?;
    let fd = sys::open().map_err(|errno| Error::Open {
        cause: errno.into(),
    })?;
    let request = uapi::Group {
        name: name_bytes,
        ..request
    };
    insist(|| join(fd.as_fd(), request)).map_err(|errno| failed(errno.into()))?;
    Ok(Member {
        endpoint: Endpoint::new(fd, true),
        group: name.into(),
    })
}

/// The name as the driver takes it.
fn to_raw(name: &str) -> io::Result<[u8; uapi::NAME_MAX]> {
    let mut raw = [0; uapi::NAME_MAX];
    let name = name.as_bytes();
    match raw.get_mut(..name.len()) {
        Some(place) if policy::is_name(name) => place.copy_from_slice(name),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a group's name is a lower-case letter, then letters, digits and hyphens, \
                     {} in all at most, and not `all`, `none` or `dom0`",
                    uapi::NAME_MAX
                ),
            ));
        }
    }
    Ok(raw)
}

/// An endpoint that belongs to a group.
#[derive(Debug)]
pub struct Member {
    pub endpoint: Endpoint,
    pub group: String,
}

/// Of a descriptor that others had, which does not tell the group.
impl From<OwnedFd> for Member {
    fn from(fd: OwnedFd) -> Self {
        let truncated = sys::info(&fd).map_or(0, |info| info.truncated);
        Self {
            endpoint: Endpoint::of_others(fd, true, truncated),
            group: String::new(),
        }
    }
}

impl From<Member> for OwnedFd {
    fn from(member: Member) -> Self {
        member.endpoint.into()
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.fd.as_fd()
    }
}

impl Member {
    pub fn info(&self) -> Result<Info> {
        let raw = sys::info(&self.endpoint.fd).map_err(|errno| self.failed("ask", errno))?;
        Ok(Info::from_raw(raw))
    }

    pub fn set_waiting(&self, change: impl FnOnce(&mut Waiting)) -> Result<()> {
        self.endpoint
            .set_waiting(change)
            .map_err(|errno| self.failed("set waiting of", errno))
    }

    /// `how` is one of `uapi::SHUT_*`.
    pub fn shutdown(&self, how: u32) -> Result<()> {
        sys::shutdown(&self.endpoint.fd, how).map_err(|errno| self.failed("leave", errno))
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::Group {
            group: self.group.clone(),
            call,
            cause: errno.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_judged() {
        let raw = to_raw("news").unwrap();
        assert!(raw.starts_with(b"news\0") && raw.ends_with(b"\0"));
        assert!(to_raw(&"a".repeat(uapi::NAME_MAX)).is_ok());
        for name in ["", "News", "1a", "a b", "all", "dom0", &"a".repeat(57)] {
            assert!(to_raw(name).is_err(), "{name}");
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A walk along a path, one name after the other: of somebody else's symbolic link none is
//! followed, at its end or before it, for it may lead anywhere at any time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    fstat, fstatfs, openat, readlinkat, FileType, Mode, OFlags, CWD, PROC_SUPER_MAGIC,
};
use rustix::io::Errno;

use super::trust::{is_trusted, refused};

/// Symbolic links that are followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

pub struct Walk {
    pub folder: Arc<OwnedFd>,
    /// The names ahead, the next one last.
    ahead: Vec<OsString>,
    links: usize,
}

impl Walk {
    pub fn along(path: &Path) -> io::Result<Self> {
        let mut walk = Self {
            folder: Arc::new(open_folder(CWD, OsStr::new("."))?),
            ahead: Vec::new(),
            links: 0,
        };
        walk.turn_to(path)?;
        Ok(walk)
    }

    /// Goes to the folder of the last name, and gives that. What can only be a folder has
    /// none.
    pub fn reach_last(&mut self) -> io::Result<OsString> {
        while let Some(name) = self.ahead.pop() {
            if self.ahead.is_empty() && name != "." && name != ".." {
                return Ok(name);
            }
            self.enter(&name)?;
        }
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        match open_folder(self.folder.as_fd(), name) {
            Ok(folder) => self.folder = Arc::new(folder),
            Err(Errno::NOTDIR | Errno::LOOP) => self.follow(name)?,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Goes where the symbolic link leads that is here.
    pub fn follow(&mut self, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = openat(&*self.folder, name, flags, Mode::empty())?;
        let stat = fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        if !is_trusted(&stat) {
            return Err(refused("there is a symbolic link of somebody else"));
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        // Some of /proc lead where no path does: to what a process has open.
        if is_proc(&self.folder) && !self.ahead.is_empty() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folder = Arc::new(openat(&*self.folder, name, flags, Mode::empty())?);
            return Ok(());
        }
        let target = readlinkat(&link, "", Vec::new())?;
        self.turn_to(&PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Has `path` before all that is ahead.
    fn turn_to(&mut self, path: &Path) -> io::Result<()> {
        if path.is_absolute() {
            self.folder = Arc::new(open_folder(CWD, OsStr::new("/"))?);
        }
        // It can only be a folder, which the names do not tell.
        if path.as_os_str().as_bytes().ends_with(b"/") {
            self.ahead.push(".".into());
        }
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            _ => None,
        });
        self.ahead.extend(names.map(OsStr::to_owned));
        Ok(())
    }
}

pub fn is_proc(folder: &OwnedFd) -> bool {
    fstatfs(folder).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

/// O_PATH, for a folder may be such that one may write in it and not read it.
fn open_folder(base: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(base, name, flags, Mode::empty())
}

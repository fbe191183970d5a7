// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a file is to stand: its folder, opened once, and its name there. Nothing is
//! looked up by a path again, so that nobody who may write in a folder above can have
//! the file stand elsewhere.

mod trust;
mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    fstat, fstatvfs, fsync, linkat, openat, renameat, statat, syncfs, unlinkat, AtFlags, FileType,
    Mode, OFlags, Stat, CWD,
};
use rustix::io::Errno;

use trust::{is_trusted, refused};
use walk::{is_proc, Walk};

/// A name in a folder that is open.
#[derive(Clone, Debug)]
pub struct Place {
    folder: Arc<OwnedFd>,
    name: OsString,
}

/// What was found at a path.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or a regular file.
    Place(Place),
    /// Something that is written straight.
    Special(File),
}

/// Looks for `path`. A symbolic link on the way or at its end is followed if it is the
/// caller's or root's. A device or a pipe is opened if it is the caller's or root's, or
/// anybody's by `trusting`.
pub fn find(path: &Path, trusting: bool) -> io::Result<Found> {
    let mut walk = Walk::along(path)?;
    loop {
        let name = walk.reach_last()?;
        let folder = Arc::clone(&walk.folder);
        let place = Place { folder, name };
        match place.stat() {
            Err(Errno::NOENT) => return Ok(Found::Place(place)),
            Err(errno) => return Err(errno.into()),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => return Ok(Found::Place(place)),
                FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
                FileType::Symlink => match place.own_descriptor(&stat) {
                    Some(file) => return Ok(Found::Special(file?)),
                    None => walk.follow(&place.name)?,
                },
                _ => return place.open_special(&stat, trusting).map(Found::Special),
            },
        }
    }
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

impl Place {
    /// The same folder with another name.
    fn beside(&self, name: impl AsRef<OsStr>) -> Self {
        Self {
            folder: Arc::clone(&self.folder),
            name: name.as_ref().to_owned(),
        }
    }

    fn stat(&self) -> rustix::io::Result<Stat> {
        statat(&*self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What a link in /proc leads to if that is a descriptor of a pipe or a device (as
    /// /dev/stdout may be), which who started the program has opened.
    fn own_descriptor(&self, link: &Stat) -> Option<io::Result<File>> {
        let in_proc = is_trusted(link) && is_proc(&self.folder);
        let behind = statat(&*self.folder, &self.name, AtFlags::empty()).ok()?;
        let kind = FileType::from_raw_mode(behind.st_mode);
        let special = !matches!(kind, FileType::RegularFile | FileType::Directory);
        (in_proc && special).then(|| Ok(self.open(OFlags::WRONLY, Mode::empty())?))
    }

    fn open_special(&self, before: &Stat, trusting: bool) -> io::Result<File> {
        let judge = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                if trusting || is_trusted(stat) {
                    Ok(())
                } else {
                    Err(refused(
                        "it is a device or a pipe of somebody else (--device takes it)",
                    ))
                }
            }
            _ => Err(refused("it is no file, device or pipe")),
        };
        judge(before)?;
        let file = self.open(OFlags::WRONLY | OFlags::NOFOLLOW, Mode::empty())?;
        // It may have been exchanged meanwhile.
        judge(&fstat(&file)?)?;
        Ok(file)
    }

    fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(openat(&*self.folder, &self.name, flags, mode)?.into())
    }

    /// What may be done with the file that is here; all of it where there is none.
    pub fn mode(&self) -> Mode {
        match self.stat() {
            Ok(stat) => Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o777),
            Err(_) => Mode::from_raw_mode(0o777),
        }
    }

    /// Opens the file that is here as it is; None if there is none.
    pub fn open_as_it_is(&self) -> io::Result<Option<File>> {
        // What is no file any more is not waited for.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match self.open(flags, Mode::empty()) {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(refused("it is no file any more")),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file here, where none may be.
    pub fn make(&self) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        Ok(self.open(flags, Mode::from_raw_mode(0o666))?)
    }

    /// A file without a name in this folder, if it can get one later.
    pub fn make_nameless(&self, mode: Mode) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY;
        let file = self.beside(".").open(flags, mode).ok()?;
        own_path(&file).exists().then_some(file)
    }

    /// A new file with a temporary name in this folder, and where that is.
    pub fn make_part(&self, mode: Mode) -> io::Result<(File, Self)> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        self.with_free_name(|part| part.open(flags, mode))
    }

    /// Gives a nameless file a temporary name in this folder.
    pub fn name_part(&self, file: &File) -> io::Result<Self> {
        let link = |part: &Self| {
            let (to, how) = (&*part.folder, AtFlags::SYMLINK_FOLLOW);
            linkat(CWD, own_path(file), to, &part.name, how)
        };
        Ok(self.with_free_name(link)?.1)
    }

    /// Not made from the name itself, which may be as long as a name can be.
    fn with_free_name<T>(
        &self,
        make: impl Fn(&Self) -> rustix::io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut count = 0;
        loop {
            let part = self.beside(format!(".idts-{}-{count}.part", std::process::id()));
            match make(&part) {
                Ok(made) => return Ok((made, part)),
                Err(Errno::EXIST) if count < 99 => count += 1,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Has `file`, which is at `part`, stand here, and makes sure that it does.
    pub fn take(&self, part: &Self, file: &File) -> io::Result<()> {
        // In a folder of somebody else the name may mean another file by now.
        if !is_same(&part.stat()?, &fstat(file)?) {
            return Err(io::Error::other("its temporary was exchanged"));
        }
        renameat(&*part.folder, &part.name, &*self.folder, &self.name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(&*self.folder, ".", flags, Mode::empty()) {
            Ok(folder) => fsync(folder)?,
            // One that may not be read goes with its whole file system.
            Err(_) => syncfs(file)?,
        }
        Ok(())
    }

    /// Removes what is here, if it is there.
    pub fn remove(&self) {
        // It may be gone already; there is nobody to tell.
        let _ = unlinkat(&*self.folder, &self.name, AtFlags::empty());
    }

    /// Bytes that are free here for everybody, if the file system knows.
    pub fn free(&self) -> Option<u64> {
        let found = fstatvfs(&*self.folder).ok()?;
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }
}

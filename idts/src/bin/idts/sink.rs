// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where `idts recv` puts a file: a temporary beside it, which takes its name
//! when all is well and vanishes otherwise.
//!
//! The temporary has no name (O_TMPFILE) where the file system can do that,
//! so that not even SIGKILL leaves it behind. Elsewhere it has one, and is
//! removed by drop, or by the thread that waits for signals.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{linkat, openat, AtFlags, Mode, OFlags, CWD};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::transfer::Sink;

/// The name of the temporary, while it has one. Whoever holds the lock decides
/// whether the file comes to stand: the end of a transfer, or a signal.
static PART: Mutex<Option<PathBuf>> = Mutex::new(None);

fn part() -> MutexGuard<'static, Option<PathBuf>> {
    PART.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is being received.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    /// None when the file is no regular one, and written straight.
    target: Option<PathBuf>,
}

impl FileSink {
    /// Prepares to write `path`, of which nothing changes yet.
    pub fn create(path: &Path) -> io::Result<Self> {
        let target = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(path)?;
                return Ok(Self { file, target: None });
            }
            // Through a symbolic link: the file behind it is replaced.
            Ok(_) => fs::canonicalize(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(error),
        };
        if target.file_name().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = match nameless(&target) {
            Some(file) => file,
            None => with_new_part(&target, |part| File::create_new(part))?,
        };
        Ok(Self {
            file,
            target: Some(target),
        })
    }
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A file without a name in the target's folder, if it can get one later.
fn nameless(target: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, folder(target), flags, Mode::from_raw_mode(0o666)).ok()?);
    own_path(&file).exists().then_some(file)
}

fn own_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Makes something under a temporary name beside the target that is free, and
/// keeps that name.
fn with_new_part<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut part = part();
    let mut count = 0;
    loop {
        let path = folder(target).join(format!(".{name}.{}-{count}.part", std::process::id()));
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && count < 99 => count += 1,
            Err(error) => return Err(error),
            Ok(made) => {
                *part = Some(path);
                return Ok(made);
            }
        }
    }
}

/// Gives a nameless file a temporary name, for rename alone can replace.
fn give_name(file: &File, target: &Path) -> io::Result<()> {
    with_new_part(target, |part| {
        Ok(linkat(
            CWD,
            own_path(file),
            CWD,
            part,
            AtFlags::SYMLINK_FOLLOW,
        )?)
    })
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for FileSink {
    fn commit(mut self) -> io::Result<()> {
        let Some(target) = self.target.take() else {
            return Ok(());
        };
        self.file.sync_all()?;
        if part().is_none() {
            give_name(&self.file, &target)?;
        }
        let mut part = part();
        if let Some(path) = &*part {
            fs::rename(path, &target)?;
            *part = None;
        }
        drop(part);
        File::open(folder(&target))?.sync_all()
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        remove_part(&mut part());
    }
}

fn remove_part(part: &mut Option<PathBuf>) {
    if let Some(path) = part.take() {
        // It may be gone already; there is nobody to tell.
        let _ = fs::remove_file(path);
    }
}

/// From here on SIGINT, SIGTERM and SIGHUP remove the temporary and end the
/// program with 1.
pub fn clean_up_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let mut part = part();
            remove_part(&mut part);
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            eprintln!("idts: interrupted by {name}");
            // With the lock held: nothing comes to stand any more.
            std::process::exit(1);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the temporary is the program's, so one test at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        fs::read_dir(folder)
            .unwrap()
            .map(name)
            .map(|n| n.into_string().unwrap())
            .collect()
    }

    #[test]
    fn nothing_stands_before_commit_and_nothing_stays_without() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut sink = FileSink::create(&path).unwrap();
        sink.write_all(b"new").unwrap();
        assert!(!path.exists());
        drop(sink);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn commit_replaces_the_old_file() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let mut sink = FileSink::create(&path).unwrap();
        sink.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        sink.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_temporary_with_a_name_does_the_same() {
        let _alone = ALONE.lock();
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let open = || FileSink {
            file: with_new_part(&target, |part| File::create_new(part)).unwrap(),
            target: Some(target.clone()),
        };
        drop(open());
        assert!(names(folder.path()).is_empty());
        let mut sink = open();
        sink.write_all(b"new").unwrap();
        sink.commit().unwrap();
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn devices_are_written_straight_and_folders_refused() {
        let _alone = ALONE.lock();
        let mut sink = FileSink::create(Path::new("/dev/null")).unwrap();
        sink.write_all(b"gone").unwrap();
        sink.commit().unwrap();
        let error = FileSink::create(Path::new("/")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        assert!(FileSink::create(Path::new("/nowhere/file")).is_err());
    }
}

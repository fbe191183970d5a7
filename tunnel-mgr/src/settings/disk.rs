// SPDX-License-Identifier: GPL-2.0
//! The settings file on disk: read as a whole, and replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{fchown, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use rustix::fs::OFlags;

use crate::lock::Lock;

/// Whoever writes a settings file has it, so that nobody else's word is lost.
const LOCK: &str = "run/tunnel-mgr.save";

/// Many times what a thousand domains need; a file of more bytes is another one.
const LARGEST: u64 = 4 << 20;

/// Reads it; None if there is none. What is no plain file could be a pipe, which is
/// empty when it is read again, or a device, which must not be replaced.
pub fn read(path: &Path) -> Result<Option<String>> {
    let about = || path.display().to_string();
    let nonblock = OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(nonblock).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if !file.metadata().with_context(about)?.is_file() {
        bail!("{} is not a file", path.display());
    }
    let mut text = String::new();
    let read = file.take(LARGEST + 1).read_to_string(&mut text);
    let read = read.with_context(|| format!("cannot read {}", path.display()))?;
    if read as u64 > LARGEST {
        bail!("{} is too large for settings", path.display());
    }
    Ok(Some(text))
}

/// The right to write settings files of the system at `root`, until it is dropped.
pub fn lock(root: &Path) -> Result<Lock> {
    let path = root.join(LOCK);
    Lock::wait(&path, false).with_context(|| format!("cannot lock {}", path.display()))
}

/// A new text of a file, beside it and ready to take its place.
pub struct Saved {
    new: PathBuf,
    file: PathBuf,
    _lock: Lock,
}

impl Saved {
    /// Writes what the file is to be.
    pub fn new(path: &Path, text: &str, lock: Lock) -> Result<Self> {
        // A link stays one.
        let file = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let mut new = file.clone().into_os_string();
        new.push(format!(".{}.new", std::process::id()));
        let saved = Self {
            new: new.into(),
            file,
            _lock: lock,
        };
        let written = saved.write(text.as_bytes());
        written.with_context(|| format!("cannot write {}", saved.new.display()))?;
        Ok(saved)
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut new = File::create_new(&self.new)?;
        if let Ok(about) = fs::metadata(&self.file) {
            fchown(&new, Some(about.uid()), Some(about.gid()))?;
            new.set_permissions(about.permissions())?;
        }
        new.write_all(text)?;
        new.sync_all()
    }

    /// Puts it in the file's place.
    pub fn keep(&self) -> Result<()> {
        let folder = self.file.parent().filter(|path| *path != Path::new(""));
        let kept = fs::rename(&self.new, &self.file)
            .and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all());
        kept.with_context(|| format!("cannot replace {}", self.file.display()))
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        // Where it was kept there is none.
        let _ = fs::remove_file(&self.new);
    }
}

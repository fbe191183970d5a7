// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where `idts recv` puts a file: a temporary beside it, which takes its name
//! when all is well and vanishes otherwise.
//!
//! The temporary has no name (O_TMPFILE) where the file system can do that,
//! so that not even SIGKILL leaves it behind. Elsewhere it has one, and is
//! removed by drop, or by the thread that waits for signals.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use idts::output::say;
use rustix::fs::{fchmod, Mode};

use crate::place::{find, Found, Place};
use crate::signals::before_the_end;
use crate::transfer::Sink;

/// The temporary, while it has a name. Whoever holds the lock decides
/// whether the file comes to stand: the end of a transfer, or a signal.
static PART: Mutex<Option<Place>> = Mutex::new(None);

fn part() -> MutexGuard<'static, Option<Place>> {
    PART.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is being received.
#[derive(Debug)]
pub struct FileSink {
    file: File,
    /// None when the file is no regular one, and written straight.
    target: Option<Place>,
}

impl FileSink {
    /// Prepares to write `path`, of which nothing changes yet. The file gets `mode`, or
    /// what the umask leaves, and no more than one has that it replaces. `trusting` is [`find`]'s.
    pub fn create(path: &Path, mode: Option<Mode>, trusting: bool) -> io::Result<Self> {
        let target = match find(path, trusting)? {
            Found::Special(file) => return Ok(Self { file, target: None }),
            Found::Place(place) => place,
        };
        let made_with = mode.unwrap_or(Mode::from_raw_mode(0o666) & target.mode());
        let file = match target.make_nameless(made_with) {
            Some(file) => file,
            None => make_part(&target, made_with)?,
        };
        let sink = Self {
            file,
            target: Some(target),
        };
        if let Some(mode) = mode {
            fchmod(&sink.file, mode)?;
        }
        Ok(sink)
    }

    /// Bytes that there is room for, where that can be known.
    pub fn room(&self) -> Option<u64> {
        match &self.target {
            Some(place) => place.free(),
            None => self.device_size(),
        }
    }

    /// Of a block device; of others None.
    fn device_size(&self) -> Option<u64> {
        if !self.file.metadata().ok()?.file_type().is_block_device() {
            return None;
        }
        let size = (&self.file).seek(SeekFrom::End(0)).ok()?;
        (&self.file).seek(SeekFrom::Start(0)).ok()?;
        Some(size)
    }
}

fn make_part(target: &Place, mode: Mode) -> io::Result<File> {
    let mut part = part();
    let (file, place) = target.make_part(mode)?;
    *part = Some(place);
    Ok(file)
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
            return sync_special(&self.file);
        };
        self.file.sync_all()?;
        let mut part = part();
        let named = match part.take() {
            Some(named) => named,
            None => target.name_part(&self.file)?,
        };
        let taken = target.take(&named, &self.file);
        if taken.is_err() {
            named.remove();
        }
        taken
    }
}

/// Pipes and character devices keep nothing that could be made sure of.
fn sync_special(file: &File) -> io::Result<()> {
    if file.metadata()?.file_type().is_block_device() {
        file.sync_all()?;
    }
    Ok(())
}

impl Drop for FileSink {
    fn drop(&mut self) {
        remove_part(&mut part());
    }
}

fn remove_part(part: &mut Option<Place>) {
    if let Some(place) = part.take() {
        place.remove();
    }
}

/// From here on a signal that ends the program removes the temporary first.
pub fn clean_up_on_signals() -> io::Result<()> {
    before_the_end(|name| {
        let mut part = part();
        remove_part(&mut part);
        say(format_args!("idts: interrupted by {name}"));
        // With the lock held: nothing comes to stand any more.
        part
    })
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;

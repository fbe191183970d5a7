// SPDX-License-Identifier: GPL-2.0
//! dom0's initial file system as it is booted: base image, overlay, and what only this run knows.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{trailer, Builder};

use crate::place::{private_file, Images};
use crate::wire::TOKEN_FILE;

/// Where it is, dom0 loads its module before xenstored runs.
const EARLY: &str = "/etc/early";

/// Writes the archive that dom0 boots from.
pub fn compose(images: &Images, token: &str, early: bool, to: &Path) -> Result<()> {
    let mut out = private_file(to)?;
    for image in [&images.dom0, &images.dist] {
        let mut from = File::open(image).with_context(|| image.display().to_string())?;
        let size = io::copy(&mut from, &mut out)?;
        // The kernel looks for the next archive at a multiple of four bytes.
        out.write_all(&[0; 3][..(size.next_multiple_of(4) - size) as usize])?;
    }
    let secret = Entry {
        path: TOKEN_FILE,
        mode: 0o600,
        content: token.as_bytes(),
    };
    let early = early.then_some(Entry {
        path: EARLY,
        mode: 0o644,
        content: b"",
    });
    let files: Vec<_> = [secret].into_iter().chain(early).collect();
    write_archive(&mut out, &files)?;
    Ok(())
}

/// A plain file of an archive; its folder must exist in what the archive is laid over.
pub struct Entry<'a> {
    /// Absolute path.
    pub path: &'a str,
    /// Permissions.
    pub mode: u32,
    /// What is in it.
    pub content: &'a [u8],
}

/// Writes a newc archive of plain files.
pub fn write_archive(out: &mut impl Write, files: &[Entry<'_>]) -> io::Result<()> {
    for (number, file) in files.iter().enumerate() {
        const REGULAR: u32 = 0o100_000;
        let builder = Builder::new(file.path.trim_start_matches('/'))
            .ino(number as u32 + 1)
            .nlink(1)
            .mode(REGULAR | file.mode);
        let mut writer = builder.write(&mut *out, file.content.len() as u32);
        writer.write_all(file.content)?;
        writer.finish()?;
    }
    trailer(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_read_back() {
        let mut bytes = Vec::new();
        let files = [
            Entry {
                path: "/etc/a",
                mode: 0o600,
                content: b"one",
            },
            Entry {
                path: "/b",
                mode: 0o644,
                content: b"",
            },
        ];
        write_archive(&mut bytes, &files).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let reader = cpio::newc::Reader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.entry().name(), "etc/a");
        assert_eq!(reader.entry().mode(), 0o100_600);
        assert_eq!(reader.entry().file_size(), 3);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard input in pieces: what one read gives, or one line.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{bail, Context, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::Errno;

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// What one read gives, of at most so many bytes.
    Reads(usize),
    /// A line without its newline, of at most so many bytes; none that is empty.
    Lines(usize),
}

pub struct Input {
    file: File,
    lines: bool,
    buffer: Vec<u8>,
    /// What of the buffer was read and not yet given out.
    held: Range<usize>,
    ended: bool,
}

impl Input {
    /// Not std's stdin, which would hold more back than what poll tells.
    pub fn stdin(pieces: Pieces) -> io::Result<Self> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Self::new(file, pieces))
    }

    fn new(file: File, pieces: Pieces) -> Self {
        let (lines, size) = match pieces {
            Pieces::Reads(size) => (false, size),
            // One more for the newline.
            Pieces::Lines(longest) => (true, longest + 1),
        };
        Self {
            file,
            lines,
            buffer: vec![0; size],
            held: 0..0,
            ended: false,
        }
    }

    /// The next piece; None at the end, and when `sink` was closed from the
    /// other end, so that a silent terminal does not keep the program alive.
    pub fn next(&mut self, sink: impl AsFd) -> Result<Option<&[u8]>> {
        let piece = if self.lines {
            self.next_line(sink.as_fd())?
        } else {
            self.held = 0..0;
            self.fill(sink.as_fd())?;
            self.held.clone()
        };
        Ok((!piece.is_empty()).then(|| &self.buffer[piece]))
    }

    fn next_line(&mut self, sink: BorrowedFd<'_>) -> Result<Range<usize>> {
        loop {
            if let Some(line) = self.held_line() {
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            if self.ended {
                // The last line need not have a newline.
                return Ok(std::mem::take(&mut self.held));
            }
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
            if self.held.end == self.buffer.len() {
                bail!(
                    "a line is longer than a record here can be, {} bytes",
                    self.buffer.len() - 1
                );
            }
            self.fill(sink)?;
        }
    }

    /// Takes a whole line from what is held.
    fn held_line(&mut self) -> Option<Range<usize>> {
        let held = &self.buffer[self.held.clone()];
        let length = held.iter().position(|byte| *byte == b'\n')?;
        let start = self.held.start;
        self.held.start += length + 1;
        Some(start..start + length)
    }

    /// Reads once, to the end of what is held.
    fn fill(&mut self, sink: BorrowedFd<'_>) -> Result<()> {
        while !self.ended {
            if !is_there_input(&self.file, sink)? {
                // Nobody wants what is held, either.
                self.held = 0..0;
                self.ended = true;
                return Ok(());
            }
            match self.file.read(&mut self.buffer[self.held.end..]) {
                Ok(0) => self.ended = true,
                Ok(bytes) => {
                    self.held.end += bytes;
                    return Ok(());
                }
                // One that does not block and that another one reads too.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) => {}
                Err(error) => return Err(error).context("reading standard input"),
            }
        }
        Ok(())
    }
}

/// Waits; false when `sink` is closed at both ends and there is no input.
fn is_there_input(input: &File, sink: BorrowedFd<'_>) -> Result<bool> {
    let mut fds = [
        PollFd::new(input, PollFlags::IN),
        PollFd::from_borrowed_fd(sink, PollFlags::empty()),
    ];
    loop {
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            result => {
                result.context("waiting for input")?;
                return Ok(!fds[0].revents().is_empty() || fds[1].revents().is_empty());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// The pieces of what `parts` write, one after the other.
    fn pieces(form: Pieces, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let (reader, mut writer) = io::pipe().unwrap();
        let (sink, _other_end) = UnixStream::pair().unwrap();
        for part in parts {
            writer.write_all(part).unwrap();
        }
        drop(writer);
        let mut input = Input::new(File::from(std::os::fd::OwnedFd::from(reader)), form);
        let mut pieces = Vec::new();
        while let Some(piece) = input.next(&sink)? {
            pieces.push(piece.to_vec());
        }
        Ok(pieces)
    }

    #[test]
    fn lines_come_without_newlines_and_none_is_empty() {
        let lines = pieces(Pieces::Lines(5), &[b"one\n\ntwo", b"12\nthree"]).unwrap();
        assert_eq!(lines, [&b"one"[..], b"two12", b"three"]);
        let none = pieces(Pieces::Lines(5), &[b"\n\n"]).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error() {
        assert!(pieces(Pieces::Lines(5), &[b"12345\n"]).is_ok());
        let error = pieces(Pieces::Lines(5), &[b"123456\n"]).unwrap_err();
        assert!(error.to_string().contains("5 bytes"), "{error}");
    }

    #[test]
    fn reads_are_cut_at_their_limit() {
        let reads = pieces(Pieces::Reads(4), &[b"12\n34", b"5"]).unwrap();
        assert_eq!(reads, [&b"12\n3"[..], b"45"]);
    }

    #[test]
    fn a_sink_that_is_gone_ends_the_input() {
        let (reader, _writer) = io::pipe().unwrap();
        let (sink, other_end) = UnixStream::pair().unwrap();
        drop(other_end);
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let mut input = Input::new(file, Pieces::Reads(4));
        assert!(input.next(&sink).unwrap().is_none());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records for the verbs that move them: where they go, how many there were,
//! and what those look like that are made.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use idts::output::{Output, Unwritten};
use idts::Received;

use crate::locked::lock;

/// Records and bytes that were moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes += record.len() as u64;
    }
}

/// A tally that is told at the end, or before a signal ends the program.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Tally>>);

impl Kept {
    pub fn add(&self, record: &[u8]) {
        lock(&self.0).add(record);
    }

    pub fn get(&self) -> Tally {
        *lock(&self.0)
    }

    /// Tells it, and nobody does so again: nothing is counted any more.
    pub fn tell<T>(&self, tell: impl FnOnce(Tally) -> T) -> T {
        let tally = lock(&self.0);
        let told = tell(*tally);
        mem::forget(tally);
        told
    }
}

/// Where records go.
#[derive(Debug)]
pub enum Place {
    /// They are counted only.
    Nowhere,
    Stdout(Output),
    File(Output),
}

/// How records are written.
pub struct Writer {
    pub place: Place,
    /// Each as a line: a newline in it is written as `\n`, and one follows.
    pub lines: bool,
}

impl Writer {
    fn write(&mut self, record: &[u8]) -> Result<()> {
        let line;
        let bytes = if self.lines {
            line = as_line(record);
            &line
        } else {
            record
        };
        match &mut self.place {
            Place::Nowhere => Ok(()),
            Place::Stdout(output) => Ok(output.write_all(bytes).map_err(Unwritten::of_data)?),
            Place::File(output) => output.write_all(bytes).context("writing a record"),
        }
    }
}

/// A record that has a newline must not look like two.
fn as_line(record: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(record.len() + 1);
    for (number, part) in record.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            line.extend(b"\\n");
        }
        line.extend(part);
    }
    line.push(b'\n');
    line
}

/// Takes records of at most `longest` bytes, `limit` of them or until the end.
/// True at the end, false at the limit; `tally` counts, also what came before
/// an error.
pub fn receive(
    recv: impl Fn(&mut [u8]) -> io::Result<Received>,
    longest: usize,
    limit: Option<u64>,
    writer: &mut Writer,
    tally: &Kept,
) -> Result<bool> {
    let mut buffer = vec![0; longest];
    while limit.is_none_or(|limit| tally.get().records < limit) {
        let received = recv(&mut buffer).context("receiving")?;
        if received.is_end() {
            return Ok(true);
        }
        tally.add(&buffer[..received.len]);
        writer.write(&buffer[..received.len])?;
    }
    Ok(false)
}

/// A record that is made: its number, then each byte its own offset.
pub struct Made(Vec<u8>);

impl Made {
    pub fn of_size(size: usize) -> Self {
        Self((0..size).map(|at| at as u8).collect())
    }

    pub fn number(&mut self, number: u64) -> &[u8] {
        for (byte, digit) in self.0.iter_mut().zip(number.to_le_bytes()) {
            *byte = digit;
        }
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs::{self, File};

    /// Receives `records` into a file; gives what came of it.
    fn run(records: &[&[u8]], limit: Option<u64>, lines: bool) -> (bool, Tally, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let place = Place::File(Output::File(File::create(&path).unwrap()));
        let mut writer = Writer { place, lines };
        let rest = RefCell::new(records.iter());
        let recv = |buffer: &mut [u8]| {
            let record = rest.borrow_mut().next().copied().unwrap_or_default();
            buffer[..record.len()].copy_from_slice(record);
            Ok(Received::whole(record.len()))
        };
        let tally = Kept::default();
        let ended = receive(recv, 4, limit, &mut writer, &tally).unwrap();
        (ended, tally.get(), fs::read(path).unwrap())
    }

    #[test]
    fn records_are_written_plain_or_as_lines() {
        let (ended, tally, written) = run(&[b"1234", b"5"], None, false);
        assert!(ended);
        assert_eq!((tally.records, tally.bytes), (2, 5));
        assert_eq!(written, b"12345");
        assert_eq!(run(&[b"1234", b"5"], None, true).2, b"1234\n5\n");
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        assert_eq!(run(&[b"a\nb", b"\n"], None, true).2, b"a\\nb\n\\n\n");
        assert_eq!(run(&[b"a\nb"], None, false).2, b"a\nb");
    }

    #[test]
    fn a_limit_ends_before_the_end() {
        let (ended, tally, written) = run(&[b"1", b"2", b"3"], Some(2), false);
        assert!(!ended);
        assert_eq!((tally.records, &written[..]), (2, &b"12"[..]));
    }

    #[test]
    fn made_records_tell_their_number() {
        let mut made = Made::of_size(10);
        assert_eq!(made.number(258), [2, 1, 0, 0, 0, 0, 0, 0, 8, 9]);
        assert_eq!(Made::of_size(1).number(7), [7]);
    }
}

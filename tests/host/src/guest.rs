// SPDX-License-Identifier: GPL-2.0
//! A guest, as xenstored sees it: requests over a ring in shared memory, which
//! here is a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{sleep, spawn, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{ensure, Result};

use crate::bed::HUNG;
use crate::dom0::{header, message, ERROR, RM, WRITE};

/// Bytes of the ring either way, and where the four indices are behind both.
const SIZE: u32 = 1024;
const REQUESTS_TAKEN: u64 = 2048;
const REQUESTS_PUT: u64 = 2052;
const ANSWERS_TAKEN: u64 = 2056;
const ANSWERS_PUT: u64 = 2060;
/// The port of domain 0, if it had one (`stub.c`).
const PORTS: u32 = 100_000;
/// How long is slept while the ring is full or empty.
const NAP: Duration = Duration::from_micros(50);

const EVENT: u32 = 15;

/// A connection as a guest.
pub struct Guest {
    ring: File,
    events: File,
    port: u32,
    /// Answers, as far as they are read.
    inbox: Vec<u8>,
}

impl Guest {
    /// That of a domain which dom0 has made.
    pub fn open(domain: u16) -> Result<Self> {
        let open = |path: &str, flags| {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(path)
        };
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Ok(Self {
            ring: open(&format!("/run/xen/ring.{domain}"), 0)?,
            events: open("/run/xen/events", nonblock)?,
            port: PORTS + u32::from(domain),
            inbox: Vec::new(),
        })
    }

    fn index(&self, at: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.ring.read_exact_at(&mut bytes, at)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn kick(&mut self) {
        // A full pipe has enough of them.
        let _ = self.events.write(&self.port.to_ne_bytes());
    }

    /// Puts as much of `bytes` as there is room for.
    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let (taken, put) = (self.index(REQUESTS_TAKEN)?, self.index(REQUESTS_PUT)?);
        let room = SIZE - put.wrapping_sub(taken);
        let count = bytes.len().min(room as usize);
        let at = (put % SIZE) as usize;
        let first = count.min(SIZE as usize - at);
        self.ring.write_all_at(&bytes[..first], at as u64)?;
        self.ring.write_all_at(&bytes[first..count], 0)?;
        let put = put.wrapping_add(count as u32);
        self.ring.write_all_at(&put.to_ne_bytes(), REQUESTS_PUT)?;
        Ok(count)
    }

    /// Takes all answers that there are; gives how many, and how many errors.
    fn take(&mut self) -> Result<(u64, u64)> {
        let (taken, put) = (self.index(ANSWERS_TAKEN)?, self.index(ANSWERS_PUT)?);
        let count = put.wrapping_sub(taken) as usize;
        let at = (taken % SIZE) as usize;
        let first = count.min(SIZE as usize - at);
        let mut bytes = vec![0; count];
        self.ring
            .read_exact_at(&mut bytes[..first], u64::from(SIZE) + at as u64)?;
        self.ring.read_exact_at(&mut bytes[first..], SIZE.into())?;
        self.ring.write_all_at(&put.to_ne_bytes(), ANSWERS_TAKEN)?;
        self.inbox.extend(bytes);
        let (mut answers, mut errors) = (0, 0);
        while let Some((head, rest)) = self.inbox.split_first_chunk::<16>() {
            let (kind, length) = header(head);
            if rest.len() < length {
                break;
            }
            answers += u64::from(kind != EVENT);
            errors += u64::from(kind == ERROR);
            self.inbox.drain(..16 + length);
        }
        Ok((answers, errors))
    }

    fn request(&mut self, kind: u32, payload: &[u8]) -> Result<bool> {
        let bytes = message(kind, payload);
        let mut rest = &bytes[..];
        let deadline = Instant::now() + HUNG;
        loop {
            rest = &rest[self.put(rest)?..];
            self.kick();
            let (answers, errors) = self.take()?;
            if answers > 0 {
                return Ok(errors == 0);
            }
            ensure!(
                Instant::now() < deadline,
                "hung: xenstored does not answer a guest"
            );
            sleep(NAP);
        }
    }

    /// Writes a node, below its home if the path is none from the root; false if
    /// that is refused.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<bool> {
        self.request(WRITE, &[path.as_bytes(), b"\0", value].concat())
    }

    /// Removes a node; false if that is refused.
    pub fn remove(&mut self, path: &str) -> Result<bool> {
        self.request(RM, &[path.as_bytes(), b"\0"].concat())
    }
}

/// A guest that does nothing but write, until this is dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Writes these in turn, as fast as the ring allows.
    pub fn start(domain: u16, writes: &[(&str, &[u8])]) -> Result<Self> {
        let requests: Vec<_> = writes
            .iter()
            .map(|(path, value)| message(WRITE, &[path.as_bytes(), b"\0", value].concat()))
            .collect();
        let mut guest = Guest::open(domain)?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = spawn(move || {
            let mut next = requests.iter().cycle();
            let mut rest: &[u8] = &[];
            while !stopped.load(Ordering::Relaxed) {
                let mut full = false;
                while !full {
                    if rest.is_empty() {
                        rest = next.next().map_or(&[], Vec::as_slice);
                    }
                    rest = &rest[guest.put(rest)?..];
                    full = !rest.is_empty();
                }
                guest.kick();
                count.fetch_add(guest.take()?.0, Ordering::Relaxed);
                sleep(NAP);
            }
            Ok(())
        });
        Ok(Self {
            stop,
            answered,
            thread: Some(thread),
        })
    }

    /// How many writes xenstored has answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Buffers whose second page is not there: userfaultfd lets whoever touches it wait until we put it
//! there, which we do when a line comes on standard input.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::ptr;
use std::slice;
use std::thread;

use anyhow::{anyhow, ensure, Context, Result};
use idts::Channel;
use rustix::event::PollFlags;
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};
use rustix::mm::{mmap_anonymous, userfaultfd, MapFlags, ProtFlags, UserfaultfdFlags};
use serde_json::{json, Value};

use crate::{cli, probe};

const PAGE: usize = 4096;

/// `struct uffdio_api`
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`
#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_zeropage`
#[repr(C)]
struct Zeropage {
    start: u64,
    len: u64,
    mode: u64,
    done: i64,
}

const UFFDIO_API: Opcode = opcode::read_write::<Api>(0xaa, 0x3f);
const UFFDIO_REGISTER: Opcode = opcode::read_write::<Register>(0xaa, 0x00);
const UFFDIO_ZEROPAGE: Opcode = opcode::read_write::<Zeropage>(0xaa, 0x04);
const UFFD_API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

/// Two pages, the second not there, and the descriptor that knows of it.
struct Holed {
    start: *mut u8,
    uffd: OwnedFd,
}

// SAFETY: The mapping stays until the process ends, and threads may use it alike.
unsafe impl Sync for Holed {}

impl Holed {
    fn new() -> Result<Self> {
        // SAFETY: A mapping of its own, at a place that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                2 * PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start: *mut u8 = start.cast();
        // SAFETY: Within the first page of the mapping.
        unsafe { start.write_bytes(0, PAGE) };
        // SAFETY: A descriptor that nobody has told of any memory.
        let uffd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC)? };
        let mut api = Api {
            api: UFFD_API,
            features: 0,
            ioctls: 0,
        };
        // SAFETY: The opcode is of a call that reads and writes an `Api`.
        unsafe { call::<UFFDIO_API, Api>(&uffd, &mut api) }.context("UFFDIO_API")?;
        let mut register = Register {
            start: start as u64 + PAGE as u64,
            len: PAGE as u64,
            mode: MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: The opcode is of a call that reads and writes a `Register`, of memory of ours.
        unsafe { call::<UFFDIO_REGISTER, Register>(&uffd, &mut register) }
            .context("UFFDIO_REGISTER")?;
        Ok(Self { start, uffd })
    }

    /// Both pages. Touching the second one waits.
    #[allow(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: The mapping is that long and lives for ever; one thread at a time uses it.
        unsafe { slice::from_raw_parts_mut(self.start, 2 * PAGE) }
    }

    /// Returns when somebody waits for the second page.
    fn wait_for_victim(&self) -> Result<()> {
        probe::wait(&self.uffd, PollFlags::IN)?;
        let mut message = [0; 32];
        rustix::io::read(&self.uffd, &mut message)?;
        Ok(())
    }

    /// Puts the second page there.
    fn mend(&self) -> Result<()> {
        let mut zero = Zeropage {
            start: self.start as u64 + PAGE as u64,
            len: PAGE as u64,
            mode: 0,
            done: 0,
        };
        // SAFETY: The opcode is of a call that reads and writes a `Zeropage`, of memory of ours.
        unsafe { call::<UFFDIO_ZEROPAGE, Zeropage>(&self.uffd, &mut zero) }
            .context("UFFDIO_ZEROPAGE")
    }
}

/// Runs an ioctl that reads and writes a `T`.
///
/// # Safety
/// `OPCODE` is of such a call, any bytes are a `T`, and what it does to memory is allowed.
unsafe fn call<const OPCODE: Opcode, T>(fd: &OwnedFd, value: &mut T) -> Result<()> {
    // SAFETY: As the caller vouches.
    let call = unsafe { Updater::<OPCODE, T>::new(value) };
    // SAFETY: As above.
    Ok(unsafe { ioctl(fd, call) }?)
}

pub fn write(args: &cli::Fault) -> Result<Value> {
    stalled(args, |mut channel, buffer| channel.write(buffer))
}

pub fn read(args: &cli::Fault) -> Result<Value> {
    stalled(args, |mut channel, buffer| {
        // The first page must not satisfy it.
        let (_, hole) = buffer.split_at_mut(PAGE);
        channel.read(hole)
    })
}

/// Does `act` with a buffer that is not there, says `stalled` when it waits for it, mends it when a
/// line comes; notes the result, and that of two more tries.
fn stalled(
    args: &cli::Fault,
    act: impl Fn(&Channel, &mut [u8]) -> io::Result<usize> + Sync,
) -> Result<Value> {
    let channel = probe::patient(args.to, 0)?;
    let holed = Holed::new()?;
    eprintln!("connected");
    let results = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let first = act(&channel, holed.bytes());
            eprintln!("returned");
            [
                first,
                act(&channel, holed.bytes()),
                act(&channel, holed.bytes()),
            ]
        });
        holed.wait_for_victim()?;
        eprintln!("stalled");
        probe::wait_for_line()?;
        ensure!(
            !worker.is_finished(),
            "it ended though its buffer was not there"
        );
        holed.mend()?;
        worker.join().map_err(|_| anyhow!("the worker panicked"))
    })?;
    let results: Vec<_> = results.iter().map(probe::result).collect();
    Ok(json!({ "results": results, "poll": probe::events(&channel)? }))
}

// SPDX-License-Identifier: GPL-2.0
//! As little of io_uring as is needed to see whether a submission waits: one ring, single reads and
//! writes, submitted by a call or by the kernel's own thread.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};

use super::raw::{self, HUNG};

const OP_READ: u8 = 22;
const OP_WRITE: u8 = 23;
const SETUP_SQPOLL: u32 = 1 << 1;
const ENTER_GETEVENTS: libc::c_uint = 1;
const ENTER_SQ_WAKEUP: libc::c_uint = 1 << 1;
const SQ_NEED_WAKEUP: u32 = 1;
const OFF_SQ_RING: i64 = 0;
const OFF_CQ_RING: i64 = 0x800_0000;
const OFF_SQES: i64 = 0x1000_0000;
const ENTRIES: u32 = 8;

/// `struct io_sqring_offsets`
#[repr(C)]
#[derive(Default)]
struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_cqring_offsets`
#[repr(C)]
#[derive(Default)]
struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_uring_params`
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: SqOffsets,
    cq_off: CqOffsets,
}

/// The beginning of `struct io_uring_sqe`, and the rest of its 64 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    rw_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`
#[repr(C)]
#[derive(Clone, Copy)]
struct Cqe {
    user_data: u64,
    res: i32,
    flags: u32,
}

/// A ring; its memory stays until the process ends.
pub struct Uring {
    fd: OwnedFd,
    sq: *mut u8,
    cq: *mut u8,
    sqes: *mut Sqe,
    params: Params,
    /// Completions that were not asked for yet.
    early: Vec<Cqe>,
}

impl Uring {
    /// A ring; with `thread` the kernel's own thread submits.
    pub fn new(thread: bool) -> Result<Self> {
        let mut params = Params {
            flags: if thread { SETUP_SQPOLL } else { 0 },
            sq_thread_idle: 100,
            ..Params::default()
        };
        // SAFETY: The structure is whole and borrowed for the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &mut params) };
        let Ok(fd) = raw::answer(fd) else {
            bail!("io_uring_setup: {}", std::io::Error::last_os_error());
        };
        let fd = raw::own(fd as i32)?;
        let map = |len: usize, at: i64| {
            // SAFETY: The kernel's own memory of this ring, at a place that the kernel chooses.
            let map = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_POPULATE,
                    fd.as_raw_fd(),
                    at,
                )
            };
            ensure!(map != libc::MAP_FAILED, "mmap of a ring");
            Ok(map.cast::<u8>())
        };
        let array = params.sq_off.array + params.sq_entries * 4;
        let cqes = params.cq_off.cqes as usize + params.cq_entries as usize * size_of::<Cqe>();
        Ok(Self {
            sq: map(array as usize, OFF_SQ_RING)?,
            cq: map(cqes, OFF_CQ_RING)?,
            sqes: map(params.sq_entries as usize * size_of::<Sqe>(), OFF_SQES)?.cast(),
            fd,
            params,
            early: Vec::new(),
        })
    }

    /// A word that both sides change.
    fn word(base: *mut u8, offset: u32) -> &'static AtomicU32 {
        let at = base.wrapping_add(offset as usize).cast();
        // SAFETY: The kernel says that there is an aligned word; the mapping stays.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// Submits one request, and returns without waiting for what comes of it.
    fn submit(&self, opcode: u8, fd: &OwnedFd, at: u64, len: usize, name: u64) -> Result<()> {
        let tail = Self::word(self.sq, self.params.sq_off.tail);
        let next = tail.load(Ordering::Relaxed);
        let place = next % self.params.sq_entries;
        let sqe = Sqe {
            opcode,
            flags: 0,
            ioprio: 0,
            fd: fd.as_raw_fd(),
            off: u64::MAX,
            addr: at,
            len: len as u32,
            rw_flags: 0,
            user_data: name,
            rest: [0; 3],
        };
        let at = self.sqes.wrapping_add(place as usize);
        // SAFETY: A place of the queue, which the kernel has done with: no check has more under way
        // than there are.
        unsafe { at.write(sqe) };
        let array = self.params.sq_off.array + place * 4;
        Self::word(self.sq, array).store(place, Ordering::Relaxed);
        tail.store(next.wrapping_add(1), Ordering::SeqCst);
        if self.params.flags & SETUP_SQPOLL == 0 {
            return self.enter(1, 0, 0);
        }
        let flags = Self::word(self.sq, self.params.sq_off.flags);
        match flags.load(Ordering::SeqCst) & SQ_NEED_WAKEUP {
            0 => Ok(()),
            _ => self.enter(0, 0, ENTER_SQ_WAKEUP),
        }
    }

    fn enter(&self, submit: u32, complete: u32, flags: libc::c_uint) -> Result<()> {
        let none = ptr::null::<libc::sigset_t>();
        let fd = self.fd.as_raw_fd();
        let call = libc::SYS_io_uring_enter;
        // SAFETY: A ring of ours, no mask.
        let entered = unsafe { libc::syscall(call, fd, submit, complete, flags, none, 0) };
        ensure!(
            entered >= 0,
            "io_uring_enter: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    pub fn read(&self, fd: &OwnedFd, buffer: &mut [u8], name: u64) -> Result<()> {
        let at = buffer.as_mut_ptr() as u64;
        self.submit(OP_READ, fd, at, buffer.len(), name)
    }

    pub fn write(&self, fd: &OwnedFd, bytes: &[u8], name: u64) -> Result<()> {
        self.submit(OP_WRITE, fd, bytes.as_ptr() as u64, bytes.len(), name)
    }

    /// What has completed by now.
    fn collect(&mut self) {
        let head = Self::word(self.cq, self.params.cq_off.head);
        let tail = Self::word(self.cq, self.params.cq_off.tail);
        let mut next = head.load(Ordering::Relaxed);
        while next != tail.load(Ordering::Acquire) {
            let place = (next % self.params.cq_entries) as usize;
            let at = self.params.cq_off.cqes as usize + place * size_of::<Cqe>();
            let at = self.cq.wrapping_add(at).cast::<Cqe>();
            // SAFETY: A completion that the kernel has written.
            self.early.push(unsafe { at.read() });
            next = next.wrapping_add(1);
            head.store(next, Ordering::Release);
        }
    }

    /// The result of a request, once it is there.
    pub fn wait(&mut self, name: u64) -> Result<i32> {
        let start = Instant::now();
        loop {
            self.wait_once()?;
            if let Some(result) = self.done(name) {
                return Ok(result);
            }
            ensure!(
                start.elapsed() < HUNG / 2,
                "request {name} does not complete"
            );
        }
    }

    /// Waits a little; work that the kernel left to this process is done in a call.
    pub fn wait_once(&mut self) -> Result<()> {
        thread::sleep(Duration::from_millis(2));
        self.enter(0, 0, ENTER_GETEVENTS)
    }

    /// How many have completed and were not asked for.
    pub fn peek(&mut self) -> usize {
        self.collect();
        self.early.len()
    }

    /// The result of a request, if it is there.
    pub fn done(&mut self, name: u64) -> Option<i32> {
        self.collect();
        let at = self.early.iter().position(|cqe| cqe.user_data == name)?;
        Some(self.early.swap_remove(at).res)
    }
}

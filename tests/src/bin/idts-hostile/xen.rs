// SPDX-License-Identifier: GPL-2.0
//! Grants, mappings and event channels by Xen's devices, as any program may have them: all that a
//! driver of the tunnel's other side needs, without a module.

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

use anyhow::{ensure, Context, Result};
use idts_core::mem::SharedMem;
use idts_core::wire::PAGE;
use rustix::ioctl::opcode::from_components;
use rustix::ioctl::{ioctl, Direction, Ioctl, IoctlOutput, Opcode};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};

/// Memory that the other domain reads and writes too. It is given back with what made it.
#[derive(Clone, Copy)]
pub struct Mem {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: Reached by atomic accesses alone.
unsafe impl Send for Mem {}
// SAFETY: As above.
unsafe impl Sync for Mem {}

impl Mem {
    fn word(&self, at: u32) -> Option<&AtomicU32> {
        let at = at as usize;
        if !at.is_multiple_of(4) || at + 4 > self.len {
            return None;
        }
        // SAFETY: Inside the mapping, as just checked.
        let place = unsafe { self.base.as_ptr().add(at) };
        // SAFETY: Aligned; the mapping outlives what uses it, see `Granted` and `Mapped`.
        Some(unsafe { AtomicU32::from_ptr(place.cast()) })
    }

    fn double(&self, at: u32) -> Option<&AtomicU64> {
        let at = at as usize;
        if !at.is_multiple_of(8) || at + 8 > self.len {
            return None;
        }
        // SAFETY: Inside the mapping, as just checked.
        let place = unsafe { self.base.as_ptr().add(at) };
        // SAFETY: As in `word`.
        Some(unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// Fills a span with zeroes.
    pub fn clear(&self, at: u32, len: u32) {
        for at in (at..at + len).step_by(4) {
            self.store(at, 0);
        }
    }
}

impl SharedMem for Mem {
    fn load(&self, at: u32) -> u32 {
        self.word(at).map_or(0, |w| w.load(Ordering::Relaxed))
    }
    fn load_acquire(&self, at: u32) -> u32 {
        self.word(at).map_or(0, |w| w.load(Ordering::Acquire))
    }
    fn store(&self, at: u32, value: u32) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
    fn store_release(&self, at: u32, value: u32) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }
    fn or64(&self, at: u32, bits: u64) {
        if let Some(double) = self.double(at) {
            double.fetch_or(bits, Ordering::SeqCst);
        }
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        self.double(at)
            .map_or(0, |d| d.swap(value, Ordering::SeqCst))
    }
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A call that takes a structure of words, some of which it changes.
struct Call<'a> {
    opcode: Opcode,
    words: &'a mut [u64],
}

// SAFETY: `words` is at least as long as the structure that the opcode tells, see `call`.
unsafe impl Ioctl for Call<'_> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.words.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<i32> {
        Ok(output)
    }
}

/// `_IOC(_IOC_NONE, group, number, size)` with a structure of at most `words`.
fn call(
    file: &File,
    (group, number, size): (u8, u8, usize),
    words: &mut [u64],
) -> rustix::io::Result<i32> {
    let opcode = from_components(Direction::None, group, number, size);
    // SAFETY: The callers below pass the structures of xen/gntalloc.h, gntdev.h and evtchn.h.
    unsafe { ioctl(file.as_fd(), Call { opcode, words }) }
}

fn open(path: &str) -> Result<File> {
    let file = File::options().read(true).write(true).open(path);
    file.with_context(|| path.to_string())
}

/// Two words as the structures have them.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn map(file: &File, index: u64, pages: usize) -> Result<Mem> {
    let len = pages * PAGE as usize;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: A mapping of its own, at a place that the kernel chooses.
    let base = unsafe {
        mmap(
            ptr::null_mut(),
            len,
            protection,
            MapFlags::SHARED,
            file,
            index,
        )
    };
    let base = NonNull::new(base.context("mmap")?.cast()).context("mmap gave nothing")?;
    Ok(Mem { base, len })
}

fn unmap(mem: Mem) {
    // SAFETY: Mapped with this length; nobody uses it any more.
    let _ = unsafe { munmap(mem.base.as_ptr().cast(), mem.len) };
}

/// Pages of ours that another domain may map.
pub struct Granted {
    pub mem: Mem,
    pub refs: Vec<u32>,
    // Ends the grants when it is closed.
    _file: File,
}

impl Granted {
    /// Zeroed pages for domain `peer`.
    pub fn new(peer: u32, pages: usize, writable: bool) -> Result<Self> {
        let file = open("/dev/xen/gntalloc")?;
        // struct ioctl_gntalloc_alloc_gref
        let mut words = vec![0; 2 + pages.div_ceil(2) + 1];
        words[0] = pair(peer | u32::from(writable) << 16, pages as u32);
        call(&file, (b'G', 5, 24), &mut words).context("granting")?;
        let refs = (0..pages).map(|i| (words[2 + i / 2] >> (32 * (i % 2))) as u32);
        let refs = refs.collect();
        let mem = map(&file, words[1], pages)?;
        Ok(Self {
            mem,
            refs,
            _file: file,
        })
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        unmap(self.mem);
    }
}

/// Pages of another domain.
pub struct Mapped {
    pub mem: Mem,
    // Ends the mapping for good when it is closed.
    _file: File,
}

impl Mapped {
    pub fn new(peer: u32, refs: &[u32]) -> Result<Self> {
        let file = open("/dev/xen/gntdev")?;
        // struct ioctl_gntdev_map_grant_ref
        let mut words = vec![0; 2 + refs.len()];
        words[0] = pair(refs.len() as u32, 0);
        for (word, reference) in words[2..].iter_mut().zip(refs) {
            *word = pair(peer, *reference);
        }
        call(&file, (b'G', 0, 24), &mut words).context("mapping")?;
        let mem = map(&file, words[1], refs.len())?;
        Ok(Self { mem, _file: file })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        unmap(self.mem);
    }
}

/// Event channels.
pub struct Events(File);

impl Events {
    pub fn open() -> Result<Self> {
        open("/dev/xen/evtchn").map(Self)
    }

    /// A port that `peer` may bind to.
    pub fn offer(&self, peer: u32) -> Result<u32> {
        let port = call(&self.0, (b'E', 2, 4), &mut [u64::from(peer)])?;
        ensure!(port > 0, "port {port}");
        Ok(port as u32)
    }

    /// Binds to a port of `peer`.
    pub fn bind(&self, peer: u32, port: u32) -> Result<u32> {
        Ok(call(&self.0, (b'E', 1, 8), &mut [pair(peer, port)])? as u32)
    }

    pub fn unbind(&self, port: u32) {
        let _ = call(&self.0, (b'E', 3, 4), &mut [u64::from(port)]);
    }

    /// Sends an event.
    pub fn notify(&self, port: u32) {
        let _ = call(&self.0, (b'E', 4, 4), &mut [u64::from(port)]);
    }
}

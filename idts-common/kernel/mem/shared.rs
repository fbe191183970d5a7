// SPDX-License-Identifier: GPL-2.0

//! Memory that the peer maps too: the only code that touches it.
//!
//! Provides the words ([`SharedMem`], which `idts_core` gives their meaning) and the copies
//! between a ring and a user's buffer or another ring. Each access needs an [`AccessGuard`].
//! PROTOCOL.md sections 2 and 6.

use core::arch::asm;
use core::cmp::min;
use core::ptr::NonNull;

use idts_core::mem::SharedMem;
use idts_core::ring::Span;
use idts_core::wire::WINDOW;
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::prelude::*;

use crate::mem::revocable::AccessGuard;
use crate::sys::bindings;

/// An address range of shared memory, contiguous and at most a window.
///
/// A raw address rather than a reference: the peer writes behind it at any time.
///
/// # Invariants
///
/// `len` bytes from `base` on are mapped and writable whenever an [`AccessGuard`] exists with
/// which a caller may access them, as [`Self::new`] requires.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlice {
    /// The first byte.
    base: NonNull<u8>,
    /// The number of bytes.
    len: u32,
}

// SAFETY: The value is an address. The memory is reached by volatile or locked accesses and by
// copies in assembly or C, all of which may race with any thread and with the peer.
unsafe impl Send for SharedSlice {}
// SAFETY: As above.
unsafe impl Sync for SharedSlice {}

impl SharedSlice {
    /// Names `len` bytes of shared memory at `base`.
    ///
    /// # Safety
    ///
    /// - `len` bytes from `base` on are mapped and writable until the
    ///   [`Revocable`](super::revocable::Revocable) whose guards are used with this slice has
    ///   been revoked; or until nothing leads to the slice any more and
    ///   [`wait_for_readers`](super::revocable::wait_for_readers) has returned since.
    /// - No Rust reference to these bytes exists while the slice is in use.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: u32) -> Self {
        // INVARIANT: As the caller guarantees.
        Self { base, len }
    }

    /// Returns `len` bytes at `at` of this slice; `None` if they are not all inside.
    pub(crate) fn subslice(self, at: u32, len: u32) -> Option<Self> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `at` is at most `self.len`, as just checked.
        let base = unsafe { self.base.add(at as usize) };
        // INVARIANT: A part of what `self` is about.
        Some(Self { base, len })
    }

    /// Returns the words of the slice, accessible while the guard is borrowed.
    #[inline]
    pub(crate) fn words<'a>(&'a self, _guard: &'a AccessGuard) -> SharedWords<'a> {
        SharedWords { slice: self }
    }

    /// Copies from the user's buffer into `len` bytes at `at`, with page faults disabled.
    ///
    /// Returns the number of bytes copied. Fewer than `len`: the buffer is not present, or the
    /// bytes are not inside the slice. The caller keeps a guard, as [`RingMemory`]'s methods do.
    fn copy_from_iter(&self, at: u32, len: u32, from: &mut IovIterSource<'_>) -> usize {
        let Some(part) = self.subslice(at, len) else {
            return 0;
        };
        let (base, from) = (part.base.as_ptr().cast(), from.as_raw());
        // SAFETY: `part` is mapped and writable, as its invariant says. C does the copy: no
        // reference to peer-writable memory is made. The iterator is valid, being borrowed.
        unsafe {
            bindings::idts_pagefault_disable();
            let n = bindings::idts_copy_from_iter(base, len as usize, from);
            bindings::idts_pagefault_enable();
            n
        }
    }

    /// Copies `len` bytes at `at` to the user's buffer, otherwise as [`Self::copy_from_iter`].
    fn copy_to_iter(&self, at: u32, len: u32, to: &mut IovIterDest<'_>) -> usize {
        let Some(part) = self.subslice(at, len) else {
            return 0;
        };
        let (base, to) = (part.base.as_ptr().cast(), to.as_raw());
        // SAFETY: As in `copy_from_iter`.
        unsafe {
            bindings::idts_pagefault_disable();
            let n = bindings::idts_copy_to_iter(base, len as usize, to);
            bindings::idts_pagefault_enable();
            n
        }
    }
}

/// The words of a [`SharedSlice`], for as long as an [`AccessGuard`] is borrowed.
///
/// A word that is not wholly inside the slice, or not aligned, reads as 0, and a store to it does
/// nothing: an offset that slipped through the checks above costs a channel, not the kernel.
#[derive(Clone, Copy)]
pub(crate) struct SharedWords<'a> {
    /// The slice that the words are in.
    slice: &'a SharedSlice,
}

impl SharedWords<'_> {
    /// The address of a word of `size` bytes, a power of two, at `at`; `None` if it is not
    /// inside or not aligned.
    #[inline(always)]
    fn at(&self, at: u32, size: u32) -> Option<*mut u8> {
        if at.checked_add(size)? > self.slice.len {
            return None;
        }
        // SAFETY: The word is inside the slice, as just checked.
        let p = unsafe { self.slice.base.as_ptr().add(at as usize) };
        (p.addr() & (size as usize).wrapping_sub(1) == 0).then_some(p)
    }
}

/// Keeps the compiler from moving memory accesses across this point.
///
/// On x86-64 acquire and release need no more: the CPU reorders neither loads with later
/// accesses nor stores with earlier ones (`__smp_store_release`,
/// arch/x86/include/asm/barrier.h).
#[inline(always)]
fn compiler_barrier() {
    // SAFETY: An empty assembly block, with a memory clobber by default.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

impl SharedMem for SharedWords<'_> {
    #[inline(always)]
    fn load(&self, at: u32) -> u32 {
        match self.at(at, 4) {
            // SAFETY: Inside a mapped slice and aligned. Volatile: one load of a value that the
            // peer may change at any time (the reasoning of rust/kernel/dma.rs for memory
            // shared with devices).
            Some(p) => unsafe { p.cast::<u32>().read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn load_acquire(&self, at: u32) -> u32 {
        let value = self.load(at);
        compiler_barrier();
        value
    }

    #[inline(always)]
    fn store(&self, at: u32, value: u32) {
        if let Some(p) = self.at(at, 4) {
            // SAFETY: As in `load`.
            unsafe { p.cast::<u32>().write_volatile(value) };
        }
    }

    #[inline(always)]
    fn store_release(&self, at: u32, value: u32) {
        compiler_barrier();
        self.store(at, value);
    }

    #[inline(always)]
    fn or64(&self, at: u32, bits: u64) {
        if let Some(p) = self.at(at, 8) {
            // SAFETY: Inside a mapped slice and aligned; one locked instruction.
            unsafe {
                asm!("lock or [{p}], {bits}", p = in(reg) p, bits = in(reg) bits, options(nostack))
            };
        }
    }

    #[inline(always)]
    fn swap64(&self, at: u32, value: u64) -> u64 {
        let Some(p) = self.at(at, 8) else {
            return 0;
        };
        let mut value = value;
        // SAFETY: Inside a mapped slice and aligned; `xchg` locks by itself.
        unsafe {
            asm!("xchg [{p}], {v}", p = in(reg) p, v = inout(reg) value, options(nostack, preserves_flags))
        };
        value
    }

    #[inline(always)]
    fn fence(&self) {
        // SAFETY: A locked operation that changes nothing, on our own stack: the
        // kernel's own smp_mb() (arch/x86/include/asm/barrier.h).
        unsafe { asm!("lock add dword ptr [rsp - 4], 0") };
    }
}

/// Copies `len` bytes between memories that peers may write at the same time.
///
/// # Safety
///
/// Both are mapped for that long, at addresses that do not overlap. The frames behind them may:
/// a peer can grant one frame twice, which garbles its own bytes alone.
unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: As the caller guarantees; the direction flag is clear in Rust. One opaque copy,
    // because Rust's own must not meet a racing writer, and the kernel's memcpy is 2.5 times
    // dearer on CPUs without FSRM.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) len & 7,
            inout("rcx") len / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// One side of a copy from ring to ring: the memory, the guard that keeps it, the bytes.
pub(crate) type Side<'a> = (&'a RingMemory, &'a AccessGuard, Span);

/// Copies the beginning of one span into the other, as far as both are contiguous in memory.
///
/// Returns the number of bytes: at least 1, unless a span is empty or not inside its ring.
pub(crate) fn copy_between((from, _, source): Side<'_>, (to, _, sink): Side<'_>) -> u32 {
    let slices =
        from.locate(source.at)
            .zip(to.locate(sink.at))
            .map(|((from, at), (to, at_sink))| {
                let len = min(source.len, sink.len)
                    .min(WINDOW.wrapping_sub(at))
                    .min(WINDOW.wrapping_sub(at_sink));
                (from.subslice(at, len), to.subslice(at_sink, len))
            });
    let Some((Some(from), Some(to))) = slices else {
        return 0;
    };
    // SAFETY: Both are inside their slices, which stay mapped while the guards are borrowed.
    // They belong to different rings, which lie at addresses of their own.
    unsafe { copy_raw(from.base.as_ptr(), to.base.as_ptr(), to.len as usize) };
    to.len
}

/// The memory of a ring.
///
/// # Invariants
///
/// One slice of any length, or several of a window each.
pub(crate) struct RingMemory {
    /// The slices, in the order of the ring's bytes.
    slices: KVec<SharedSlice>,
}

impl RingMemory {
    /// Makes a ring of `slices`: either one, or several of a window each.
    pub(crate) fn new(slices: KVec<SharedSlice>) -> Self {
        // INVARIANT: As the caller chose them. Others make a ring whose copies come up short.
        Self { slices }
    }

    /// Runs `copy` over the slices of `span` until one of them comes up short.
    ///
    /// Returns the number of bytes copied.
    fn for_each_slice(
        &self,
        span: Span,
        mut copy: impl FnMut(&SharedSlice, u32, u32) -> usize,
    ) -> u32 {
        let mut done = 0u32;
        while done < span.len {
            let at = span.at.wrapping_add(done);
            let Some((slice, at)) = self.locate(at) else {
                break;
            };
            let len = min(span.len.wrapping_sub(done), WINDOW.wrapping_sub(at));
            let n = copy(slice, at, len) as u32;
            done = done.wrapping_add(n);
            if n < len {
                break;
            }
        }
        done
    }

    /// The slice that the byte at `at` lies in, and the byte's offset there.
    fn locate(&self, at: u32) -> Option<(&SharedSlice, u32)> {
        Some((self.slices.get((at / WINDOW) as usize)?, at % WINDOW))
    }

    /// Reads the word at `at`, by one access; 0 if it is not inside or not aligned.
    pub(crate) fn read_word(&self, guard: &AccessGuard, at: u32) -> u32 {
        self.locate(at)
            .map_or(0, |(slice, at)| slice.words(guard).load(at))
    }

    /// Writes the word at `at`, by one access, if it is inside and aligned.
    pub(crate) fn write_word(&self, guard: &AccessGuard, at: u32, value: u32) {
        if let Some((slice, at)) = self.locate(at) {
            slice.words(guard).store(at, value);
        }
    }

    /// Copies from a user's buffer into `span`, with page faults disabled.
    ///
    /// Returns the number of bytes copied. Fewer than `span.len`: the caller drops the guard,
    /// faults the buffer in and tries again (`sys::uaccess`).
    pub(crate) fn copy_from_iter(
        &self,
        _guard: &AccessGuard,
        span: Span,
        from: &mut IovIterSource<'_>,
    ) -> u32 {
        self.for_each_slice(span, |slice, at, len| slice.copy_from_iter(at, len, from))
    }

    /// Copies `span` to a user's buffer, otherwise as [`Self::copy_from_iter`].
    pub(crate) fn copy_to_iter(
        &self,
        _guard: &AccessGuard,
        span: Span,
        to: &mut IovIterDest<'_>,
    ) -> u32 {
        self.for_each_slice(span, |slice, at, len| slice.copy_to_iter(at, len, to))
    }
}

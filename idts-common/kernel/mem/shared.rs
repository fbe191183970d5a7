// SPDX-License-Identifier: GPL-2.0

//! Memory that the peer maps too: the only code that touches it.
//!
//! Owns the words ([`SharedMem`]) and the copies between a ring and a user's buffer.
//! What the words mean is left to `idts_core`. Every access needs a [`AccessGuard`], which only
//! an open [`Revocable`](super::revocable::Revocable) hands out.

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

/// A contiguous piece of shared memory, at most a window.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlice {
    base: NonNull<u8>,
    len: u32,
}

// SAFETY: A piece is an address; what is behind it is reached with single
// accesses only, which may come from any thread.
unsafe impl Send for SharedSlice {}
// SAFETY: As above.
unsafe impl Sync for SharedSlice {}

impl SharedSlice {
    /// Names `len` bytes of shared memory at `base`.
    ///
    /// # Safety
    ///
    /// - `base` is aligned to 8 bytes, and `len` bytes from it on are mapped and
    ///   writable for as long as there may be a `AccessGuard` with which this piece is
    ///   accessed: until the gate was closed, or until nobody can find the piece any
    ///   more and a grace period has passed since.
    /// - No Rust reference into these bytes exists while the piece is in use.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: u32) -> Self {
        Self { base, len }
    }

    /// A part of this piece, or nothing where it would leave the piece.
    pub(crate) fn subslice(self, at: u32, len: u32) -> Option<Self> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `at` was just checked to be inside the piece.
        let base = unsafe { self.base.add(at as usize) };
        Some(Self { base, len })
    }

    /// The words of the piece.
    #[inline]
    pub(crate) fn words<'a>(&'a self, _live: &'a AccessGuard) -> SharedWords<'a> {
        SharedWords { piece: self }
    }

    /// Copies from the user's buffer into the piece, with page faults disabled.
    /// Returns the number of bytes copied; a short count is a fault.
    fn copy_from_iter(&self, at: u32, len: u32, from: &mut IovIterSource<'_>) -> usize {
        let Some(part) = self.subslice(at, len) else {
            return 0;
        };
        let (base, from) = (part.base.as_ptr().cast(), from.as_raw());
        // SAFETY: `part` is mapped and writable, as its invariant says. The copy is
        // done by C: no reference to peer-writable memory is made.
        unsafe {
            bindings::idts_pagefault_disable();
            let n = bindings::idts_copy_from_iter(base, len as usize, from);
            bindings::idts_pagefault_enable();
            n
        }
    }

    /// Copies from the piece to the user's buffer; otherwise as [`Self::copy_from_iter`].
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

/// The words of a [`SharedSlice`], for as long as a [`AccessGuard`] is borrowed.
#[derive(Clone, Copy)]
pub(crate) struct SharedWords<'a> {
    piece: &'a SharedSlice,
}

impl SharedWords<'_> {
    /// The address of `size` bytes at `at`, if they are inside and aligned.
    #[inline(always)]
    fn at(&self, at: u32, size: u32) -> Option<*mut u8> {
        let end = at.checked_add(size)?;
        if end > self.piece.len || at & size.wrapping_sub(1) != 0 {
            return None;
        }
        // SAFETY: The offset is inside the piece, as just checked.
        Some(unsafe { self.piece.base.as_ptr().add(at as usize) })
    }
}

/// Keeps the compiler from moving memory accesses across. On x86-64 that is all
/// that acquire and release need: the CPU reorders neither loads with later
/// accesses nor stores with earlier ones.
#[inline(always)]
fn compiler_barrier() {
    // SAFETY: An empty assembly block, with a memory clobber by default.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

impl SharedMem for SharedWords<'_> {
    #[inline(always)]
    fn load(&self, at: u32) -> u32 {
        match self.at(at, 4) {
            // SAFETY: Inside a mapped piece and aligned; volatile, so it is one
            // load of a value that the peer may change at any time (the
            // reasoning of rust/kernel/dma.rs for memory shared with devices).
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
            // SAFETY: Inside a mapped piece and aligned; one locked instruction.
            unsafe {
                asm!("lock or [{p}], {bits}", p = in(reg) p, bits = in(reg) bits, options(nostack))
            };
        }
    }

    #[inline(always)]
    fn swap64(&self, at: u32, value: u64) -> u64 {
        let mut value = value;
        if let Some(p) = self.at(at, 8) {
            // SAFETY: Inside a mapped piece and aligned; `xchg` locks by itself.
            unsafe {
                asm!("xchg [{p}], {v}", p = in(reg) p, v = inout(reg) value, options(nostack, preserves_flags))
            };
        }
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
/// Both are mapped for that long, at addresses that do not overlap. The frames behind
/// them may: a peer can grant one twice, and spoils its own bytes by that.
unsafe fn copy_raw(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: As the caller guarantees; the direction flag is clear in Rust. The
    // kernel's memcpy is dearer without FSRM, and Rust's must not meet a racing
    // writer: this is one opaque copy.
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

/// One side of a copy from ring to ring: memory, the proof that it is mapped,
/// and where.
pub(crate) type Side<'a> = (&'a RingMemory, &'a AccessGuard, Span);

/// Copies the beginning of one span into the other; the number of bytes.
pub(crate) fn copy_between((from, _, source): Side<'_>, (to, _, sink): Side<'_>) -> u32 {
    let pieces =
        from.locate(source.at)
            .zip(to.locate(sink.at))
            .map(|((from, at), (to, at_sink))| {
                let len = min(source.len, sink.len)
                    .min(WINDOW.wrapping_sub(at))
                    .min(WINDOW.wrapping_sub(at_sink));
                (from.subslice(at, len), to.subslice(at_sink, len))
            });
    let Some((Some(from), Some(to))) = pieces else {
        return 0;
    };
    // SAFETY: Both parts are inside their pieces, which stay mapped while the
    // proofs are borrowed; they belong to different rings, which lie at addresses of
    // their own.
    unsafe { copy_raw(from.base.as_ptr(), to.base.as_ptr(), to.len as usize) };
    to.len
}

/// The memory of a ring: one piece, or whole windows.
pub(crate) struct RingMemory {
    pieces: KVec<SharedSlice>,
}

impl RingMemory {
    /// A ring made of `pieces`: either one, or several of a window each.
    pub(crate) fn new(pieces: KVec<SharedSlice>) -> Self {
        Self { pieces }
    }

    /// Runs `copy` over the pieces of `span` until one of them comes up short.
    fn walk(&self, span: Span, mut copy: impl FnMut(&SharedSlice, u32, u32) -> usize) -> u32 {
        let mut done = 0u32;
        while done < span.len {
            let at = span.at.wrapping_add(done);
            let Some(piece) = self.pieces.get((at / WINDOW) as usize) else {
                break;
            };
            let at = at % WINDOW;
            let len = min(span.len.wrapping_sub(done), WINDOW.wrapping_sub(at));
            let n = copy(piece, at, len) as u32;
            done = done.wrapping_add(n);
            if n < len {
                break;
            }
        }
        done
    }

    /// The piece that the byte at `at` lies in, and its place there.
    fn locate(&self, at: u32) -> Option<(&SharedSlice, u32)> {
        Some((self.pieces.get((at / WINDOW) as usize)?, at % WINDOW))
    }

    /// Reads the word at `at`, once.
    pub(crate) fn read_word(&self, live: &AccessGuard, at: u32) -> u32 {
        self.locate(at)
            .map_or(0, |(piece, at)| piece.words(live).load(at))
    }

    /// Writes the word at `at`.
    pub(crate) fn write_word(&self, live: &AccessGuard, at: u32, value: u32) {
        if let Some((piece, at)) = self.locate(at) {
            piece.words(live).store(at, value);
        }
    }

    /// Copies from a user's buffer into `span`; a short count is a fault.
    pub(crate) fn copy_from_iter(
        &self,
        _live: &AccessGuard,
        span: Span,
        from: &mut IovIterSource<'_>,
    ) -> u32 {
        self.walk(span, |piece, at, len| piece.copy_from_iter(at, len, from))
    }

    /// Copies `span` to a user's buffer; a short count is a fault.
    pub(crate) fn copy_to_iter(
        &self,
        _live: &AccessGuard,
        span: Span,
        to: &mut IovIterDest<'_>,
    ) -> u32 {
        self.walk(span, |piece, at, len| piece.copy_to_iter(at, len, to))
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The memory of a data region: segments of windows, growing and shrinking.
//!
//! Owns the windows of one side, granted or mapped, and their order of undoing.
//! Which pages of them are in use is `idts_core::allocator`'s book.

use idts_core::wire::{Slice, SEGMENTS, WINDOW, WINDOW_PAGES};
use kernel::prelude::*;

use crate::mem::local::LocalPages;
use crate::mem::shared::{RingMemory, SharedSlice};
use crate::reaper::Reaper;
use crate::xen::grant::{GrantedPages, MappedPages};
use kernel::sync::Arc;

/// A window, or the control page.
pub(crate) enum Pages {
    /// Ours, granted to the peer.
    Granted(GrantedPages),
    /// The peer's, mapped here.
    Mapped(MappedPages),
    /// Nobody else's.
    Local(LocalPages),
}

impl Pages {
    /// The memory, for access.
    pub(crate) fn slice(&self) -> SharedSlice {
        match self {
            Self::Granted(pages) => pages.slice(),
            Self::Mapped(pages) => pages.slice(),
            Self::Local(pages) => pages.slice(),
        }
    }

    /// Gives the memory back: unmaps it now, or ends its grants as soon as the
    /// peer lets go.
    pub(crate) fn give_back(self, reaper: &Arc<Reaper>) {
        match self {
            Self::Granted(pages) => reaper.end([pages]),
            Self::Mapped(pages) => drop(pages),
            Self::Local(pages) => drop(pages),
        }
    }
}

/// The windows of a segment.
pub(crate) type Windows = KVec<Pages>;

/// The segments of a region that have memory, by number.
pub(crate) struct Segments {
    segments: [Option<Windows>; SEGMENTS as usize],
    /// Numbers in the order in which they came, for undoing newest first.
    order: KVec<u32>,
}

impl Segments {
    /// No segments.
    pub(crate) const fn new() -> Self {
        Self {
            segments: [const { None }; SEGMENTS as usize],
            order: KVec::new(),
        }
    }

    /// Windows in all segments.
    pub(crate) fn windows(&self) -> usize {
        self.segments
            .iter()
            .flatten()
            .fold(0usize, |n, w| n.wrapping_add(w.len()))
    }

    /// Number of segments.
    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    /// The windows of the newest segment.
    pub(crate) fn newest(&self) -> usize {
        let number = self.order.last().copied().unwrap_or(0);
        self.get(number).map_or(0, |w| w.len())
    }

    /// A number that has no memory.
    pub(crate) fn vacant(&self) -> Option<u32> {
        (0..SEGMENTS).find(|n| self.get(*n).is_none())
    }

    /// The windows of a segment.
    pub(crate) fn get(&self, number: u32) -> Option<&Windows> {
        self.segments.get(number as usize)?.as_ref()
    }

    /// Gives a number its memory.
    pub(crate) fn put(&mut self, number: u32, windows: Windows) -> Result {
        let place = self.segments.get_mut(number as usize).ok_or(EINVAL)?;
        self.order.push(number, GFP_KERNEL)?;
        *place = Some(windows);
        Ok(())
    }

    /// Takes the memory of a number out.
    pub(crate) fn take(&mut self, number: u32) -> Option<Windows> {
        self.order.retain(|n| *n != number);
        self.segments.get_mut(number as usize)?.take()
    }

    /// Takes everything out, newest first.
    pub(crate) fn take_newest(&mut self) -> Option<Windows> {
        let number = self.order.last().copied()?;
        self.take(number)
    }

    /// A part of a segment that lies in one window.
    pub(crate) fn slice(&self, number: u32, offset: u32, len: u32) -> Option<SharedSlice> {
        let window = self.get(number)?.get((offset / WINDOW) as usize)?;
        window.slice().subslice(offset % WINDOW, len)
    }

    /// The memory of a ring, as the book allocated or claimed it.
    pub(crate) fn ring(&self, slice: Slice) -> Result<RingMemory> {
        let mut pieces = KVec::new();
        let mut done = 0u32;
        while done < slice.len {
            let len = slice.len.wrapping_sub(done).min(WINDOW);
            let offset = slice.offset.wrapping_add(done);
            let piece = self.slice(slice.segment, offset, len).ok_or(EINVAL)?;
            pieces.push(piece, GFP_KERNEL_ACCOUNT)?;
            done = done.wrapping_add(len);
        }
        Ok(RingMemory::new(pieces))
    }
}

/// Allocates and grants windows.
pub(crate) fn grant_windows(peer: u16, count: u32) -> Result<Windows> {
    let mut windows = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        let pages = GrantedPages::new(peer, WINDOW_PAGES as usize)?;
        windows
            .push_within_capacity(Pages::Granted(pages))
            .map_err(|_| ENOMEM)?;
    }
    Ok(windows)
}

/// Gives windows back, newest first.
pub(crate) fn give_back(mut windows: Windows, reaper: &Arc<Reaper>) {
    while let Some(window) = windows.pop() {
        window.give_back(reaper);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The memory of a data region: segments of windows, growing and shrinking.
//!
//! Has the windows of one side, granted or mapped, and the order in which they are undone.
//! `idts_core` has the allocator, which knows the slices that are in use. PROTOCOL.md section 5.4.

use idts_core::wire::{Slice, SEGMENTS, WINDOW, WINDOW_PAGES};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::mem::local::LocalPages;
use crate::mem::revocable::Revocable;
use crate::mem::shared::{RingMemory, SharedSlice};
use crate::xen::grant::{GrantedPages, MappedPages};
use crate::xen::reclaim::Reclaim;

/// The pages of a window, or the control page, by who else has them.
pub(crate) enum Pages {
    /// Ours, granted to the peer.
    Granted(GrantedPages),
    /// The peer's, mapped here.
    Mapped(MappedPages),
    /// Ours alone.
    Local(LocalPages),
}

impl Pages {
    /// The memory, for access by the tunnel that keeps the pages.
    pub(crate) fn slice(&self) -> SharedSlice {
        match self {
            Self::Granted(pages) => pages.slice(),
            Self::Mapped(pages) => pages.slice(),
            Self::Local(pages) => pages.slice(),
        }
    }

    /// Gives the pages back: unmaps them now, or ends their grants as soon as the peer lets go.
    ///
    /// No access is possible any more: it was revoked, or `wait_for_readers` has returned since
    /// the last channel there went.
    pub(crate) fn give_back(self, reclaim: &Arc<Reclaim>) {
        match self {
            Self::Granted(pages) => reclaim.end([pages]),
            Self::Mapped(pages) => drop(pages),
            Self::Local(pages) => drop(pages),
        }
    }
}

/// The windows of a segment, in order.
pub(crate) type Windows = KVec<Pages>;

/// A segment that has memory.
struct Segment {
    /// The memory.
    windows: Windows,
    /// Its age: of two segments the newer one has the higher number.
    serial: u64,
}

/// The segments of a region that have memory, by number.
pub(crate) struct Segments {
    /// Keeps accesses to the region and teardown apart.
    gate: Arc<Revocable>,
    /// The segments.
    segments: [Option<Segment>; SEGMENTS as usize],
    /// The serial of the next one that comes.
    next_serial: u64,
}

impl Segments {
    /// Creates a region without memory, behind `gate`.
    pub(crate) const fn new(gate: Arc<Revocable>) -> Self {
        Self {
            gate,
            segments: [const { None }; SEGMENTS as usize],
            next_serial: 0,
        }
    }

    /// Returns the gate of the region, which channels that lie in it hold, too.
    pub(crate) fn gate(&self) -> &Arc<Revocable> {
        &self.gate
    }

    /// Returns the number of windows of all segments.
    pub(crate) fn windows(&self) -> usize {
        self.segments
            .iter()
            .flatten()
            .fold(0usize, |n, s| n.wrapping_add(s.windows.len()))
    }

    /// Returns the number of segments.
    pub(crate) fn count(&self) -> usize {
        self.segments.iter().flatten().count()
    }

    /// The number of the newest segment.
    fn newest(&self) -> Option<u32> {
        (0..SEGMENTS)
            .zip(&self.segments)
            .filter_map(|(number, s)| Some((s.as_ref()?.serial, number)))
            .max()
            .map(|(_, number)| number)
    }

    /// Returns the number of windows of the newest segment; 0 if there is none.
    pub(crate) fn newest_windows(&self) -> usize {
        self.newest()
            .and_then(|number| self.get(number))
            .map_or(0, |w| w.len())
    }

    /// Returns a number that has no memory.
    pub(crate) fn vacant(&self) -> Option<u32> {
        (0..SEGMENTS).find(|n| self.get(*n).is_none())
    }

    /// Returns the windows of a segment.
    pub(crate) fn get(&self, number: u32) -> Option<&Windows> {
        let segment = self.segments.get(number as usize)?.as_ref()?;
        Some(&segment.windows)
    }

    /// Gives a vacant number its memory. Fails with `EINVAL`, and drops the memory, if there is no
    /// such number.
    ///
    /// Allocates nothing, so that what the peer was told of, or told us, can always be kept.
    pub(crate) fn put(&mut self, number: u32, windows: Windows) -> Result {
        let place = self.segments.get_mut(number as usize).ok_or(EINVAL)?;
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        *place = Some(Segment { windows, serial });
        Ok(())
    }

    /// Takes the memory of a number out.
    pub(crate) fn take(&mut self, number: u32) -> Option<Windows> {
        let segment = self.segments.get_mut(number as usize)?.take()?;
        Some(segment.windows)
    }

    /// Takes the memory of the newest segment out: memory is given back in reverse order.
    pub(crate) fn take_newest(&mut self) -> Option<Windows> {
        self.newest().and_then(|number| self.take(number))
    }

    /// Returns `len` bytes at `offset` of a segment; `None` if they do not lie in one window.
    pub(crate) fn slice(&self, number: u32, offset: u32, len: u32) -> Option<SharedSlice> {
        let window = self.get(number)?.get((offset / WINDOW) as usize)?;
        window.slice().subslice(offset % WINDOW, len)
    }

    /// Returns the memory of a ring, which the allocator placed or checked.
    ///
    /// Fails with `EINVAL` if it is not all inside, with `ENOMEM`.
    pub(crate) fn ring(&self, slice: Slice) -> Result<RingMemory> {
        let mut slices = KVec::new();
        let mut done = 0u32;
        while done < slice.len {
            let len = slice.len.wrapping_sub(done).min(WINDOW);
            let offset = slice.offset.wrapping_add(done);
            let part = self.slice(slice.segment, offset, len).ok_or(EINVAL)?;
            slices.push(part, GFP_KERNEL_ACCOUNT)?;
            done = done.wrapping_add(len);
        }
        Ok(RingMemory::new(slices))
    }
}

/// Allocates `count` windows and grants them to domain `peer`. Fails as [`GrantedPages::new`].
pub(crate) fn grant_windows(peer: u16, count: u32) -> Result<Windows> {
    let mut windows = KVec::with_capacity(count as usize, GFP_KERNEL)?;
    for _ in 0..count {
        let pages = GrantedPages::new(peer, WINDOW_PAGES as usize)?;
        // Within the capacity: this allocates nothing.
        windows.push(Pages::Granted(pages), GFP_KERNEL)?;
    }
    Ok(windows)
}

/// Gives windows back, newest first, as [`Pages::give_back`].
pub(crate) fn give_back(mut windows: Windows, reclaim: &Arc<Reclaim>) {
    while let Some(window) = windows.pop() {
        window.give_back(reclaim);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Growing and shrinking the region that channels lie in.
//!
//! The front grants segments, window by window, and asks for idle ones back; the
//! back maps and unmaps them. PROTOCOL.md section 7.

use idts_core::error::Violation;
use idts_core::wire::{
    BackMessage, FrontMessage, Refusal, SEGMENT_WINDOWS, WINDOW, WINDOW_PAGES, WINDOW_REFS,
};
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::grant::MappedPages;
use crate::segments::{self, Memory, Windows};
use crate::tunnel::{Inner, Tunnel};

/// Windows of a data region, at most: 16 MiB of rings for each guest, and 1 MiB
/// for lines.
const REGION_WINDOWS_MAX: usize = 256 + 16;

/// A segment that comes in, window by window.
pub(crate) struct Incoming {
    segment: u32,
    windows: u32,
    window: u32,
    half: u32,
    refs: [u32; WINDOW_PAGES as usize],
    mapped: Windows,
    failed: bool,
}

impl Tunnel {
    /// Grows the region by `need` windows or more.
    pub(crate) fn grow(&self, inner: &mut Inner, need: u32) -> Result {
        let number = inner.segments.vacant().ok_or(ENOSPC)?;
        let have = inner.segments.windows();
        let room = REGION_WINDOWS_MAX.saturating_sub(have);
        if need as usize > room || need > SEGMENT_WINDOWS {
            return Err(ENOSPC);
        }
        // Doubles, so that many small channels do not mean many segments.
        let count = (need as usize)
            .max(inner.segments.newest().wrapping_mul(2))
            .min(room)
            .min(SEGMENT_WINDOWS as usize) as u32;
        let windows = segments::grant_windows(self.peer, count).or_else(|_| {
            if count > need {
                segments::grant_windows(self.peer, need)
            } else {
                Err(ENOSPC)
            }
        })?;
        let count = windows.len() as u32;
        for (window, memory) in (0..count).zip(windows.iter()) {
            let Memory::Granted(pages) = memory else {
                continue;
            };
            for (half, refs) in (0..2).zip(pages.refs().chunks_exact(WINDOW_REFS)) {
                let message = FrontMessage::Window {
                    segment: number,
                    windows: count,
                    window,
                    half,
                    refs: refs.try_into().map_err(|_| EINVAL)?,
                };
                self.post(inner, message.encode());
            }
        }
        inner.segments.put(number, windows)?;
        inner.openings.growing = Some(number);
        self.flush(inner);
        Ok(())
    }

    /// The back mapped the new segment, or could not.
    pub(super) fn segment(
        self: &Arc<Self>,
        inner: &mut Inner,
        number: u32,
        mapped: bool,
    ) -> Result<(), Violation> {
        if inner.openings.growing != Some(number) {
            return Err(Violation::Segment);
        }
        inner.openings.growing = None;
        let windows = inner.segments.get(number).map_or(0, |w| w.len()) as u32;
        if mapped {
            self.stats.grown.add(1);
            inner.book.add(number, windows)?;
        } else {
            if let Some(windows) = inner.segments.take(number) {
                segments::give_back(windows, &self.hub.reaper);
            }
            // Asking again would fail again: turn down what does not fit.
            if !inner.openings.pending.is_empty() {
                if let Ok(pending) = inner.openings.pending.remove(0) {
                    self.turn_down(inner, pending, Refusal::NoSpace);
                }
            }
        }
        self.place_pending(inner);
        Ok(())
    }

    /// Gives idle segments back, all but the first and the largest.
    pub(super) fn shrink(&self, inner: &mut Inner) {
        if inner.openings.growing.is_some() || !inner.openings.pending.is_empty() {
            return;
        }
        let windows = |inner: &Inner, n| inner.segments.get(n).map_or(0, |w| w.len());
        let idle = |inner: &Inner| {
            let idle = (1..idts_core::wire::SEGMENTS).filter(|n| inner.book.is_idle(*n));
            let count = idle.clone().count();
            let smallest = idle.min_by_key(|n| windows(inner, *n));
            smallest.filter(|_| count > 1)
        };
        while let Some(number) = idle(inner) {
            if inner.book.remove(number).is_err() {
                return;
            }
            self.post(inner, FrontMessage::Retire { segment: number }.encode());
        }
    }

    /// Half of the grant references of a window.
    pub(super) fn window(
        &self,
        inner: &mut Inner,
        (segment, windows, window, half): (u32, u32, u32, u32),
        refs: &[u32; WINDOW_REFS],
    ) -> Result<(), Violation> {
        if inner.openings.incoming.is_none() {
            if inner.segments.get(segment).is_some() {
                return Err(Violation::Segment);
            }
            let total = inner.segments.windows().wrapping_add(windows as usize);
            let memory = self.hub.policies.numbers(self.peer).memory;
            let bytes = (total as u64).saturating_mul(WINDOW.into());
            inner.openings.incoming = Some(Incoming {
                segment,
                windows,
                window: 0,
                half: 0,
                refs: [0; WINDOW_PAGES as usize],
                mapped: KVec::new(),
                failed: total > REGION_WINDOWS_MAX || bytes > memory,
            });
        }
        let Some(incoming) = inner.openings.incoming.as_mut() else {
            return Ok(());
        };
        if (incoming.segment, incoming.windows) != (segment, windows)
            || (incoming.window, incoming.half) != (window, half)
        {
            return Err(Violation::MessageOrder);
        }
        let at = (half as usize).wrapping_mul(WINDOW_REFS);
        for (to, from) in incoming.refs.iter_mut().skip(at).zip(refs) {
            *to = *from;
        }
        if half == 0 {
            incoming.half = 1;
            return Ok(());
        }
        incoming.half = 0;
        incoming.window = window.wrapping_add(1);
        if !incoming.failed {
            let Some(device) = self.device.clone() else {
                return Ok(());
            };
            match MappedPages::new(device, &mut incoming.refs) {
                Ok(mapped) => {
                    let kept = incoming.mapped.push(Memory::Mapped(mapped), GFP_KERNEL);
                    incoming.failed = kept.is_err();
                }
                Err(error) if error == ENOMEM || error == ENOSPC => incoming.failed = true,
                // Xen refused a reference: xenbus has closed the device.
                Err(_) => return Err(Violation::Segment),
            }
        }
        if incoming.window < windows {
            return Ok(());
        }
        let Some(incoming) = inner.openings.incoming.take() else {
            return Ok(());
        };
        let mapped = !incoming.failed && inner.segments.put(segment, incoming.mapped).is_ok();
        if mapped {
            inner.book.add(segment, windows)?;
            self.stats.grown.add(1);
        } else {
            self.stats.no_space.add(1);
        }
        self.post(inner, BackMessage::Segment { segment, mapped }.encode());
        Ok(())
    }

    /// The front wants a segment back.
    pub(super) fn retire(&self, inner: &mut Inner, segment: u32) -> Result<(), Violation> {
        inner.book.remove(segment)?;
        if let Some(windows) = inner.segments.take(segment) {
            segments::give_back(windows, &self.hub.reaper);
        }
        self.stats.shrunk.add(1);
        self.post(inner, BackMessage::Retired { segment }.encode());
        Ok(())
    }
}

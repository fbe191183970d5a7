// SPDX-License-Identifier: GPL-2.0

//! Growing and shrinking the region that channels lie in.
//!
//! The front grants segments, window by window, and asks for idle ones back; the
//! back maps and unmaps them. PROTOCOL.md section 7.

use idts_core::error::Violation;
use idts_core::reassembly;
use idts_core::role::Role;
use idts_core::wire::{
    BackMessage, FrontMessage, Refusal, SEGMENTS, SEGMENT_WINDOWS, WINDOW, WINDOW_PAGES,
    WINDOW_REFS,
};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;

use crate::mem::revocable::wait_for_readers;
use crate::region::segments::{self, Pages, Windows};
use crate::sys::clock::clock;
use crate::tunnel::{Inner, Tunnel};
use crate::xen::grant::{MapError, MappedPages};

/// Windows that are asked for ahead of need, at most: 1 MiB, so that many small
/// channels do not mean many segments, and leave room for large rings.
const AHEAD_MAX: usize = 16;

/// How long a segment stays idle before it is given back, in milliseconds.
static IDLE_MS: Atomic<u32> = Atomic::new(0);

/// Sets how long this module's segments stay idle.
pub fn keep_idle(ms: u32) {
    IDLE_MS.store(ms, Relaxed);
}

/// A segment that was offered to the back.
pub(crate) struct Growing {
    number: u32,
    /// Windows that are needed; it may have more.
    need: u32,
}

/// A segment that comes in, window by window.
pub(crate) struct Incoming {
    order: reassembly::SegmentAssembler,
    refs: [u32; WINDOW_PAGES as usize],
    mapped: Windows,
    failed: bool,
}

impl Tunnel {
    /// Grows the region by `need` windows or more.
    pub(crate) fn grow(&self, inner: &mut Inner, need: u32) -> Result {
        let ahead = inner
            .segments
            .newest_windows()
            .wrapping_mul(2)
            .min(AHEAD_MAX);
        let result = self.grow_by(inner, need, need.max(ahead as u32));
        match result {
            Err(_) if ahead > need as usize => self.grow_by(inner, need, need),
            result => result,
        }
    }

    /// Grants a segment of `count` windows and offers it to the back.
    fn grow_by(&self, inner: &mut Inner, need: u32, count: u32) -> Result {
        let number = inner.segments.vacant().ok_or(ENOSPC)?;
        if count > SEGMENT_WINDOWS {
            return Err(ENOSPC);
        }
        let windows = segments::grant_windows(self.peer, count)?;
        for (window, memory) in (0..count).zip(windows.iter()) {
            let Pages::Granted(pages) = memory else {
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
        inner.openings.growing = Some(Growing { number, need });
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
        let growing = inner.openings.growing.take_if(|g| g.number == number);
        let Growing { need, .. } = growing.ok_or(Violation::Segment)?;
        let windows = inner.segments.get(number).map_or(0, |w| w.len()) as u32;
        if mapped {
            self.stats.grown.add(1);
            inner.book.add_segment(number, windows)?;
            inner.openings.note_use(number);
            self.place_pending(inner);
            // Who wanted it may have given up.
            self.tend(inner);
            return Ok(());
        }
        if let Some(windows) = inner.segments.take(number) {
            segments::give_back(windows, &self.hub.reaper);
        }
        // Asking for as much again would fail again.
        if inner.openings.pending.is_empty()
            || windows > need && self.grow_by(inner, need, need).is_ok()
            || self.make_room(inner)
        {
            return Ok(());
        }
        if let Ok(pending) = inner.openings.pending.remove(0) {
            self.turn_down(inner, pending, Refusal::NoSpace);
        }
        self.place_pending(inner);
        Ok(())
    }

    /// Front: has the reaper look after segments that are idle. They are kept for
    /// a while, so that opening and closing in turns costs no grants.
    pub(super) fn tend(self: &Arc<Self>, inner: &mut Inner) {
        let idle = (1..SEGMENTS).any(|n| inner.book.is_idle(n));
        if self.role == Role::Front && idle && !inner.openings.tended {
            inner.openings.tended = self.hub.reaper.tend(self.clone()).is_ok();
        }
    }

    /// Front: gives segments back that have been idle for long. Says whether
    /// others may become so.
    pub(crate) fn look_at_idle(self: &Arc<Self>) -> bool {
        let mut inner = self.inner.lock();
        let age = u64::from(IDLE_MS.load(Relaxed)).saturating_mul(1_000_000);
        let more = !self.gate.is_revoked() && self.shrink(&mut inner, age);
        inner.openings.tended = more;
        self.flush(&mut inner);
        more
    }

    /// Gives back all segments but the first that have been idle for `age`
    /// nanoseconds. Says whether idle ones are left.
    fn shrink(&self, inner: &mut Inner, age: u64) -> bool {
        let now = clock();
        let mut left = false;
        for number in (1..SEGMENTS).rev() {
            let used = inner.openings.used.get(number as usize).copied();
            if !inner.book.is_idle(number) {
                continue;
            }
            if now.saturating_sub(used.unwrap_or(0)) < age
                || inner.book.remove_segment(number).is_err()
            {
                left = true;
                continue;
            }
            inner.openings.retiring = inner.openings.retiring.wrapping_add(1);
            self.post(inner, FrontMessage::Retire { segment: number }.encode());
        }
        left
    }

    /// Front: gives idle segments back at once, for something else needs their
    /// room. Says whether some of it will be there.
    pub(super) fn make_room(&self, inner: &mut Inner) -> bool {
        self.shrink(inner, 0);
        inner.openings.retiring > 0
    }

    /// The back unmapped a segment.
    pub(super) fn retired(
        self: &Arc<Self>,
        inner: &mut Inner,
        segment: u32,
    ) -> Result<(), Violation> {
        // What the book has is in use, and what is growing was not mapped yet.
        let growing = inner.openings.growing.as_ref().map(|g| g.number);
        if inner.book.has_segment(segment) || growing == Some(segment) {
            return Err(Violation::Segment);
        }
        let windows = inner.segments.take(segment).ok_or(Violation::Segment)?;
        self.drop_windows(windows);
        inner.openings.retiring = inner.openings.retiring.saturating_sub(1);
        self.stats.shrunk.add(1);
        self.place_pending(inner);
        Ok(())
    }

    /// Gives back a segment in which no slice is in use. Its channels are in the
    /// table no more, but an event handler that found one there may still look at its
    /// lines, for the gate is open.
    fn drop_windows(&self, windows: Windows) {
        wait_for_readers();
        segments::give_back(windows, &self.hub.reaper);
    }

    /// A segment that begins to come in.
    fn expect_segment(&self, inner: &Inner, segment: u32, windows: u32) -> Incoming {
        let total = inner.segments.windows().wrapping_add(windows as usize);
        let memory = self.hub.policies.numbers(self.peer).memory;
        let bytes = (total as u64).saturating_mul(WINDOW.into());
        Incoming {
            order: reassembly::SegmentAssembler::new(segment, windows),
            refs: [0; WINDOW_PAGES as usize],
            mapped: KVec::new(),
            failed: bytes > memory,
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
            inner.openings.incoming = Some(self.expect_segment(inner, segment, windows));
        }
        let Some(incoming) = inner.openings.incoming.as_mut() else {
            return Ok(());
        };
        let whole = incoming.order.push((segment, windows), (window, half))?;
        let at = (half as usize).wrapping_mul(WINDOW_REFS);
        for (to, from) in incoming.refs.iter_mut().skip(at).zip(refs) {
            *to = *from;
        }
        if !whole {
            return Ok(());
        }
        if !incoming.failed {
            let Some(peer) = &self.device else {
                return Ok(());
            };
            match MappedPages::new(peer, &mut incoming.refs) {
                Ok(mapped) => {
                    let kept = incoming.mapped.push(Pages::Mapped(mapped), GFP_KERNEL);
                    incoming.failed = kept.is_err();
                }
                Err(MapError::Refused) => return Err(Violation::Segment),
                Err(MapError::OverBudget | MapError::Local(_)) => incoming.failed = true,
            }
        }
        let Some(incoming) = inner.openings.incoming.take_if(|i| i.order.is_complete()) else {
            return Ok(());
        };
        let mapped = !incoming.failed && inner.segments.put(segment, incoming.mapped).is_ok();
        if mapped {
            inner.book.add_segment(segment, windows)?;
            self.stats.grown.add(1);
        } else {
            self.stats.no_space.add(1);
        }
        self.post(inner, BackMessage::Segment { segment, mapped }.encode());
        Ok(())
    }

    /// The front wants a segment back.
    pub(super) fn retire(&self, inner: &mut Inner, segment: u32) -> Result<(), Violation> {
        inner.book.remove_segment(segment)?;
        if let Some(windows) = inner.segments.take(segment) {
            self.drop_windows(windows);
        }
        self.stats.shrunk.add(1);
        self.post(inner, BackMessage::Retired { segment }.encode());
        Ok(())
    }
}

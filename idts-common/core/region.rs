// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The data region's book: which pages of which segment are in use.
//!
//! The front allocates slices from its [`Region`]; the back checks each slice
//! that a message names against a `Region` of its own, which the front cannot
//! reach. Memory itself is left to others. PROTOCOL.md section 5.

use super::error::Violation;
use super::wire::{line, Slice, PAGE, RING_MAX, SEGMENTS, SEGMENT_WINDOWS, WINDOW_PAGES};
use zerocopy_derive::FromZeros;

const WORDS: usize = (SEGMENT_WINDOWS * WINDOW_PAGES / 64) as usize;
// A page holds as many pairs of lines as a word has bits.
const _: () = assert!(PAGE / line::PAIR == u32::BITS);
/// Pages of lines that a tunnel needs for all its channels, and some more for
/// pages that are not full.
const LINE_PAGES: usize = 256;

/// A page that holds pairs of lines.
#[derive(Clone, Copy, Debug, FromZeros)]
struct LinePage {
    segment: u32,
    page: u32,
    /// A bit for each pair in use; 0 means that this entry is free.
    used: u32,
}

/// The pages of one segment.
#[derive(Clone, Copy, Debug, FromZeros)]
struct Segment {
    /// Number of pages, 0 if there is no such segment.
    pages: u32,
    /// Pages in use.
    count: u32,
    used: [u64; WORDS],
}

impl Segment {
    const NONE: Self = Self {
        pages: 0,
        count: 0,
        used: [0; WORDS],
    };

    fn run_is_free(&self, first: u32, pages: u32) -> bool {
        let is_free = |(word, bits)| self.used.get(word).is_some_and(|w| w & bits == 0);
        first
            .checked_add(pages)
            .is_some_and(|end| end <= self.pages)
            && words(first, pages).all(is_free)
    }

    fn mark(&mut self, first: u32, pages: u32, used: bool) {
        for (word, bits) in words(first, pages) {
            if let Some(w) = self.used.get_mut(word) {
                *w = if used { *w | bits } else { *w & !bits };
            }
        }
        self.count = if used {
            self.count.wrapping_add(pages)
        } else {
            self.count.wrapping_sub(pages)
        };
    }

    /// First-fit at multiples of the smaller of the run's size and a window, so
    /// that rings up to a window never straddle two.
    fn find(&self, pages: u32) -> Option<u32> {
        let step = pages.clamp(1, WINDOW_PAGES);
        (0..self.pages)
            .step_by(step as usize)
            .find(|p| self.run_is_free(*p, pages))
    }
}

/// The words that a run of pages lies in, and the run's bits of each.
fn words(first: u32, pages: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = first.wrapping_add(pages);
    (first / u64::BITS..end.div_ceil(u64::BITS)).map(move |word| {
        let start = word.wrapping_mul(u64::BITS);
        let low = first.saturating_sub(start);
        let high = end.wrapping_sub(start).min(u64::BITS);
        let above = u64::BITS.wrapping_sub(high.wrapping_sub(low));
        let bits = u64::MAX.checked_shr(above).unwrap_or(0).wrapping_shl(low);
        (word as usize, bits)
    })
}

/// The bit of the pair of lines at `offset`, among those of its page.
const fn pair_bit(offset: u32) -> u32 {
    // The shift counts modulo the bits of the word, as many as a page has pairs.
    1u32.wrapping_shl(offset / line::PAIR)
}

/// Where a pair of lines lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinesAt {
    /// Segment number.
    pub segment: u32,
    /// Byte offset of the pair.
    pub offset: u32,
}

/// The book of a data region. Memory that is all zero is a valid one, and equal to
/// [`Region::new`]: it is too large for a kernel's stack.
#[derive(Clone, Debug, FromZeros)]
pub struct Region {
    segments: [Segment; SEGMENTS as usize],
    lines: [LinePage; LINE_PAGES],
    /// None of the entries of `lines` from here on is in use.
    lines_end: usize,
}

impl Default for Region {
    fn default() -> Self {
        Self::new()
    }
}

impl Region {
    /// A region without segments.
    pub const fn new() -> Self {
        Self {
            segments: [Segment::NONE; SEGMENTS as usize],
            lines: [LinePage {
                segment: 0,
                page: 0,
                used: 0,
            }; LINE_PAGES],
            lines_end: 0,
        }
    }

    /// The pages of lines that may be in use.
    fn used_lines(&mut self) -> impl Iterator<Item = &mut LinePage> {
        self.lines.iter_mut().take(self.lines_end)
    }

    /// Whether one more page of lines can be kept.
    fn has_line_entry(&self) -> bool {
        self.lines.iter().any(|l| l.used == 0)
    }

    /// Keeps a page of lines, if there is an entry for it.
    fn keep_line_page(&mut self, page: LinePage) {
        let free = self.lines.iter_mut().zip(1..).find(|(l, _)| l.used == 0);
        if let Some((entry, end)) = free {
            *entry = page;
            self.lines_end = self.lines_end.max(end);
        }
    }

    fn segment_mut(&mut self, number: u32) -> Result<&mut Segment, Violation> {
        self.segments
            .get_mut(number as usize)
            .filter(|s| s.pages != 0)
            .ok_or(Violation::Segment)
    }

    /// A number that no segment has.
    pub fn vacant(&self) -> Option<u32> {
        (0..SEGMENTS)
            .zip(self.segments.iter())
            .find(|(_, s)| s.pages == 0)
            .map(|(n, _)| n)
    }

    /// Adds a segment of `windows` windows, all free.
    pub fn add(&mut self, number: u32, windows: u32) -> Result<(), Violation> {
        if windows == 0 || windows > SEGMENT_WINDOWS {
            return Err(Violation::MessageField);
        }
        let segment = self
            .segments
            .get_mut(number as usize)
            .filter(|s| s.pages == 0)
            .ok_or(Violation::Segment)?;
        segment.pages = windows.wrapping_mul(WINDOW_PAGES);
        Ok(())
    }

    /// Takes a segment out that has no slice in use.
    pub fn remove(&mut self, number: u32) -> Result<(), Violation> {
        let segment = self.segment_mut(number)?;
        if segment.count != 0 {
            return Err(Violation::Segment);
        }
        *segment = Segment::NONE;
        Ok(())
    }

    /// Whether a segment exists.
    pub fn has(&self, number: u32) -> bool {
        self.segments
            .get(number as usize)
            .is_some_and(|s| s.pages != 0)
    }

    /// Whether a segment exists and no slice of it is in use.
    pub fn is_idle(&self, number: u32) -> bool {
        self.segments
            .get(number as usize)
            .is_some_and(|s| s.pages != 0 && s.count == 0)
    }

    /// Pages in all segments.
    pub fn pages(&self) -> u32 {
        self.segments.iter().fold(0, |n, s| n.wrapping_add(s.pages))
    }

    /// Allocates a ring of `len` bytes, a power of two of whole pages.
    pub fn alloc(&mut self, len: u32) -> Option<Slice> {
        if !len.is_power_of_two() || !(PAGE..=RING_MAX).contains(&len) {
            return None;
        }
        let pages = len / PAGE;
        for (number, segment) in (0u32..).zip(self.segments.iter_mut()) {
            if let Some(first) = segment.find(pages) {
                segment.mark(first, pages, true);
                return Some(Slice {
                    segment: number,
                    offset: first.wrapping_mul(PAGE),
                    len,
                });
            }
        }
        None
    }

    /// Takes the slice that a message names, if it obeys every rule.
    pub fn claim(&mut self, slice: Slice) -> Result<(), Violation> {
        let align = slice.len.clamp(PAGE, WINDOW_PAGES.wrapping_mul(PAGE));
        if !slice.len.is_power_of_two()
            || slice.len < PAGE
            || slice.len > RING_MAX
            || slice.offset & align.wrapping_sub(1) != 0
        {
            return Err(Violation::SliceRange);
        }
        let segment = self.segment_mut(slice.segment)?;
        let (first, pages) = (slice.offset / PAGE, slice.len / PAGE);
        if first
            .checked_add(pages)
            .is_none_or(|end| end > segment.pages)
        {
            return Err(Violation::SliceRange);
        }
        if !segment.run_is_free(first, pages) {
            return Err(Violation::SliceOverlap);
        }
        segment.mark(first, pages, true);
        Ok(())
    }

    /// Gives back a slice that [`Self::alloc`] or [`Self::claim`] took.
    pub fn free(&mut self, slice: Slice) {
        if let Ok(segment) = self.segment_mut(slice.segment) {
            segment.mark(slice.offset / PAGE, slice.len / PAGE, false);
        }
    }

    /// Allocates a pair of lines.
    pub fn alloc_lines(&mut self) -> Option<LinesAt> {
        let partly = |l: &&mut LinePage| l.used != 0 && l.used != u32::MAX;
        if let Some(entry) = self.used_lines().find(partly) {
            let pair = entry.used.trailing_ones();
            entry.used |= 1u32.wrapping_shl(pair);
            return Some(LinesAt {
                segment: entry.segment,
                offset: entry
                    .page
                    .wrapping_mul(PAGE)
                    .wrapping_add(pair.wrapping_mul(line::PAIR)),
            });
        }
        if !self.has_line_entry() {
            return None;
        }
        let slice = self.alloc(PAGE)?;
        self.keep_line_page(LinePage {
            segment: slice.segment,
            page: slice.offset / PAGE,
            used: 1,
        });
        Some(LinesAt {
            segment: slice.segment,
            offset: slice.offset,
        })
    }

    fn line_page(&mut self, at: LinesAt) -> Option<&mut LinePage> {
        let page = at.offset / PAGE;
        self.used_lines()
            .find(|l| l.used != 0 && l.segment == at.segment && l.page == page)
    }

    /// Takes the pair of lines that a message names, if it obeys every rule.
    pub fn claim_lines(&mut self, at: LinesAt) -> Result<(), Violation> {
        if at.offset & line::PAIR.wrapping_sub(1) != 0 {
            return Err(Violation::SliceRange);
        }
        let bit = pair_bit(at.offset);
        if let Some(entry) = self.line_page(at) {
            if entry.used & bit != 0 {
                return Err(Violation::SliceOverlap);
            }
            entry.used |= bit;
            return Ok(());
        }
        if !self.has_line_entry() {
            return Err(Violation::SliceRange);
        }
        let page = at.offset / PAGE;
        self.claim(Slice {
            segment: at.segment,
            offset: page.wrapping_mul(PAGE),
            len: PAGE,
        })?;
        self.keep_line_page(LinePage {
            segment: at.segment,
            page,
            used: bit,
        });
        Ok(())
    }

    /// Gives back a pair of lines.
    pub fn free_lines(&mut self, at: LinesAt) {
        let bit = pair_bit(at.offset);
        let Some(entry) = self.line_page(at) else {
            return;
        };
        entry.used &= !bit;
        if entry.used == 0 {
            let page = at.offset / PAGE;
            self.free(Slice {
                segment: at.segment,
                offset: page.wrapping_mul(PAGE),
                len: PAGE,
            });
            let rest = |l: &&LinePage| l.used == 0;
            let ends = self.lines.iter().take(self.lines_end).rev();
            self.lines_end = self.lines_end.saturating_sub(ends.take_while(rest).count());
        }
    }
}

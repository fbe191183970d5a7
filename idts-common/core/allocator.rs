// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Slice allocator of a data region: which pages of which segment are in use.
//!
//! The front allocates slices from its [`SliceAllocator`]. The back keeps one of its own,
//! which the front cannot reach, and reserves in it each slice that a message names: so no
//! two channels share memory, whatever the front says. The memory itself is the drivers'.
//! PROTOCOL.md section 5.4.

use super::error::Violation;
use super::wire::{line, Slice, PAGE, RING_MAX, SEGMENTS, SEGMENT_WINDOWS, WINDOW_PAGES};
use zerocopy_derive::FromZeros;

const WORDS: usize = (SEGMENT_WINDOWS * WINDOW_PAGES / 64) as usize;
// `LinePage::used` has a bit for each pair of lines of a page.
const _: () = assert!(PAGE / line::PAIR == u32::BITS);
/// Largest number of pages of lines: enough for all channels of a tunnel even if many pages
/// are half full. PROTOCOL.md section 5.4.
const LINE_PAGES: usize = 256;

/// A page that holds pairs of lines, or an unused entry.
#[derive(Clone, Copy, Debug, FromZeros)]
struct LinePage {
    segment: u32,
    page: u32,
    /// A bit for each pair in use; 0: the entry is unused.
    used: u32,
    /// Not 0: no other pair is allocated on the page.
    alone: u32,
}

/// The pages of one segment.
///
/// # Invariants
/// `count` bits of `used` are set, all of them below `pages`.
#[derive(Clone, Copy, Debug, FromZeros)]
struct Segment {
    /// Number of pages; 0: there is no such segment.
    pages: u32,
    /// Number of pages in use.
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

    /// First fit at multiples of the smaller of the run's size and a window, so that a ring
    /// of at most a window lies in one window.
    fn find(&self, pages: u32) -> Option<u32> {
        let step = pages.clamp(1, WINDOW_PAGES);
        (0..self.pages)
            .step_by(step as usize)
            .find(|p| self.run_is_free(*p, pages))
    }
}

/// The words of [`Segment::used`] that a run of pages lies in, and the run's bits of each.
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

/// The bit of the pair of lines at `offset` in [`LinePage::used`].
const fn pair_bit(offset: u32) -> u32 {
    // wrapping_shl takes the count modulo 32, the number of pairs of a page.
    1u32.wrapping_shl(offset / line::PAIR)
}

/// The page on which a pair of lines is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePlacement {
    /// With the pairs of other channels.
    Shared,
    /// On a page of its own, so that whoever may see the page sees no other channel's
    /// indices. The back need not know: 5.4 allows it.
    OwnPage,
}

/// Position of a pair of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinesAt {
    /// Segment number.
    pub segment: u32,
    /// Byte offset from the segment's start.
    pub offset: u32,
}

/// The slices of a data region.
///
/// ```
/// use idts_core::allocator::SliceAllocator;
/// use idts_core::error::Violation;
///
/// let (mut front, mut back) = (SliceAllocator::new(), SliceAllocator::new());
/// for side in [&mut front, &mut back] {
///     side.add_segment(0, 2)?;
/// }
/// let ring = front.alloc(64 << 10).expect("two windows have room for it");
/// back.reserve(ring)?;
/// // A front that gives the same slice to a second channel breaks a rule.
/// assert_eq!(back.reserve(ring), Err(Violation::SliceOverlap));
/// # Ok::<(), Violation>(())
/// ```
///
/// All-zero memory is a valid allocator, equal to [`Self::new`]: it is too large for a
/// kernel's stack and is made on the heap.
///
/// # Invariants
/// A page of a segment is in use exactly if one ring contains it, or if it is a page of lines
/// with a pair in use.
#[derive(Clone, Debug, FromZeros)]
pub struct SliceAllocator {
    segments: [Segment; SEGMENTS as usize],
    lines: [LinePage; LINE_PAGES],
    /// All entries of `lines` from here on are unused, which bounds a search.
    lines_end: usize,
}

impl Default for SliceAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl SliceAllocator {
    /// An allocator without segments.
    pub const fn new() -> Self {
        Self {
            segments: [Segment::NONE; SEGMENTS as usize],
            lines: [LinePage {
                segment: 0,
                page: 0,
                used: 0,
                alone: 0,
            }; LINE_PAGES],
            lines_end: 0,
        }
    }

    /// The entries of pages of lines that may be in use.
    fn used_lines(&mut self) -> impl Iterator<Item = &mut LinePage> {
        self.lines.iter_mut().take(self.lines_end)
    }

    /// Whether an entry for one more page of lines is unused.
    fn has_line_entry(&self) -> bool {
        self.lines.iter().any(|l| l.used == 0)
    }

    /// Enters a page of lines; [`Self::has_line_entry`] was true.
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

    /// Adds a segment of `windows` windows, all free.
    ///
    /// # Errors
    /// [`Violation::MessageField`]: `windows` is out of range. [`Violation::Segment`]: the
    /// number is out of range, or in use.
    pub fn add_segment(&mut self, number: u32, windows: u32) -> Result<(), Violation> {
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

    /// Removes a segment without slices in use.
    ///
    /// # Errors
    /// [`Violation::Segment`]: there is no such segment, or a slice of it is in use.
    pub fn remove_segment(&mut self, number: u32) -> Result<(), Violation> {
        let segment = self.segment_mut(number)?;
        if segment.count != 0 {
            return Err(Violation::Segment);
        }
        *segment = Segment::NONE;
        Ok(())
    }

    /// Whether there is a segment of this number.
    pub fn has_segment(&self, number: u32) -> bool {
        self.segments
            .get(number as usize)
            .is_some_and(|s| s.pages != 0)
    }

    /// Whether there is a segment of this number, without slices in use.
    pub fn is_idle(&self, number: u32) -> bool {
        self.segments
            .get(number as usize)
            .is_some_and(|s| s.pages != 0 && s.count == 0)
    }

    /// Front: allocates a ring of `len` bytes. `None`: no segment has room, or `len` is no ring
    /// size.
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

    /// Back: reserves the ring that a message names.
    ///
    /// # Errors
    /// The rule of section 5.4 that the slice breaks: [`Violation::SliceRange`],
    /// [`Violation::Segment`] or [`Violation::SliceOverlap`]. Nothing was reserved.
    pub fn reserve(&mut self, slice: Slice) -> Result<(), Violation> {
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

    /// Frees a ring of [`Self::alloc`] or [`Self::reserve`].
    pub fn free(&mut self, slice: Slice) {
        if let Ok(segment) = self.segment_mut(slice.segment) {
            segment.mark(slice.offset / PAGE, slice.len / PAGE, false);
        }
    }

    /// Front: allocates a pair of lines. `None`: there is no room.
    pub fn alloc_lines(&mut self, placement: LinePlacement) -> Option<LinesAt> {
        let alone = placement == LinePlacement::OwnPage;
        let partly = |l: &&mut LinePage| l.used != 0 && l.used != u32::MAX && l.alone == 0;
        if let Some(entry) = self.used_lines().find(|l| !alone && partly(l)) {
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
            alone: alone.into(),
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

    /// Back: reserves the pair of lines that a message names.
    ///
    /// # Errors
    /// As [`Self::reserve`]; [`Violation::SliceRange`] also if the region has too many pages of
    /// lines.
    pub fn reserve_lines(&mut self, at: LinesAt) -> Result<(), Violation> {
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
        self.reserve(Slice {
            segment: at.segment,
            offset: page.wrapping_mul(PAGE),
            len: PAGE,
        })?;
        self.keep_line_page(LinePage {
            segment: at.segment,
            page,
            used: bit,
            alone: 0,
        });
        Ok(())
    }

    /// Frees a pair of lines of [`Self::alloc_lines`] or [`Self::reserve_lines`], and its page
    /// with the last pair of it.
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

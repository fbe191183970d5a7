// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The slice allocator against a model that knows the owner of every page.
//!
//! The front's allocates, the back's reserves what the front's gave, and a
//! liar names anything. Seed and number of cases: see common/mod.rs. Proves
//! F-7, B-7.

#![cfg(not(loom))]

use idts_core::allocator::{LinePlacement, LinesAt, SliceAllocator};
use idts_core::error::Violation;
use idts_core::wire::{
    line, Slice, PAGE, RING_MAX, SEGMENTS, SEGMENT_WINDOWS, WINDOW, WINDOW_PAGES,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Whom a page belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Ring,
    /// Offsets of the pairs of lines in use.
    Lines(BTreeSet<u32>),
}

/// All pages in use, and the sizes of segments in pages.
#[derive(Default)]
struct Model {
    segments: BTreeMap<u32, u32>,
    pages: BTreeMap<(u32, u32), Owner>,
}

fn pages_of(s: Slice) -> impl Iterator<Item = (u32, u32)> {
    let first = s.offset / PAGE;
    (first..first + s.len / PAGE).map(move |p| (s.segment, p))
}

impl Model {
    fn fits(&self, s: Slice) -> Result<(), Violation> {
        let shape = s.len.is_power_of_two()
            && (PAGE..=RING_MAX).contains(&s.len)
            && s.offset.is_multiple_of(s.len.min(WINDOW));
        if !shape {
            return Err(Violation::SliceRange);
        }
        let pages = *self.segments.get(&s.segment).ok_or(Violation::Segment)?;
        if u64::from(s.offset) + u64::from(s.len) > u64::from(pages) * u64::from(PAGE) {
            return Err(Violation::SliceRange);
        }
        if pages_of(s).any(|p| self.pages.contains_key(&p)) {
            return Err(Violation::SliceOverlap);
        }
        Ok(())
    }

    fn take(&mut self, s: Slice) {
        for page in pages_of(s) {
            assert_eq!(self.pages.insert(page, Owner::Ring), None);
        }
    }

    fn give(&mut self, s: Slice) {
        for page in pages_of(s) {
            assert_eq!(self.pages.remove(&page), Some(Owner::Ring));
        }
    }

    fn line_pages(&self) -> usize {
        let lines = |o: &&Owner| matches!(o, Owner::Lines(_));
        self.pages.values().filter(lines).count()
    }

    fn fits_lines(&self, at: LinesAt) -> Result<(), Violation> {
        if !at.offset.is_multiple_of(line::PAIR) {
            return Err(Violation::SliceRange);
        }
        match self.pages.get(&(at.segment, at.offset / PAGE)) {
            Some(Owner::Lines(used)) if used.contains(&at.offset) => Err(Violation::SliceOverlap),
            Some(Owner::Lines(_)) => Ok(()),
            _ if self.line_pages() == 256 => Err(Violation::SliceRange),
            _ => self.fits(Slice {
                segment: at.segment,
                offset: at.offset / PAGE * PAGE,
                len: PAGE,
            }),
        }
    }

    fn take_lines(&mut self, at: LinesAt) {
        let page = (at.segment, at.offset / PAGE);
        let none = Owner::Lines(BTreeSet::new());
        match self.pages.entry(page).or_insert(none) {
            Owner::Lines(used) => assert!(used.insert(at.offset)),
            Owner::Ring => panic!("lines in a ring"),
        }
    }

    fn give_lines(&mut self, at: LinesAt) {
        let page = (at.segment, at.offset / PAGE);
        if let Some(Owner::Lines(used)) = self.pages.get_mut(&page) {
            assert!(used.remove(&at.offset));
            if used.is_empty() {
                self.pages.remove(&page);
            }
        }
    }

    fn is_idle(&self, segment: u32) -> bool {
        self.segments.contains_key(&segment) && self.pages.keys().all(|(s, _)| *s != segment)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u32, u32),
    Remove(u32),
    Alloc(u32),
    Free(usize),
    AllocLines,
    FreeLines(usize),
    Reserve(Slice),
    ReserveLines(LinesAt),
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0..64u32).prop_map(|p| p * PAGE),
        2 => (0..2048u32).prop_map(|p| p * line::PAIR),
        1 => any::<u32>(),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (12..18u32).prop_map(|log| 1 << log),
        1 => (0..32u32).prop_map(|log| 1 << log),
        1 => any::<u32>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let segment = || prop_oneof![4 => 0..4u32, 1 => any::<u32>()];
    prop_oneof![
        2 => (segment(), prop_oneof![0..5u32, any::<u32>()]).prop_map(|(s, w)| Op::Add(s, w)),
        1 => segment().prop_map(Op::Remove),
        4 => (12..19u32).prop_map(|log| Op::Alloc(1 << log)),
        3 => any::<usize>().prop_map(Op::Free),
        4 => Just(Op::AllocLines),
        3 => any::<usize>().prop_map(Op::FreeLines),
        4 => (segment(), offset(), length())
            .prop_map(|(segment, offset, len)| Op::Reserve(Slice { segment, offset, len })),
        3 => (segment(), offset())
            .prop_map(|(segment, offset)| Op::ReserveLines(LinesAt { segment, offset })),
    ]
}

/// Both sides, the model, and what is in use.
#[derive(Default)]
struct Sides {
    front: SliceAllocator,
    back: SliceAllocator,
    model: Model,
    rings: Vec<Slice>,
    lines: Vec<LinesAt>,
}

impl Sides {
    fn add(&mut self, segment: u32, windows: u32) {
        let range = (1..=SEGMENT_WINDOWS).contains(&windows);
        let vacant = segment < SEGMENTS && !self.model.segments.contains_key(&segment);
        let expected = match (range, vacant) {
            (false, _) => Err(Violation::MessageField),
            (_, false) => Err(Violation::Segment),
            _ => Ok(()),
        };
        assert_eq!(self.front.add_segment(segment, windows), expected);
        assert_eq!(self.back.add_segment(segment, windows), expected);
        if expected.is_ok() {
            self.model.segments.insert(segment, windows * WINDOW_PAGES);
        }
    }

    fn remove(&mut self, segment: u32) {
        let idle = self.model.is_idle(segment);
        assert_eq!(self.front.is_idle(segment), idle);
        assert_eq!(self.front.remove_segment(segment).is_ok(), idle);
        assert_eq!(self.back.remove_segment(segment).is_ok(), idle);
        if idle {
            self.model.segments.remove(&segment);
        }
    }

    fn alloc(&mut self, len: u32) {
        if let Some(slice) = self.front.alloc(len) {
            assert_eq!(slice.len, len);
            assert_eq!(self.model.fits(slice), Ok(()));
            assert_eq!(self.back.reserve(slice), Ok(()));
            self.model.take(slice);
            self.rings.push(slice);
        }
    }

    fn alloc_lines(&mut self) {
        if let Some(at) = self.front.alloc_lines(LinePlacement::Shared) {
            assert_eq!(self.model.fits_lines(at), Ok(()));
            assert_eq!(self.back.reserve_lines(at), Ok(()));
            self.model.take_lines(at);
            self.lines.push(at);
        }
    }

    fn free(&mut self, which: usize) {
        if !self.rings.is_empty() {
            let slice = self.rings.swap_remove(which % self.rings.len());
            self.front.free(slice);
            self.back.free(slice);
            self.model.give(slice);
        }
    }

    fn free_lines(&mut self, which: usize) {
        if !self.lines.is_empty() {
            let at = self.lines.swap_remove(which % self.lines.len());
            self.front.free_lines(at);
            self.back.free_lines(at);
            self.model.give_lines(at);
        }
    }

    /// The liar's: only the back's book sees it, and forgets it again, so that
    /// both sides stay alike.
    fn reserve(&mut self, slice: Slice) {
        let got = self.back.reserve(slice);
        assert_eq!(got, self.model.fits(slice), "{slice:?}");
        if got.is_ok() {
            assert_eq!(self.back.reserve(slice), Err(Violation::SliceOverlap));
            self.back.free(slice);
        }
    }

    fn reserve_lines(&mut self, at: LinesAt) {
        let got = self.back.reserve_lines(at);
        assert_eq!(got, self.model.fits_lines(at), "{at:?}");
        if got.is_ok() {
            assert_eq!(self.back.reserve_lines(at), Err(Violation::SliceOverlap));
            self.back.free_lines(at);
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Add(segment, windows) => self.add(segment, windows),
            Op::Remove(segment) => self.remove(segment),
            Op::Alloc(len) => self.alloc(len),
            Op::Free(which) => self.free(which),
            Op::AllocLines => self.alloc_lines(),
            Op::FreeLines(which) => self.free_lines(which),
            Op::Reserve(slice) => self.reserve(slice),
            Op::ReserveLines(at) => self.reserve_lines(at),
        }
    }

    fn check(&self) {
        for segment in 0..=SEGMENTS {
            let there = self.model.segments.contains_key(&segment);
            assert_eq!(self.front.has_segment(segment), there);
            assert_eq!(self.back.has_segment(segment), there);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn both_books_say_what_the_model_says(ops in vec(op(), 0..200)) {
        let mut sides = Sides::default();
        sides.add(0, 2);
        for op in ops {
            sides.step(op);
            sides.check();
        }
        while !sides.rings.is_empty() || !sides.lines.is_empty() {
            sides.free(0);
            sides.free_lines(0);
        }
        prop_assert!(sides.model.pages.is_empty());
        for segment in 0..SEGMENTS {
            sides.remove(segment);
        }
    }
}

#[test]
fn a_segment_holds_one_ring_of_the_largest_size() {
    let mut sides = Sides::default();
    sides.add(0, SEGMENT_WINDOWS);
    sides.alloc(RING_MAX);
    assert_eq!(sides.rings.len(), 1);
    assert_eq!(sides.front.alloc(PAGE), None);
    sides.free(0);
    assert!(sides.front.is_idle(0));
}

#[test]
fn odd_lengths_are_not_allocated() {
    let mut region = SliceAllocator::new();
    region.add_segment(0, 2).unwrap();
    for len in [
        0,
        1,
        128,
        PAGE - 1,
        PAGE + 1,
        3 * PAGE,
        RING_MAX * 2,
        u32::MAX,
    ] {
        assert_eq!(region.alloc(len), None, "{len}");
    }
    assert!(region.is_idle(0));
}

#[test]
fn all_channels_find_their_lines() {
    let mut sides = Sides::default();
    sides.add(0, SEGMENT_WINDOWS);
    for _ in 1..4096 {
        sides.alloc_lines();
    }
    assert_eq!(sides.lines.len(), 4095);
    assert_eq!(sides.model.line_pages(), 128);
}

/// A pair of lines of segment 0.
fn pair(page: u32, pair: u32) -> LinesAt {
    LinesAt {
        segment: 0,
        offset: page * PAGE + pair * line::PAIR,
    }
}

#[test]
fn pages_of_lines_go_in_any_order() {
    let mut region = SliceAllocator::new();
    region.add_segment(0, 1).unwrap();
    region.reserve_lines(pair(0, 0)).unwrap();
    region.reserve_lines(pair(1, 0)).unwrap();
    region.free_lines(pair(0, 0));
    // The later page is known as before.
    assert_eq!(
        region.reserve_lines(pair(1, 0)),
        Err(Violation::SliceOverlap)
    );
    region.reserve_lines(pair(1, 1)).unwrap();
    region.free_lines(pair(1, 0));
    region.free_lines(pair(1, 1));
    assert!(region.is_idle(0));
}

#[test]
fn no_page_of_lines_is_taken_that_the_book_cannot_keep() {
    let mut region = SliceAllocator::new();
    region.add_segment(0, SEGMENT_WINDOWS).unwrap();
    for page in 0..256 {
        region.reserve_lines(pair(page, 0)).unwrap();
    }
    let refused = region.reserve_lines(pair(256, 0));
    assert_eq!(refused, Err(Violation::SliceRange));
    let ring = Slice {
        segment: 0,
        offset: 256 * PAGE,
        len: PAGE,
    };
    region.reserve(ring).unwrap();
    let pairs = std::iter::from_fn(|| region.alloc_lines(LinePlacement::Shared)).count();
    assert_eq!(pairs, 256 * 31);
}

#[test]
fn a_pair_that_wants_a_page_of_its_own_shares_it_with_none() {
    let (mut front, mut back) = (SliceAllocator::new(), SliceAllocator::new());
    for book in [&mut front, &mut back] {
        book.add_segment(0, 1).unwrap();
    }
    let pages: Vec<u32> = [
        LinePlacement::OwnPage,
        LinePlacement::Shared,
        LinePlacement::OwnPage,
        LinePlacement::Shared,
    ]
    .into_iter()
    .map(|placement| {
        let at = front.alloc_lines(placement).unwrap();
        // The peer takes it as it takes any.
        assert_eq!(back.reserve_lines(at), Ok(()));
        at.offset / PAGE
    })
    .collect();
    assert_eq!(pages, [0, 1, 2, 1]);
    // Its page is anybody's once it is freed.
    let own = LinesAt {
        segment: 0,
        offset: 0,
    };
    front.free_lines(own);
    back.free_lines(own);
    assert_eq!(front.alloc(PAGE).map(|ring| ring.offset), Some(0));
}

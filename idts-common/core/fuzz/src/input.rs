// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The fuzzer's bytes as numbers, and as the lies of a peer.

use idts_core::mem::SharedMem;
use std::cell::{Cell, RefCell};

/// Bytes, from front to back; zeroes once they are used up.
pub struct Input<'a>(Cell<&'a [u8]>);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(Cell::new(data))
    }

    pub fn is_empty(&self) -> bool {
        self.0.get().is_empty()
    }

    pub fn byte(&self) -> u8 {
        let Some((first, rest)) = self.0.get().split_first() else {
            return 0;
        };
        self.0.set(rest);
        *first
    }

    pub fn word(&self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A small number, often, or any.
    pub fn count(&self) -> u32 {
        match self.byte() {
            255 => self.word(),
            small => small.into(),
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0.take()
    }
}

/// A page whose every load a peer answers: with the truth, something near, or
/// anything.
pub struct Lying<'a> {
    pub input: &'a Input<'a>,
    words: RefCell<[u32; 1024]>,
}

impl<'a> Lying<'a> {
    pub fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            words: RefCell::new([0; 1024]),
        }
    }

    fn index(at: u32) -> usize {
        assert!(at < 4096 && at.is_multiple_of(4), "offset {at}");
        at as usize / 4
    }
}

impl SharedMem for Lying<'_> {
    fn load(&self, at: u32) -> u32 {
        let truth = self.words.borrow()[Self::index(at)];
        match self.input.byte() {
            0..=63 => truth,
            255 => self.input.word(),
            near => truth.wrapping_add(near.into()).wrapping_sub(160),
        }
    }
    fn load_acquire(&self, at: u32) -> u32 {
        self.load(at)
    }
    fn store(&self, at: u32, value: u32) {
        self.words.borrow_mut()[Self::index(at)] = value;
    }
    fn store_release(&self, at: u32, value: u32) {
        self.store(at, value);
    }
    fn or64(&self, at: u32, bits: u64) {
        assert!(at.is_multiple_of(8), "offset {at}");
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        self.words.borrow_mut()[Self::index(at)] |= low;
        self.words.borrow_mut()[Self::index(at) + 1] |= high;
    }
    fn swap64(&self, at: u32, value: u64) -> u64 {
        assert!(at.is_multiple_of(8), "offset {at}");
        let (low, high) = (self.load(at), self.load(at + 4));
        self.store(at, value as u32);
        self.store(at + 4, (value >> 32) as u32);
        u64::from(high) << 32 | u64::from(low)
    }
    fn fence(&self) {}
}

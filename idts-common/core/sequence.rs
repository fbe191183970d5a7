// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Messages that belong together: in which order they come.
//!
//! Owns what was said so far; what it is about is left to others. PROTOCOL.md
//! sections 7.2, 7.4 and 7.7.

use super::error::Violation;
use super::wire::{Name, Open};

/// The NAME before an OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming(Option<Name>);

impl Naming {
    /// None has come.
    pub const NONE: Self = Self(None);

    /// A NAME comes.
    pub fn hear(&mut self, name: Name) -> Result<(), Violation> {
        match self.0.replace(name) {
            None => Ok(()),
            Some(_) => Err(Violation::MessageOrder),
        }
    }

    /// An OPEN comes: the name that it is about, of a group or an alias.
    pub fn take(&mut self, open: &Open) -> Result<Option<Name>, Violation> {
        match self.0.take() {
            None if open.kind.is_group() => Err(Violation::MessageOrder),
            Some(_) if (open.tag, open.domain) != (0, 0) => Err(Violation::MessageOrder),
            name => Ok(name),
        }
    }
}

/// The WINDOWs of a segment, each in two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    segment: u32,
    windows: u32,
    window: u32,
    half: u32,
}

impl Windows {
    /// None has come of a segment that is to have `windows` of them.
    pub const fn new(segment: u32, windows: u32) -> Self {
        Self {
            segment,
            windows,
            window: 0,
            half: 0,
        }
    }

    /// A half comes. Whether its window is whole now.
    pub fn hear(
        &mut self,
        (segment, windows): (u32, u32),
        (window, half): (u32, u32),
    ) -> Result<bool, Violation> {
        if (segment, windows) != (self.segment, self.windows)
            || (window, half) != (self.window, self.half)
        {
            return Err(Violation::MessageOrder);
        }
        let whole = half != 0;
        self.half = u32::from(!whole);
        self.window = window.wrapping_add(whole.into());
        Ok(whole)
    }

    /// Whether all have come.
    pub const fn is_whole(&self) -> bool {
        self.window >= self.windows
    }
}

/// Which of the requests that were made, by their tags, the peer answers.
pub fn find_request(
    mut tags: impl Iterator<Item = u32>,
    answered: u32,
) -> Result<usize, Violation> {
    let index = tags.position(|tag| tag == answered);
    index.ok_or(Violation::Tag)
}

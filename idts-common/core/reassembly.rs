// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Reassembly: control messages that belong together, and their order.
//!
//! Owns how much has arrived; the contents are used elsewhere. PROTOCOL.md sections 7.2, 7.4
//! and 7.7.

use super::error::Violation;
use super::wire::{Name, Open};

/// A NAME together with the OPEN that it precedes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameAssembler(Option<Name>);

impl NameAssembler {
    /// No NAME has arrived.
    pub const NONE: Self = Self(None);

    /// Adds a NAME.
    ///
    /// # Errors
    /// [`Violation::MessageOrder`]: the last NAME has no OPEN yet.
    pub fn push(&mut self, name: Name) -> Result<(), Violation> {
        match self.0.replace(name) {
            None => Ok(()),
            Some(_) => Err(Violation::MessageOrder),
        }
    }

    /// Ends with an OPEN, and yields the NAME before it: of a group, or a domain's alias.
    ///
    /// # Errors
    /// [`Violation::MessageOrder`]: the OPEN of a group has no NAME, or one has a NAME that
    /// also carries a tag or a domain id.
    pub fn finish(&mut self, open: &Open) -> Result<Option<Name>, Violation> {
        match self.0.take() {
            None if open.kind.is_group() => Err(Violation::MessageOrder),
            Some(_) if (open.tag, open.domain) != (0, 0) => Err(Violation::MessageOrder),
            name => Ok(name),
        }
    }
}

/// The WINDOW messages of a segment: two halves for each window, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentAssembler {
    segment: u32,
    windows: u32,
    window: u32,
    half: u32,
}

impl SegmentAssembler {
    /// The start of a segment of `windows` windows, none of which has arrived.
    pub const fn new(segment: u32, windows: u32) -> Self {
        Self {
            segment,
            windows,
            window: 0,
            half: 0,
        }
    }

    /// Adds half a window, by the fields of its message. Whether the window is complete now.
    ///
    /// # Errors
    /// [`Violation::MessageOrder`]: it is not the half that comes next, or of another segment.
    pub fn push(
        &mut self,
        (segment, windows): (u32, u32),
        (window, half): (u32, u32),
    ) -> Result<bool, Violation> {
        if (segment, windows) != (self.segment, self.windows)
            || (window, half) != (self.window, self.half)
        {
            return Err(Violation::MessageOrder);
        }
        let is_complete = half != 0;
        self.half = u32::from(!is_complete);
        self.window = window.wrapping_add(is_complete.into());
        Ok(is_complete)
    }

    /// Whether all windows have arrived.
    pub const fn is_complete(&self) -> bool {
        self.window >= self.windows
    }
}

/// The index of the request that an answer's tag names, among the `tags` of those pending.
///
/// # Errors
/// [`Violation::Tag`]: no such request is pending.
pub fn find_request(
    mut tags: impl Iterator<Item = u32>,
    answered: u32,
) -> Result<usize, Violation> {
    let index = tags.position(|tag| tag == answered);
    index.ok_or(Violation::Tag)
}

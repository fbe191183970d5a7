// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Run queue: the list of waiting flows, by slot, doubly linked, without allocation.

use super::limits::FLOWS;
use zerocopy_derive::FromZeros;

/// Neighbours of a slot in the list, as slot + 1; 0: none.
#[derive(Clone, Copy, Debug, FromZeros)]
struct Link {
    before: u16,
    after: u16,
    is_in: bool,
}

/// The list.
///
/// # Invariants
/// The slots with `is_in` are linked from `head` to `tail`; there are `len` of them.
#[derive(Debug, FromZeros)]
pub(super) struct RunQueue {
    links: [Link; FLOWS],
    head: u16,
    tail: u16,
    len: usize,
}

fn slot(link: u16) -> Option<usize> {
    link.checked_sub(1).map(usize::from)
}

impl RunQueue {
    pub(super) const EMPTY: Self = Self {
        links: [Link {
            before: 0,
            after: 0,
            is_in: false,
        }; FLOWS],
        head: 0,
        tail: 0,
        len: 0,
    };

    fn link(&mut self, link: u16) -> Option<&mut Link> {
        self.links.get_mut(slot(link)?)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, slot: usize) -> bool {
        self.links.get(slot).is_some_and(|l| l.is_in)
    }

    pub(super) fn first(&self) -> Option<usize> {
        slot(self.head)
    }

    pub(super) fn after(&self, at: usize) -> Option<usize> {
        slot(self.links.get(at)?.after)
    }

    /// The slots, from the first one added to the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.first(), |at| self.after(*at))
    }

    /// Adds a slot at the end, unless it is in.
    pub(super) fn push(&mut self, slot: usize) {
        let tail = self.tail;
        let Some(link) = self.links.get_mut(slot).filter(|l| !l.is_in) else {
            return;
        };
        *link = Link {
            before: tail,
            after: 0,
            is_in: true,
        };
        // FLOWS is far below the range of u16.
        let this = (slot as u16).wrapping_add(1);
        match self.link(tail) {
            Some(last) => last.after = this,
            None => self.head = this,
        }
        self.tail = this;
        self.len = self.len.wrapping_add(1);
    }

    /// Takes a slot out, if it is in.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(link) = self.links.get_mut(slot).filter(|l| l.is_in) else {
            return;
        };
        link.is_in = false;
        let (before, after) = (link.before, link.after);
        match self.link(before) {
            Some(neighbour) => neighbour.after = after,
            None => self.head = after,
        }
        match self.link(after) {
            Some(neighbour) => neighbour.before = before,
            None => self.tail = before,
        }
        self.len = self.len.wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn keeps_its_order() {
        let mut queue = RunQueue::EMPTY;
        let all = |queue: &RunQueue| queue.iter().collect::<Vec<_>>();
        for slot in [3, 0, 255, 3, FLOWS] {
            queue.push(slot);
        }
        assert_eq!(all(&queue), [3, 0, 255]);
        queue.remove(0);
        queue.remove(0);
        assert_eq!((all(&queue), queue.len()), ([3, 255].into(), 2));
        queue.remove(3);
        queue.push(0);
        queue.remove(0);
        assert_eq!(all(&queue), [255]);
        queue.remove(255);
        assert!(queue.is_empty() && all(&queue).is_empty());
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Control messages: the ring that they come by, their words, and the slices
//! that an OPEN names, against the back's book.

use super::input::{Input, Lying};
use idts_core::control::{ControlRing, Role};
use idts_core::life::{Answer, Number};
use idts_core::region::{LinesAt, Region};
use idts_core::wire::{
    group, line, BackMessage, ChannelId, FrontMessage, Kind, Open, Slice, Slot, CHANNELS, DOMAINS,
    NAME_MAX, PAGE, SEGMENTS, SEGMENT_WINDOWS, WINDOW,
};
use std::collections::{HashMap, HashSet};

/// The back's book, and beside it every page that a slice has.
struct Back {
    book: Region,
    rings: HashSet<(u32, u32)>,
    lines: HashSet<(u32, u32)>,
    numbers: HashMap<u32, Number>,
}

impl Back {
    fn claim_ring(&mut self, slice: Slice) -> bool {
        if self.book.claim(slice).is_err() {
            return false;
        }
        assert!(
            slice.offset.is_multiple_of(PAGE) && slice.len.is_multiple_of(PAGE) && slice.len > 0
        );
        let end = slice.offset.checked_add(slice.len).expect("a slice wraps");
        assert!(
            end <= WINDOW * SEGMENT_WINDOWS,
            "a slice leaves its segment"
        );
        for page in slice.offset / PAGE..end / PAGE {
            let new = self.rings.insert((slice.segment, page));
            let lines = |at: &(u32, u32)| (at.0, at.1 / PAGE) == (slice.segment, page);
            assert!(new && !self.lines.iter().any(lines), "an overlap");
        }
        true
    }

    fn claim_lines(&mut self, at: LinesAt) -> bool {
        if self.book.claim_lines(at).is_err() {
            return false;
        }
        assert_eq!(at.offset % line::PAIR, 0);
        let page = (at.segment, at.offset / PAGE);
        let new = self.lines.insert((at.segment, at.offset));
        assert!(new && !self.rings.contains(&page), "an overlap");
        true
    }

    fn open(&mut self, open: Open) {
        assert!(open.channel.id > 0 && open.channel.id < CHANNELS);
        assert!(open.ports.target > 0 && open.domain < DOMAINS);
        let most = match open.kind {
            Kind::Stream | Kind::Record => None,
            Kind::Publish => Some(group::MAY_BLOCK),
            Kind::Subscribe => Some(group::BLOCK),
        };
        if let Some(most) = most {
            assert!(open.ports.source <= most, "no source of a group's");
            assert_eq!(
                (open.tag, open.domain, open.ports.target),
                (0, 0, group::TARGET)
            );
        }
        let ChannelId { id, generation } = open.channel;
        let number = self.numbers.entry(id).or_default();
        let fits = number.is_free() && generation == number.next();
        assert_eq!(number.open(generation, Answer::Given).is_ok(), fits);
        let lines = LinesAt {
            segment: open.lines_segment,
            offset: open.lines_offset,
        };
        // A claim that fails ends the tunnel; here it goes on.
        let _ = self.claim_lines(lines) && self.claim_ring(open.front_ring);
        let _ = self.claim_ring(open.back_ring);
    }

    fn hear(&mut self, message: FrontMessage) {
        match message {
            FrontMessage::Window {
                segment,
                windows,
                window,
                half,
                ..
            } => {
                assert!(segment < SEGMENTS && window < windows && half < 2);
                let vacant = !self.book.has(segment);
                let added = self.book.add(segment, windows);
                assert_eq!(added.is_ok(), vacant);
            }
            FrontMessage::Retire { segment } => {
                let idle = self.book.is_idle(segment);
                assert_eq!(self.book.remove(segment).is_ok(), idle);
            }
            FrontMessage::Open(open) => self.open(open),
            FrontMessage::Refuse { tag, .. } => assert!(tag > 0),
            FrontMessage::Closed(ChannelId { id, generation }) => {
                assert!(id > 0);
                let number = self.numbers.entry(id).or_default();
                let had = number.has(generation);
                let heard = number.peer_closed(generation);
                assert!(heard.is_err() || had);
                // The back closes when the front did.
                if number.close(generation).is_some() {
                    assert!(number.peer_closed(generation).is_err(), "a second CLOSED");
                    number.free();
                }
            }
            FrontMessage::Name(name) => {
                let text = name.text();
                assert!((1..=NAME_MAX).contains(&text.len()));
                assert!(name.0[text.len()..].iter().all(|b| *b == 0));
            }
        }
    }
}

/// Both decoders: what they accept, they say again.
fn decode(slot: &Slot) -> Option<FrontMessage> {
    if let Ok(message) = BackMessage::decode(slot) {
        assert_eq!(message.encode(), *slot);
        if let BackMessage::Request(request) = message {
            assert!(!request.kind.is_group(), "a group asks nobody");
        }
    }
    let message = FrontMessage::decode(slot).ok()?;
    assert_eq!(message.encode(), *slot);
    Some(message)
}

/// Takes messages, half of them from a control ring whose indices lie too.
pub fn fuzz_one(data: &[u8]) {
    let input = Input::new(data);
    let mem = Lying::new(&input);
    let mut ring = ControlRing::new(Role::Back);
    let mut back = Back {
        book: Region::new(),
        rings: HashSet::new(),
        lines: HashSet::new(),
        numbers: HashMap::new(),
    };
    while !input.is_empty() {
        let slot = match input.byte() % 4 {
            0 => ring.receive(&mem).ok().flatten().map(|taken| taken.0),
            1 => {
                let _ = ring.send(&mem, &[input.count(); 16]);
                let _ = (ring.arm_send(&mem), ring.arm_receive(&mem));
                None
            }
            _ => {
                let mut slot = [0; 16];
                let words = usize::from(input.byte() % 17);
                slot.iter_mut().take(words).for_each(|w| {
                    // Ring sizes and offsets are powers of two and multiples.
                    *w = match input.byte() {
                        255 => input.word(),
                        long @ 200..=222 => 1 << (long - 200),
                        page @ 100..=199 => u32::from(page - 100) * PAGE,
                        small => small.into(),
                    }
                });
                Some(slot)
            }
        };
        if let Some(message) = slot.and_then(|slot| decode(&slot)) {
            back.hear(message);
        }
    }
}

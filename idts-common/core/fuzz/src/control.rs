// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Control messages: the ring that they come by, their words, and the slices
//! that an OPEN names, against the back's allocator; what the back does about each.

use super::input::{Input, Lying};
use idts_core::allocator::SliceAllocator;
use idts_core::control::ControlRing;
use idts_core::error::Violation;
use idts_core::opening::{check_open, free, lines_of, Action, ChannelSlot, Event};
use idts_core::reassembly::{NameAssembler, SegmentAssembler};
use idts_core::role::Role;
use idts_core::wire::{
    group, line, BackMessage, ChannelId, FrontMessage, Kind, Open, Request, Slice, Slot, CHANNELS,
    DOMAINS, NAME_MAX, PAGE, SEGMENTS, SEGMENT_WINDOWS, WINDOW,
};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The back's slices, and beside them every page that one has.
struct Back {
    slices: SliceAllocator,
    rings: HashSet<(u32, u32)>,
    lines: HashSet<(u32, u32)>,
    naming: NameAssembler,
    /// Channel numbers, and the OPEN of the channel that has one.
    openings: HashMap<u32, ChannelSlot>,
    open: HashMap<u32, Open>,
}

impl Back {
    fn new() -> Self {
        Self {
            slices: SliceAllocator::new(),
            rings: HashSet::new(),
            lines: HashSet::new(),
            naming: NameAssembler::NONE,
            openings: HashMap::new(),
            open: HashMap::new(),
        }
    }

    fn opening(&mut self, id: u32) -> &mut ChannelSlot {
        self.openings.entry(id).or_default()
    }

    /// Notes the pages of a ring that was reserved.
    fn take_ring(&mut self, slice: Slice) {
        assert!(
            slice.offset.is_multiple_of(PAGE) && slice.len.is_multiple_of(PAGE) && slice.len > 0
        );
        for page in pages(slice) {
            let new = self.rings.insert((slice.segment, page));
            let lines = |at: &(u32, u32)| (at.0, at.1 / PAGE) == (slice.segment, page);
            assert!(new && !self.lines.iter().any(lines), "an overlap");
        }
    }

    fn take_lines(&mut self, open: &Open) {
        let at = lines_of(open);
        assert_eq!(at.offset % line::PAIR, 0);
        let page = (at.segment, at.offset / PAGE);
        let new = self.lines.insert((at.segment, at.offset));
        assert!(new && !self.rings.contains(&page), "an overlap");
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
        let opening = *self.opening(id);
        let fits = opening.is_free() && generation == opening.next();
        assert_eq!(opening.fits(generation).is_ok(), fits);
        // Every second tag is that of a request.
        let find = |tag: u32| (tag % 2 == 1).then(|| request(&open));
        // A violation ends the tunnel; here it goes on with the slices as they were.
        let (mut slices, mut naming) = (self.slices.clone(), self.naming);
        let Ok(name) = check_open(&opening, &mut naming, find, &mut slices, &open) else {
            assert_eq!(*self.opening(id), opening);
            return;
        };
        assert!(fits && (name.is_some() || !open.kind.is_group()));
        assert!(open.tag % 2 == 1 || open.tag == 0, "nobody asked for it");
        (self.slices, self.naming) = (slices, naming);
        self.take_lines(&open);
        self.take_ring(open.front_ring);
        self.take_ring(open.back_ring);
        self.open.insert(id, open);
        let event = match open.tag {
            0 => Event::RecvOpen,
            tag if tag % 4 == 1 => Event::RecvLateAnswer,
            _ => Event::RecvAnswer,
        };
        self.step(open.channel, event).expect("it was found right");
        if open.tag == 0 {
            let event = match open.ports.source % 4 {
                0 => Event::Refuse,
                _ => Event::Accept,
            };
            self.step(open.channel, event).expect("our own answer");
        }
    }

    /// Carries out what the table says, as far as it is about slices.
    fn step(&mut self, channel: ChannelId, event: Event) -> Result<(), Violation> {
        let id = channel.id;
        let before = *self.opening(id);
        let actions = self.opening(id).step(channel.generation, event);
        let actions = actions.inspect_err(|_| assert_eq!(*self.opening(id), before))?;
        assert!(before.has(channel.generation) || event.begins());
        for action in actions {
            match action {
                Action::Free => self.free(id),
                // The back closes when the front did.
                Action::NotePeerClosed => self.step(channel, Event::Close)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn free(&mut self, id: u32) {
        assert!(self.opening(id).is_free());
        let open = self.open.remove(&id).expect("slices that are freed twice");
        free(&mut self.slices, &open);
        self.lines.remove(&(open.lines_segment, open.lines_offset));
        for slice in [open.front_ring, open.back_ring] {
            for page in pages(slice) {
                self.rings.remove(&(slice.segment, page));
            }
        }
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
                let of = (segment, windows);
                let mut order = SegmentAssembler::new(segment, windows);
                let pushed = order.push(of, (window, half));
                assert_eq!(pushed.is_ok(), (window, half) == (0, 0));
                // The others come as if in order.
                for n in u32::from(pushed.is_ok())..2 * windows {
                    assert!(!order.is_complete());
                    assert_eq!(order.push(of, (n / 2, n % 2)), Ok(n % 2 == 1));
                }
                assert!(order.is_complete());
                let vacant = !self.slices.has_segment(segment);
                let added = self.slices.add_segment(segment, windows);
                assert_eq!(added.is_ok(), vacant);
            }
            FrontMessage::Retire { segment } => {
                let idle = self.slices.is_idle(segment);
                assert_eq!(self.slices.remove_segment(segment).is_ok(), idle);
            }
            FrontMessage::Open(open) => self.open(open),
            FrontMessage::Refuse { tag, .. } => assert!(tag > 0),
            FrontMessage::Closed(channel) => {
                assert!(channel.id > 0);
                if self.step(channel, Event::RecvClosed).is_ok() {
                    let again = self.step(channel, Event::RecvClosed);
                    assert!(again.is_err(), "a second CLOSED");
                }
            }
            FrontMessage::Name(name) => {
                let text = name.text();
                assert!((1..=NAME_MAX).contains(&text.len()));
                assert!(name.0[text.len()..].iter().all(|b| *b == 0));
                let _ = self.naming.push(name);
                assert_eq!(self.naming.push(name), Err(Violation::MessageOrder));
            }
        }
    }
}

/// The pages of a slice.
fn pages(slice: Slice) -> Range<u32> {
    let end = slice.offset.checked_add(slice.len).expect("a slice wraps");
    assert!(
        end <= WINDOW * SEGMENT_WINDOWS,
        "a slice leaves its segment"
    );
    slice.offset / PAGE..end / PAGE
}

/// The request that an OPEN answers.
fn request(open: &Open) -> Request {
    Request {
        tag: open.tag,
        ports: open.ports,
        front_size: open.front_ring.len,
        back_size: open.back_ring.len,
        domain: open.domain,
        kind: open.kind,
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
    let mut back = Back::new();
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

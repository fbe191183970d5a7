// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Opening and closing: two honest sides that do what the table says never offend each
//! other, whatever crosses on the way, and lose nothing; what a liar says is a violation, and
//! changes nothing.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-7, F-8, F-10, F-11, B-8, B-9, B-10,
//! B-14.

#![cfg(not(loom))]

use std::collections::VecDeque;

use idts_core::allocator::{LinePlacement, SliceAllocator};
use idts_core::error::Violation;
use idts_core::opening::{
    allocate, back_message, check_open, free, front_message, reserve, windows_for, Action, Actions,
    ChannelSlot, ChannelState, Event, Placement, Tags,
};
use idts_core::reassembly::NameAssembler;
use idts_core::wire::{
    BackMessage, ChannelId, FrontMessage, Kind, Name, Open, Ports, Refusal, Request, Slice, PAGE,
    RING_MAX, SEGMENT_WINDOWS, WINDOW_PAGES,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// All states.
const STATES: [ChannelState; ChannelState::PeerClosed as usize + 1] = [
    ChannelState::Free,
    ChannelState::Connecting,
    ChannelState::Abandoned,
    ChannelState::Unanswered,
    ChannelState::Open,
    ChannelState::Closed,
    ChannelState::PeerClosed,
];

/// All events.
const EVENTS: [Event; Event::Close as usize + 1] = [
    Event::Connect,
    Event::AnswerRequest,
    Event::RecvOpen,
    Event::RecvAnswer,
    Event::RecvLateAnswer,
    Event::RecvOpened,
    Event::RecvRefused,
    Event::RecvClosed,
    Event::Abandon,
    Event::Accept,
    Event::Refuse,
    Event::Close,
];

/// Channel numbers of the models: 1 and 2.
const NUMBERS: usize = 3;
const FRONT: usize = 0;
const BACK: usize = 1;

/// What happens next, where it can.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A program of the front's domain connects.
    Connect,
    /// One of the back's does.
    Request,
    /// A program that waits gives up, the first or the last.
    GiveUp { side: usize, last: bool },
    /// The back answers an OPEN.
    Answer { accept: bool, number: usize },
    /// A program closes its end.
    Close { side: usize, number: usize },
    /// A side takes the next message.
    Hear { side: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (side, number) = (0..2usize, 1..NUMBERS);
    prop_oneof![
        2 => Just(Step::Connect),
        2 => Just(Step::Request),
        1 => (side.clone(), any::<bool>()).prop_map(|(side, last)| Step::GiveUp { side, last }),
        2 => (any::<bool>(), number.clone())
            .prop_map(|(accept, number)| Step::Answer { accept, number }),
        3 => (side.clone(), number).prop_map(|(side, number)| Step::Close { side, number }),
        6 => side.prop_map(|side| Step::Hear { side }),
    ]
}

/// What a program was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Channel,
    Refused,
    /// It has given up, and wants to hear no more.
    GaveUp,
}

/// A channel as one side has it.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    opening: ChannelSlot,
    open: Open,
    /// A program has this end.
    is_used: bool,
    /// The program of this side that asked.
    asker: Option<usize>,
    /// This side has said CLOSED, or the channel never was.
    is_over: bool,
}

#[derive(Default)]
struct Side {
    channels: [Channel; NUMBERS],
    slices: Option<SliceAllocator>,
    inbox: VecDeque<[u32; 16]>,
    /// All programs that ever asked.
    programs: Vec<Told>,
    ends: u32,
}

/// The back's request, and the program that made it.
struct Asked {
    request: Request,
    program: usize,
}

struct Pair {
    sides: [Side; 2],
    naming: NameAssembler,
    tags: Tags,
    /// Back: requests without an answer.
    asked: Vec<Asked>,
}

impl Pair {
    fn new() -> Self {
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            let slices = side.slices.insert(SliceAllocator::new());
            slices.add_segment(0, 1).unwrap();
        }
        Self {
            sides,
            naming: NameAssembler::NONE,
            tags: Tags::NONE,
            asked: Vec::new(),
        }
    }

    /// A side does what the table says, and what it must not do is seen.
    fn carry_out(&mut self, side: usize, number: usize, actions: Actions, why: Refusal) {
        for (at, action) in actions.iter().enumerate() {
            let own = &mut self.sides[side];
            let channel = &mut own.channels[number];
            let open = channel.open;
            match action {
                Action::ClearLines => assert_eq!(side, FRONT, "the front clears"),
                Action::SendClosed => {
                    assert_eq!(actions[at - 1], Action::Shutdown, "flags come first");
                    assert!(!channel.is_over, "a second CLOSED, or one of nothing");
                    channel.is_over = true;
                    channel.is_used = false;
                }
                Action::SendOpen | Action::SendOpened => {}
                Action::SendRefused => channel.is_over = true,
                Action::Deliver => {
                    let program = channel.asker.take().expect("who asked");
                    assert_eq!(own.programs[program], Told::Nothing, "told twice");
                    own.programs[program] = Told::Channel;
                    channel.is_used = true;
                }
                Action::Fail => {
                    let program = channel.asker.take().expect("who asked");
                    assert_eq!(own.programs[program], Told::Nothing, "told twice");
                    own.programs[program] = Told::Refused;
                    channel.is_over = true;
                }
                Action::Shutdown => assert!(!channel.is_over, "an access after CLOSED"),
                Action::NotePeerClosed => assert!(channel.is_used, "nobody is there to be told"),
                Action::Free => {
                    assert!(channel.opening.is_free());
                    channel.asker = None;
                    free(own.slices.as_mut().unwrap(), &open);
                    own.ends += 1;
                }
            }
            let slot = match side {
                FRONT => front_message(*action, &open),
                _ => back_message(*action, open.channel, why),
            };
            self.sides[1 - side].inbox.extend(slot);
        }
    }

    fn step(&mut self, side: usize, channel: ChannelId, event: Event) {
        let number = channel.id as usize;
        let opening = &mut self.sides[side].channels[number].opening;
        let actions = opening.step(channel.generation, event);
        let actions = actions.expect("an honest peer");
        self.carry_out(side, number, actions, Refusal::Refused);
    }

    /// The front opens a channel, if there is a number.
    fn place(&mut self, tag: u32, request: Option<Request>) -> bool {
        let front = &mut self.sides[FRONT];
        let free = |n: &usize| front.channels[*n].opening.is_free();
        let Some(number) = (1..NUMBERS).find(free) else {
            return false;
        };
        // Four pages of rings for each number fit.
        let Some(open) = allocate(front.slices.as_mut().unwrap(), PAGE, PAGE) else {
            panic!("a free number without room: slices are lost");
        };
        let request = request.unwrap_or(Request {
            tag,
            ports: Ports {
                source: 1,
                target: 2,
            },
            front_size: PAGE,
            back_size: PAGE,
            domain: 0,
            kind: Kind::Stream,
        });
        let generation = front.channels[number].opening.next();
        let channel = ChannelId {
            id: number as u32,
            generation,
        };
        let asker = match tag {
            0 => {
                front.programs.push(Told::Nothing);
                Some(front.programs.len() - 1)
            }
            _ => None,
        };
        front.channels[number] = Channel {
            open: Open {
                channel,
                tag,
                ports: request.ports,
                domain: request.domain,
                kind: request.kind,
                ..open
            },
            is_used: tag != 0,
            asker,
            is_over: false,
            ..front.channels[number]
        };
        let event = match tag {
            0 => Event::Connect,
            _ => Event::AnswerRequest,
        };
        self.step(FRONT, channel, event);
        true
    }

    /// Whether it could happen.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Connect => self.place(0, None),
            Step::Request => {
                if self.asked.len() >= 4 {
                    return false;
                }
                let back = &mut self.sides[BACK];
                back.programs.push(Told::Nothing);
                let program = back.programs.len() - 1;
                let used = |tag| self.asked.iter().any(|asked| asked.request.tag == tag);
                let request = Request {
                    tag: self.tags.next(used),
                    ports: Ports {
                        source: 3,
                        target: 4,
                    },
                    front_size: PAGE,
                    back_size: PAGE,
                    domain: 0,
                    kind: Kind::Record,
                };
                self.asked.push(Asked { request, program });
                let slot = BackMessage::Request(request).encode();
                self.sides[FRONT].inbox.push_back(slot);
                true
            }
            Step::GiveUp { side, last } => self.give_up(side, last),
            Step::Answer { accept, number } => {
                let channel = self.sides[BACK].channels[number];
                if channel.opening.state() != ChannelState::Unanswered {
                    return false;
                }
                self.sides[BACK].channels[number].is_used = accept;
                let event = match accept {
                    true => Event::Accept,
                    false => Event::Refuse,
                };
                self.step(BACK, channel.open.channel, event);
                true
            }
            Step::Close { side, number } => {
                let channel = self.sides[side].channels[number];
                if !channel.is_used {
                    return false;
                }
                self.step(side, channel.open.channel, Event::Close);
                true
            }
            Step::Hear { side } => {
                let Some(slot) = self.sides[side].inbox.pop_front() else {
                    return false;
                };
                match side {
                    FRONT => self.hear_back(BackMessage::decode(&slot).unwrap()),
                    _ => self.hear_front(FrontMessage::decode(&slot).unwrap()),
                }
                true
            }
        }
    }

    fn give_up(&mut self, side: usize, last: bool) -> bool {
        let own = &mut self.sides[side];
        let mut waiting = (0..own.programs.len()).filter(|p| own.programs[*p] == Told::Nothing);
        let found = match last {
            true => waiting.next_back(),
            false => waiting.next(),
        };
        let Some(program) = found else {
            return false;
        };
        own.programs[program] = Told::GaveUp;
        let asked = own.channels.iter().find(|c| c.asker == Some(program));
        if let Some(channel) = asked.map(|c| c.open.channel) {
            self.step(side, channel, Event::Abandon);
        }
        true
    }

    fn hear_back(&mut self, message: BackMessage) {
        match message {
            BackMessage::Request(request) => {
                // A front without room refuses.
                if !self.place(request.tag, Some(request)) {
                    let (tag, why) = (request.tag, Refusal::NoSpace);
                    let slot = FrontMessage::Refuse { tag, why }.encode();
                    self.sides[BACK].inbox.push_back(slot);
                }
            }
            BackMessage::Opened(channel) => self.step(FRONT, channel, Event::RecvOpened),
            BackMessage::Refused { channel, .. } => {
                self.sides[FRONT].channels[channel.id as usize].is_over = true;
                self.step(FRONT, channel, Event::RecvRefused);
            }
            BackMessage::Closed(channel) => self.step(FRONT, channel, Event::RecvClosed),
            other => panic!("{other:?}"),
        }
    }

    fn hear_front(&mut self, message: FrontMessage) {
        match message {
            FrontMessage::Open(open) => self.hear_open(open),
            FrontMessage::Refuse { tag, .. } => {
                let program = self.take_asked(tag);
                let told = &mut self.sides[BACK].programs[program];
                if *told == Told::Nothing {
                    *told = Told::Refused;
                }
            }
            FrontMessage::Closed(channel) => self.step(BACK, channel, Event::RecvClosed),
            other => panic!("{other:?}"),
        }
    }

    fn take_asked(&mut self, tag: u32) -> usize {
        let at = self.asked.iter().position(|a| a.request.tag == tag);
        self.asked.remove(at.expect("a request")).program
    }

    fn hear_open(&mut self, open: Open) {
        let back = &mut self.sides[BACK];
        let channel = &mut back.channels[open.channel.id as usize];
        let find = |tag| {
            let mut all = self.asked.iter().map(|asked| asked.request);
            all.find(|request| request.tag == tag)
        };
        let slices = back.slices.as_mut().unwrap();
        let name = check_open(&channel.opening, &mut self.naming, find, slices, &open);
        assert_eq!(name, Ok(None), "an honest peer");
        *channel = Channel {
            opening: channel.opening,
            open,
            ..Channel::default()
        };
        let event = match open.tag {
            0 => Event::RecvOpen,
            tag => {
                let program = self.take_asked(tag);
                let waits = self.sides[BACK].programs[program] == Told::Nothing;
                self.sides[BACK].channels[open.channel.id as usize].asker = Some(program);
                match waits {
                    true => Event::RecvAnswer,
                    false => Event::RecvLateAnswer,
                }
            }
        };
        self.step(BACK, open.channel, event);
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut steps = vec![Step::Hear { side: FRONT }, Step::Hear { side: BACK }];
            for number in 1..NUMBERS {
                let accept = number % 2 == 0;
                steps.push(Step::Answer { accept, number });
                steps.push(Step::Close {
                    side: FRONT,
                    number,
                });
                steps.push(Step::Close { side: BACK, number });
            }
            if !steps.into_iter().any(|step| self.take(step)) {
                return;
            }
        }
        panic!("it never comes to its end");
    }
}

/// Pages that a slices still has, and pairs of lines.
fn room(slices: &SliceAllocator) -> (usize, usize) {
    let (mut pages, mut pairs) = (slices.clone(), slices.clone());
    (
        std::iter::from_fn(|| pages.alloc(PAGE)).count(),
        std::iter::from_fn(|| pairs.alloc_lines(LinePlacement::Shared)).count(),
    )
}

proptest! {
    #[test]
    fn honest_sides_agree(steps in vec(step(), 1..200)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.take(step);
        }
        pair.settle();
        prop_assert!(pair.asked.is_empty(), "a request without an answer");
        for side in &pair.sides {
            prop_assert!(side.slices.as_ref().unwrap().is_idle(0), "slices are left");
            prop_assert!(!side.programs.contains(&Told::Nothing), "nobody told it");
            for channel in &side.channels {
                prop_assert!(channel.opening.is_free());
            }
        }
        let [front, back] = &pair.sides;
        prop_assert_eq!(front.ends, back.ends);
        for (front, back) in front.channels.iter().zip(&back.channels) {
            prop_assert_eq!(front.opening, back.opening);
        }
    }

    /// Another generation is never heard, and leaves everything as it was.
    #[test]
    fn other_generations(other in any::<u32>(), at in 0..STATES.len()) {
        let before = at_phase(STATES[at]);
        let own = match before.is_free() {
            true => before.next(),
            false => before.next().wrapping_sub(1),
        };
        prop_assume!(other != own);
        for event in EVENTS {
            let mut opening = before;
            match opening.step(other, event) {
                Ok(actions) => prop_assert!(!event.is_received() && actions.is_empty()),
                Err(Violation::Generation) => prop_assert!(event.is_received()),
                Err(Violation::ChannelId) => {
                    prop_assert!(event.is_received() && event.begins() != before.is_free());
                }
                Err(violation) => prop_assert!(false, "{violation:?}"),
            }
            prop_assert_eq!(opening, before);
        }
    }

    /// All slices or none, and another slices takes them as they are.
    #[test]
    fn slices_are_taken_and_given_as_one(sizes in vec((0u32..7, 0u32..7), 1..40)) {
        let mut front = SliceAllocator::new();
        let mut back = SliceAllocator::new();
        for slices in [&mut front, &mut back] {
            // Not the first, for a slice of it looks like none.
            slices.add_segment(1, 3).unwrap();
        }
        let mut opens = Vec::new();
        for (front_size, back_size) in sizes {
            let (front_size, back_size) = (PAGE << front_size, PAGE << back_size);
            let before = room(&front);
            match allocate(&mut front, front_size, back_size) {
                Some(open) => {
                    let given = (open.front_ring.len, open.back_ring.len);
                    prop_assert_eq!(given, (front_size, back_size));
                    prop_assert_eq!(reserve(&mut back, &open), Ok(()));
                    prop_assert!(reserve(&mut back, &open).is_err(), "twice");
                    opens.push(open);
                }
                None => {
                    prop_assert_eq!(before, room(&front), "part of it is kept");
                    // One is closed, and its slices serve the next.
                    if let Some(open) = opens.pop() {
                        free(&mut front, &open);
                        free(&mut back, &open);
                    }
                }
            }
        }
        for open in opens {
            free(&mut front, &open);
            free(&mut back, &open);
        }
        prop_assert!(front.is_idle(1) && back.is_idle(1));
    }

    /// Whatever comes of each try, the front comes to rest, and each opening is placed, refused,
    /// or waits for an answer that will come.
    #[test]
    fn placing_ends(
        done in vec(any::<bool>(), 0..64),
        waiting in 1usize..6,
        was_growing: bool,
    ) {
        let mut done = done.into_iter();
        let (mut waiting, mut growing, mut retiring) = (waiting, was_growing, false);
        let mut next = Placement::Allocate;
        let mut tried = 0;
        while next != Placement::Wait && waiting > 0 {
            let is_done = done.next().unwrap_or(false);
            match next {
                Placement::Allocate => waiting -= usize::from(is_done),
                Placement::Grow => {
                    prop_assert!(!growing, "one segment at a time");
                    growing = is_done;
                }
                Placement::Shrink => retiring = is_done,
                Placement::Refuse => waiting -= 1,
                Placement::Wait => {}
            }
            next = next.after(is_done, growing);
            tried += 1;
            prop_assert!(tried <= 6 * 4, "it goes round");
        }
        prop_assert!(waiting == 0 || growing || retiring, "nobody will look again");
    }

    #[test]
    fn windows_are_enough(front in any::<u32>(), back in any::<u32>()) {
        let windows = windows_for(front, back);
        prop_assert!((1..=SEGMENT_WINDOWS).contains(&windows));
        let needed = u64::from(front / PAGE) + u64::from(back / PAGE) + 1;
        let given = u64::from(windows * WINDOW_PAGES);
        prop_assert!(given >= needed || windows == SEGMENT_WINDOWS);
        prop_assert!(given < needed + u64::from(WINDOW_PAGES), "too many");
    }

    #[test]
    fn tags_are_neither_zero_nor_in_use(used in vec(1u32..12, 0..8), count in 1usize..40) {
        let mut tags = Tags::NONE;
        for _ in 0..count {
            let tag = tags.next(|tag| used.contains(&tag));
            prop_assert!(tag != 0 && !used.contains(&tag));
        }
    }
}

#[test]
fn windows_by_hand() {
    for (front, back, windows) in [
        (PAGE, PAGE, 1),
        (7 * PAGE, 8 * PAGE, 1),
        (8 * PAGE, 8 * PAGE, 2),
        (RING_MAX, PAGE, SEGMENT_WINDOWS),
        (RING_MAX / 2, RING_MAX / 4, SEGMENT_WINDOWS * 3 / 4 + 1),
        (u32::MAX, u32::MAX, SEGMENT_WINDOWS),
    ] {
        assert_eq!(windows_for(front, back), windows, "{front} {back}");
    }
}

#[test]
fn generations_go_round() {
    let mut opening = ChannelSlot::freed(u32::MAX - 1);
    for generation in [u32::MAX, 0, 1] {
        assert!(opening.is_free() && !opening.has(generation));
        assert_eq!(opening.next(), generation);
        opening.step(generation, Event::RecvOpen).unwrap();
        assert!(opening.has(generation));
        opening.step(generation, Event::Refuse).unwrap();
    }
    assert_eq!(opening, ChannelSlot::freed(1));
}

#[test]
fn whose_number_it_is() {
    let mut opening = ChannelSlot::freed(4);
    assert!(!opening.has(4) && !opening.has(5));
    opening.step(5, Event::AnswerRequest).unwrap();
    assert!(opening.has(5) && !opening.has(4) && !opening.has(6));
    assert_eq!(opening.act(4, Event::Close), &[]);
    let closes: Actions = &[Action::Shutdown, Action::SendClosed];
    assert_eq!(opening.act(5, Event::Close), closes);
    assert_eq!(opening.act(5, Event::Close), &[], "closed twice");
    assert_eq!(opening.act(5, Event::RecvClosed), &[Action::Free]);
}

/// Who is to blame for what does not fit.
#[test]
fn what_is_heard_and_what_is_done() {
    let heard = [
        Event::RecvOpen,
        Event::RecvAnswer,
        Event::RecvLateAnswer,
        Event::RecvOpened,
        Event::RecvRefused,
        Event::RecvClosed,
    ];
    let begins = [
        Event::Connect,
        Event::AnswerRequest,
        Event::RecvOpen,
        Event::RecvAnswer,
        Event::RecvLateAnswer,
    ];
    for event in EVENTS {
        assert_eq!(event.is_received(), heard.contains(&event), "{event:?}");
        assert_eq!(event.begins(), begins.contains(&event), "{event:?}");
    }
}

/// A number in this phase.
fn at_phase(phase: ChannelState) -> ChannelSlot {
    let events: &[Event] = match phase {
        ChannelState::Free => &[],
        ChannelState::Connecting => &[Event::Connect],
        ChannelState::Abandoned => &[Event::Connect, Event::Abandon],
        ChannelState::Unanswered => &[Event::RecvOpen],
        ChannelState::Open => &[Event::AnswerRequest],
        ChannelState::Closed => &[Event::RecvLateAnswer],
        ChannelState::PeerClosed => &[Event::AnswerRequest, Event::RecvClosed],
    };
    let mut opening = ChannelSlot::default();
    for event in events {
        opening.step(1, *event).unwrap();
    }
    assert_eq!(opening.state(), phase);
    opening
}

/// What section 8 says, held against every cell.
#[test]
fn every_cell_keeps_the_rules() {
    use Action::*;
    for phase in STATES {
        for event in EVENTS {
            let cell = format!("{phase:?}, {event:?}");
            let before = at_phase(phase);
            let mut opening = before;
            let generation = match (event.begins(), before.is_free()) {
                (true, true) => 1,
                _ => before.next().wrapping_sub(u32::from(!before.is_free())),
            };
            let result = opening.step(generation, event);
            let Some((after, actions)) = phase.after(event) else {
                assert_eq!(opening, before, "{cell}: changed");
                match (event.is_received(), event.begins(), before.is_free()) {
                    (false, _, _) => assert_eq!(result, Ok(&[] as Actions), "{cell}"),
                    (true, true, _) | (true, false, true) => {
                        assert_eq!(result, Err(Violation::ChannelId), "{cell}");
                    }
                    _ => assert_eq!(result, Err(Violation::MessageOrder), "{cell}"),
                }
                continue;
            };
            assert_eq!(result, Ok(actions), "{cell}");
            assert_eq!(opening.state(), after, "{cell}");
            let has = |action| actions.contains(&action);
            // Free is what nobody holds: both said CLOSED, or it was refused.
            assert_eq!(has(Free), after == ChannelState::Free, "{cell}");
            // CLOSED is said of what is open, after flags and event, and of nothing else.
            let was_open = matches!(phase, ChannelState::Open | ChannelState::PeerClosed);
            let never_wanted = matches!(
                (phase, event),
                (ChannelState::Abandoned, Event::RecvOpened)
                    | (ChannelState::Free, Event::RecvLateAnswer)
            );
            assert_eq!(has(SendClosed), has(Shutdown), "{cell}");
            assert_eq!(
                has(SendClosed),
                was_open && event == Event::Close || never_wanted,
                "{cell}"
            );
            // Who asked hears once: by Deliver or Fail, when it leaves Asked.
            let told = has(Deliver) || has(Fail);
            let left = phase == ChannelState::Connecting && after != ChannelState::Abandoned;
            assert_eq!(told, left || event == Event::RecvAnswer, "{cell}");
            // Every OPEN that asks is answered once.
            let answered = has(SendOpened) || has(SendRefused);
            assert_eq!(answered, phase == ChannelState::Unanswered, "{cell}");
            assert_eq!(has(ClearLines), has(SendOpen), "{cell}: zeroes");
        }
    }
}

/// A name of one letter.
fn name() -> Name {
    let mut bytes = [0; 56];
    bytes[0] = b'a';
    Name(bytes)
}

#[test]
fn what_an_open_breaks_is_told_in_order() {
    let request = Request {
        tag: 7,
        ports: Ports {
            source: 1,
            target: 2,
        },
        front_size: PAGE,
        back_size: PAGE,
        domain: 3,
        kind: Kind::Stream,
    };
    let ring = |offset| Slice {
        segment: 0,
        offset: offset * PAGE,
        len: PAGE,
    };
    let good = Open {
        channel: ChannelId {
            id: 1,
            generation: 1,
        },
        tag: 7,
        ports: request.ports,
        front_ring: ring(1),
        back_ring: ring(2),
        domain: 3,
        kind: Kind::Stream,
        ..Open::default()
    };
    let judged = |open: Open, named: bool, phase: ChannelState| {
        let mut naming = NameAssembler::NONE;
        if named {
            naming.push(name()).unwrap();
        }
        let mut slices = SliceAllocator::new();
        slices.add_segment(0, 1).unwrap();
        let find = |tag| (tag == request.tag).then_some(request);
        check_open(&at_phase(phase), &mut naming, find, &mut slices, &open)
    };
    assert_eq!(judged(good, false, ChannelState::Free), Ok(None));
    let in_use = judged(good, true, ChannelState::Open);
    assert_eq!(in_use, Err(Violation::ChannelId), "before its name");
    let mut old = good;
    old.channel.generation = 2;
    assert_eq!(
        judged(old, true, ChannelState::Free),
        Err(Violation::Generation)
    );
    let named = judged(Open { tag: 8, ..good }, true, ChannelState::Free);
    assert_eq!(named, Err(Violation::MessageOrder), "before its tag");
    let strange = Open {
        tag: 8,
        domain: 4,
        ..good
    };
    assert_eq!(
        judged(strange, false, ChannelState::Free),
        Err(Violation::Tag)
    );
    let unlike = Open {
        domain: 4,
        front_ring: ring(900),
        ..good
    };
    let unlike = judged(unlike, false, ChannelState::Free);
    assert_eq!(unlike, Err(Violation::MessageField), "before its slices");
    let out = Open {
        front_ring: ring(16),
        ..good
    };
    let out = judged(out, false, ChannelState::Free);
    assert_eq!(out, Err(Violation::SliceRange));
    let overlap = Open {
        back_ring: ring(1),
        ..good
    };
    let overlap = judged(overlap, false, ChannelState::Free);
    assert_eq!(overlap, Err(Violation::SliceOverlap));
    // A wish of its own answers nothing; an alias goes with it.
    let wish = Open {
        tag: 0,
        domain: 0,
        ..good
    };
    assert_eq!(judged(wish, true, ChannelState::Free), Ok(Some(name())));
    let group = Open {
        kind: Kind::Subscribe,
        ..wish
    };
    let unnamed = judged(group, false, ChannelState::Free);
    assert_eq!(unnamed, Err(Violation::MessageOrder));
}

#[test]
fn a_segment_that_was_not_mapped() {
    for (waits, windows, need, next) in [
        (false, 4, 1, Placement::Wait),
        (true, 4, 1, Placement::Grow),
        (true, 4, 4, Placement::Shrink),
        (true, 1, 4, Placement::Shrink),
    ] {
        let after = Placement::after_unmapped(waits, windows, need);
        assert_eq!(after, next, "{waits} {windows} {need}");
    }
    assert_eq!(Placement::Wait.after(true, false), Placement::Wait);
    assert_eq!(Placement::Wait.after(false, true), Placement::Wait);
}

/// What is said for an action, and that nothing is said for the others.
#[test]
fn each_side_says_its_own() {
    use Action::*;
    let open = Open {
        channel: ChannelId {
            id: 5,
            generation: 6,
        },
        ..Open::default()
    };
    let channel = open.channel;
    let why = Refusal::Forbidden;
    for action in [
        ClearLines,
        SendOpen,
        SendOpened,
        SendRefused,
        SendClosed,
        Deliver,
        Fail,
        Shutdown,
        NotePeerClosed,
        Free,
    ] {
        let front = match action {
            SendOpen => Some(FrontMessage::Open(open).encode()),
            SendClosed => Some(FrontMessage::Closed(channel).encode()),
            _ => None,
        };
        let back = match action {
            SendOpened => Some(BackMessage::Opened(channel).encode()),
            SendRefused => Some(BackMessage::Refused { channel, why }.encode()),
            SendClosed => Some(BackMessage::Closed(channel).encode()),
            _ => None,
        };
        assert_eq!(front_message(action, &open), front, "{action:?}");
        assert_eq!(back_message(action, channel, why), back, "{action:?}");
    }
}

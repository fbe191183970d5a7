// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Life of a number: two honest sides never offend each other, whatever crosses
//! on the way; what a liar says is a violation, and changes nothing.
//!
//! Seed and number of cases: see common/mod.rs. Proves F-10, B-9.

#![cfg(not(loom))]

use std::collections::VecDeque;

use idts_core::error::Violation;
use idts_core::life::{Answer, Number};
use proptest::collection::vec;
use proptest::prelude::*;

/// What sides say about their one number.
#[derive(Clone, Copy, Debug)]
enum Message {
    Open(u32),
    Opened(u32),
    Refused(u32),
    Closed(u32),
}

/// What happens next, where it can.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The front opens a channel.
    Open,
    /// The back answers the OPEN that it owes an answer.
    Answer { accept: bool },
    /// A side closes.
    Close { front: bool },
    /// A side takes the next message.
    Hear { front: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Open),
        any::<bool>().prop_map(|accept| Step::Answer { accept }),
        any::<bool>().prop_map(|front| Step::Close { front }),
        any::<bool>().prop_map(|front| Step::Hear { front }),
    ]
}

/// A side, and what was said to it.
#[derive(Default)]
struct Side {
    number: Number,
    inbox: VecDeque<Message>,
    /// The generation of the channel that is open, as an application knows it.
    open: Option<u32>,
    /// Back: of the one that waits for our answer.
    asked: Option<u32>,
    ended: u32,
}

impl Side {
    fn end(&mut self) {
        self.number.free();
        self.ended += 1;
    }

    fn hear(&mut self, message: Message) -> Result<(), Violation> {
        match message {
            Message::Open(generation) => {
                self.number.open(generation, Answer::Owed)?;
                self.asked = Some(generation);
            }
            Message::Opened(generation) => {
                self.number.answered(generation)?;
                self.open = Some(generation);
            }
            Message::Refused(generation) => {
                self.number.answered(generation)?;
                self.end();
            }
            Message::Closed(generation) => {
                if self.number.peer_closed(generation)? {
                    self.end();
                }
            }
        }
        Ok(())
    }

    /// The application closes; what is to be said.
    fn close(&mut self) -> Option<Message> {
        let generation = self.open.take()?;
        let over = self.number.close(generation).expect("it was open");
        assert_eq!(self.number.close(generation), None, "closed twice");
        if over {
            self.end();
        }
        Some(Message::Closed(generation))
    }
}

/// Front and back.
#[derive(Default)]
struct Pair([Side; 2]);

const FRONT: usize = 0;
const BACK: usize = 1;

impl Pair {
    fn say(&mut self, from: usize, message: Message) {
        self.0[1 - from].inbox.push_back(message);
    }

    /// Whether it could happen.
    fn take(&mut self, step: Step) -> bool {
        let side = |front| if front { FRONT } else { BACK };
        match step {
            Step::Open => {
                let number = &mut self.0[FRONT].number;
                let generation = number.next();
                if !number.is_free() {
                    return false;
                }
                number.open(generation, Answer::Awaited).unwrap();
                self.say(FRONT, Message::Open(generation));
            }
            Step::Answer { accept } => {
                let back = &mut self.0[BACK];
                let Some(generation) = back.asked.take() else {
                    return false;
                };
                assert!(back.number.answer(generation));
                match accept {
                    true => back.open = Some(generation),
                    false => back.end(),
                }
                self.say(
                    BACK,
                    match accept {
                        true => Message::Opened(generation),
                        false => Message::Refused(generation),
                    },
                );
            }
            Step::Close { front } => {
                let Some(message) = self.0[side(front)].close() else {
                    return false;
                };
                self.say(side(front), message);
            }
            Step::Hear { front } => {
                let hearer = &mut self.0[side(front)];
                let Some(message) = hearer.inbox.pop_front() else {
                    return false;
                };
                hearer.hear(message).expect("an honest peer");
            }
        }
        true
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        let steps = [
            Step::Hear { front: true },
            Step::Hear { front: false },
            Step::Answer { accept: true },
            Step::Close { front: true },
            Step::Close { front: false },
        ];
        while steps.into_iter().any(|step| self.take(step)) {}
    }
}

proptest! {
    #[test]
    fn honest_sides_agree(steps in vec(step(), 1..200)) {
        let mut pair = Pair::default();
        let opened = steps
            .iter()
            .filter(|step| pair.take(**step) && matches!(step, Step::Open))
            .count();
        pair.settle();
        for side in &pair.0 {
            prop_assert!(side.number.is_free());
            prop_assert_eq!(side.ended as usize, opened);
            prop_assert_eq!(side.number.next() as usize, opened + 1);
        }
    }

    /// Another generation is never heard, and leaves everything as it was.
    #[test]
    fn other_generations(last in any::<u32>(), other in any::<u32>(), closed: bool) {
        let mut number = at(last);
        let generation = number.next();
        prop_assume!(other != generation);
        prop_assert_eq!(number.open(other, Answer::Given), Err(Violation::Generation));
        number.open(generation, Answer::Given).unwrap();
        if closed {
            prop_assert_eq!(number.close(generation), Some(false));
        }
        let before = number;
        prop_assert!(!number.has(other));
        prop_assert_eq!(number.answered(other), Err(Violation::Generation));
        prop_assert_eq!(number.peer_closed(other), Err(Violation::Generation));
        prop_assert_eq!(number.close(other), None);
        prop_assert!(!number.answer(other));
        prop_assert_eq!(number, before);
    }
}

/// A free number whose last channel had this generation.
fn at(generation: u32) -> Number {
    // Generations come one by one; most of them are skipped here by going round.
    let mut number = Number::default();
    let mut reached = 0u32;
    while reached != generation % 64 {
        reached += 1;
        number.open(reached, Answer::Given).unwrap();
        number.free();
    }
    number
}

#[test]
fn a_number_in_use_is_not_opened() {
    let mut number = at(3);
    number.open(4, Answer::Owed).unwrap();
    for generation in [0, 3, 4, 5, u32::MAX] {
        let again = number.open(generation, Answer::Owed);
        assert_eq!(again, Err(Violation::ChannelId), "{generation}");
    }
    assert!(number.has(4) && !number.is_free());
}

#[test]
fn a_free_number_hears_nothing() {
    for mut number in [Number::default(), at(7)] {
        for generation in [0, 7, 8] {
            assert!(!number.has(generation));
            assert_eq!(number.answered(generation), Err(Violation::ChannelId));
            assert_eq!(number.peer_closed(generation), Err(Violation::ChannelId));
            assert_eq!(number.close(generation), None);
            assert!(!number.answer(generation));
        }
    }
}

#[test]
fn messages_out_of_order() {
    let open = |answer| {
        let mut number = Number::default();
        number.open(1, answer).unwrap();
        number
    };
    // CLOSED before the answer, whoever owes it.
    for answer in [Answer::Awaited, Answer::Owed] {
        let mut number = open(answer);
        assert_eq!(number.peer_closed(1), Err(Violation::MessageOrder));
    }
    // An answer that nobody waits for, and a second one.
    for answer in [Answer::Given, Answer::Owed] {
        let mut number = open(answer);
        assert_eq!(number.answered(1), Err(Violation::MessageOrder));
    }
    let mut number = open(Answer::Awaited);
    number.answered(1).unwrap();
    assert_eq!(number.answered(1), Err(Violation::MessageOrder));
    // A second CLOSED.
    assert_eq!(number.peer_closed(1), Ok(false));
    assert_eq!(number.peer_closed(1), Err(Violation::MessageOrder));
    assert_eq!(number.close(1), Some(true));
}

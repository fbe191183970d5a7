// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Groups: who may be in, and that each record reaches each subscriber whole or is counted
//! as missed, in order, and nobody waits for a slow one who did not agree to it, or longer
//! than a second.
//!
//! Seed and number of cases: see common/mod.rs. Proves B-18, B-19, B-20.

#![cfg(not(loom))]

use std::collections::VecDeque;

use idts_core::group::{
    Backpressure, Delivery, Members, OnLag, RecordCost, Room, Subscriber, BLOCK_NS, SKIP_COST,
    SUBSCRIBERS_MAX,
};
use idts_core::record::framed;
use idts_core::wire::{group, Kind, Refusal};
use proptest::collection::vec;
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The publisher writes a record of so many bytes.
    Publish(u32),
    /// The back serves the group, with a budget.
    Serve(u32),
    /// A subscriber joins, with a ring of 2^n bytes.
    Join(u32, u32),
    /// A subscriber reads what it has.
    Read(usize),
    /// A subscriber leaves.
    Leave(usize),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The publisher ends.
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u32..200).prop_map(Step::Publish),
        8 => (0u32..400).prop_map(Step::Serve),
        3 => (0u32..3, 6u32..9).prop_map(|(on_lag, size)| Step::Join(on_lag, size)),
        6 => (0usize..6).prop_map(Step::Read),
        1 => (0usize..6).prop_map(Step::Leave),
        3 => (0u64..700).prop_map(Step::Pass),
        1 => Just(Step::End),
    ]
}

/// A subscriber, with its ring.
struct Peer {
    decided: Subscriber,
    on_lag: OnLag,
    size: u32,
    used: u32,
    /// Numbers of the records that it got.
    got: Vec<u32>,
    lag: u32,
    /// Records that were taken since it came.
    taken: u32,
    /// It was disconnected by the back.
    reset: bool,
    /// It was ended with the publisher.
    over: bool,
}

struct Model {
    members: Members,
    may_block: bool,
    now: u64,
    /// Records that the publisher wrote: number and length.
    written: VecDeque<(u32, u32)>,
    next: u32,
    /// The one that was taken.
    under_way: Option<(u32, u32, RecordCost)>,
    paid: u64,
    due: u64,
    /// Since when the publisher has waited for subscribers at a stretch of looks.
    waits: Option<u64>,
    peers: Vec<Peer>,
}

impl Model {
    fn new(may_block: bool) -> Self {
        let mut members = Members::NONE;
        members.join(Kind::Publish, may_block.into()).unwrap();
        Self {
            members,
            may_block,
            now: 1,
            written: VecDeque::new(),
            next: 0,
            under_way: None,
            paid: 0,
            due: 0,
            waits: None,
            peers: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(len) => {
                self.written.push_back((self.next, len));
                self.next += 1;
            }
            Step::Serve(budget) => self.serve(budget),
            Step::Join(source, size) => self.join(source, 1 << size),
            Step::Read(at) => {
                if let Some(peer) = self.peers.get_mut(at) {
                    peer.used = 0;
                }
            }
            Step::Leave(at) => {
                if let Some(peer) = self.peers.get_mut(at) {
                    if !peer.decided.is_gone() {
                        peer.decided.end();
                        self.members.leave();
                    }
                }
            }
            Step::Pass(ms) => self.now += ms * 1_000_000,
            Step::End => self.end(),
        }
    }

    fn join(&mut self, source: u32, size: u32) {
        if self.peers.len() >= 6 || self.members.join(Kind::Subscribe, source).is_err() {
            return;
        }
        let on_lag = OnLag::from_source(source).unwrap();
        self.peers.push(Peer {
            decided: Subscriber::new(on_lag),
            on_lag,
            size,
            used: 0,
            got: Vec::new(),
            lag: 0,
            taken: 0,
            reset: false,
            over: false,
        });
    }

    /// As the back does it: no record is taken while somebody holds it, and a turn may end
    /// between two subscribers.
    fn serve(&mut self, budget: u32) {
        assert_eq!(self.members.may_block(), self.may_block);
        let mut spent = 0;
        while spent <= budget {
            let Some((number, len, mut bill)) = self.under_way.or_else(|| self.take()) else {
                return;
            };
            let frame = framed(len).unwrap();
            for peer in self.peers.iter_mut().filter(|p| p.decided.is_due()) {
                if spent > budget {
                    self.under_way = Some((number, len, bill));
                    return;
                }
                let room = Room::of(frame, peer.size - peer.used, peer.size);
                let delivery = peer.decided.deliver(room);
                match delivery {
                    Delivery::Copy => {
                        peer.used += frame;
                        assert!(peer.used <= peer.size, "a record is cut");
                        peer.got.push(number);
                    }
                    Delivery::Lag(lag) => {
                        assert_eq!(lag, peer.lag + 1);
                        assert_ne!(peer.on_lag, OnLag::Disconnect);
                        peer.lag = lag;
                    }
                    Delivery::Disconnect => {
                        assert_eq!(peer.on_lag, OnLag::Disconnect);
                        peer.reset = true;
                        self.members.leave();
                    }
                    Delivery::Nothing => panic!("it was due"),
                }
                let cost = bill.add(delivery == Delivery::Copy);
                spent += cost;
                self.paid += u64::from(cost);
            }
            self.under_way = None;
            spent += bill.rest();
            self.paid += u64::from(bill.rest());
            self.due += u64::from(frame);
        }
    }

    fn take(&mut self) -> Option<(u32, u32, RecordCost)> {
        let (number, len) = *self.written.front()?;
        let frame = framed(len).unwrap();
        let mut held = false;
        for peer in &mut self.peers {
            if !peer.decided.can_block(self.may_block) {
                continue;
            }
            assert_eq!(peer.on_lag, OnLag::Block, "it did not ask for that");
            let room = Room::of(frame, peer.size - peer.used, peer.size);
            match peer.decided.backpressure(room, self.now) {
                Backpressure::Go => assert_ne!(room, Room::TooLittle),
                Backpressure::Wait => held = true,
                Backpressure::Disconnect => {
                    peer.reset = true;
                    self.members.leave();
                }
            }
        }
        if held {
            assert!(self.may_block, "the publisher did not agree");
            let since = *self.waits.get_or_insert(self.now);
            // Each of them has its second, from when it was found slow.
            let most = BLOCK_NS * self.peers.len() as u64;
            assert!(self.now - since <= most, "it waits too long");
            return None;
        }
        self.waits = None;
        self.written.pop_front();
        for peer in &mut self.peers {
            peer.taken += u32::from(!peer.decided.is_gone());
            peer.decided.take();
        }
        Some((number, len, RecordCost::new(frame)))
    }

    fn end(&mut self) {
        self.members.end();
        for peer in &mut self.peers {
            if !peer.decided.is_gone() {
                peer.decided.end();
                peer.over = true;
                self.members.leave();
            }
        }
        assert!(self.members.is_empty(), "a group without a member is left");
        // Another publisher may come.
        let again = self.members.join(Kind::Publish, self.may_block.into());
        assert_eq!(again, Ok(()));
        (self.written, self.under_way, self.waits) = (VecDeque::new(), None, None);
    }
}

proptest! {
    #[test]
    fn each_record_whole_or_counted(may_block: bool, steps in vec(step(), 1..150)) {
        let mut model = Model::new(may_block);
        let mut before = 0;
        for step in steps {
            model.step(step);
            for peer in &model.peers {
                prop_assert!(peer.got.is_sorted(), "out of order");
                if peer.decided.is_gone() {
                    continue;
                }
                let open = u32::from(peer.decided.is_due());
                let had = peer.got.len() as u32 + peer.lag + open;
                prop_assert_eq!(had, peer.taken, "neither whole nor counted");
            }
            let more = model.paid >= before;
            prop_assert!(more);
            before = model.paid;
        }
        prop_assert!(model.paid >= model.due, "a record costs less than its bytes");
        for peer in &model.peers {
            prop_assert!(!peer.reset || peer.on_lag != OnLag::Drop, "it only missed some");
            prop_assert!(!(peer.reset && peer.over), "ended twice");
            let agreed = may_block || peer.on_lag == OnLag::Disconnect;
            prop_assert!(!peer.reset || agreed, "nobody waited for it");
        }
    }

    #[test]
    fn a_bill_is_never_less_than_the_record(frame in 1u32..1 << 22, copied in vec(any::<bool>(), 0..300)) {
        let mut bill = RecordCost::new(frame);
        let mut paid = 0u64;
        for is_copied in &copied {
            let cost = bill.add(*is_copied);
            prop_assert_eq!(cost, if *is_copied { frame } else { frame.min(SKIP_COST) });
            paid += u64::from(cost);
        }
        let whole = paid + u64::from(bill.rest());
        prop_assert_eq!(whole, paid.max(frame.into()));
    }
}

/// A subscriber holds for a second and not longer, and begins anew once it had room.
#[test]
fn a_second_and_no_more() {
    let mut slow = Subscriber::new(OnLag::Block);
    assert!(slow.can_block(true) && !slow.can_block(false));
    assert_eq!(slow.backpressure(Room::TooLittle, 5), Backpressure::Wait);
    assert_eq!(
        slow.backpressure(Room::TooLittle, 5 + BLOCK_NS),
        Backpressure::Wait
    );
    assert_eq!(
        slow.backpressure(Room::Enough, 6 + BLOCK_NS),
        Backpressure::Go
    );
    assert_eq!(
        slow.backpressure(Room::TooLittle, 7 + BLOCK_NS),
        Backpressure::Wait
    );
    // A clock that goes back is no time.
    assert_eq!(slow.backpressure(Room::TooLittle, 0), Backpressure::Wait);
    assert_eq!(
        slow.backpressure(Room::TooLittle, 7 + 2 * BLOCK_NS),
        Backpressure::Wait
    );
    let over = slow.backpressure(Room::TooLittle, 8 + 2 * BLOCK_NS);
    assert_eq!((over, slow.is_gone()), (Backpressure::Disconnect, true));
    assert!(!slow.can_block(true), "who is gone holds nobody");
    assert_eq!(
        slow.backpressure(Room::TooLittle, u64::MAX),
        Backpressure::Go
    );
    slow.take();
    assert!(!slow.is_due());
    assert_eq!(slow.deliver(Room::Enough), Delivery::Nothing);
    for other in [OnLag::Drop, OnLag::Disconnect] {
        assert!(!Subscriber::new(other).can_block(true), "{other:?}");
    }
    // Time 0 is a time.
    let mut early = Subscriber::new(OnLag::Block);
    assert_eq!(early.backpressure(Room::TooLittle, 0), Backpressure::Wait);
    assert_eq!(
        early.backpressure(Room::TooLittle, BLOCK_NS),
        Backpressure::Wait
    );
    let over = early.backpressure(Room::TooLittle, BLOCK_NS + 1);
    assert_eq!(over, Backpressure::Disconnect);
    // Nobody waits for room that there cannot be.
    let mut small = Subscriber::new(OnLag::Block);
    assert_eq!(small.backpressure(Room::Never, 0), Backpressure::Go);
}

/// PROTOCOL.md's table of sources, with room and without.
#[test]
fn what_a_slow_subscriber_gets() {
    let wants = [(0, OnLag::Drop), (1, OnLag::Disconnect), (2, OnLag::Block)];
    for (source, on_lag) in wants {
        assert_eq!(OnLag::from_source(source), Some(on_lag));
        assert!(Kind::Subscribe.takes_source(source));
        for room in [Room::Enough, Room::TooLittle, Room::Never] {
            let mut one = Subscriber::new(on_lag);
            assert_eq!(one.deliver(room), Delivery::Nothing, "not taken yet");
            one.take();
            let expected = match (room, on_lag) {
                (Room::Enough, _) => Delivery::Copy,
                (_, OnLag::Disconnect) => Delivery::Disconnect,
                _ => Delivery::Lag(1),
            };
            assert_eq!(one.deliver(room), expected, "{on_lag:?} {room:?}");
            assert_eq!(one.is_gone(), expected == Delivery::Disconnect);
            assert_eq!(one.deliver(room), Delivery::Nothing, "twice");
        }
    }
    assert_eq!(OnLag::from_source(3), None);
    let mut ended = Subscriber::new(OnLag::Drop);
    ended.take();
    ended.end();
    assert!(ended.is_gone() && !ended.is_due());
}

#[test]
fn room_by_hand() {
    for (frame, free, size, room) in [
        (8, 8, 8, Room::Enough),
        (8, 7, 8, Room::TooLittle),
        (8, 0, 7, Room::Never),
        (8, 9, 16, Room::Enough),
    ] {
        assert_eq!(Room::of(frame, free, size), room, "{frame} {free} {size}");
    }
}

#[test]
fn who_may_be_in() {
    let mut members = Members::NONE;
    assert!(members.is_empty() && !members.may_block());
    for kind in [Kind::Stream, Kind::Record] {
        assert_eq!(members.join(kind, 0), Err(Refusal::Refused));
    }
    // Subscribers may come before there is a publisher.
    for _ in 0..SUBSCRIBERS_MAX {
        assert_eq!(members.join(Kind::Subscribe, group::DROP), Ok(()));
    }
    assert_eq!(
        members.join(Kind::Subscribe, group::BLOCK),
        Err(Refusal::NoSpace)
    );
    assert_eq!(members.join(Kind::Publish, group::MAY_BLOCK), Ok(()));
    assert_eq!(members.join(Kind::Publish, 0), Err(Refusal::InUse));
    assert!(members.may_block());
    members.leave();
    assert_eq!(members.join(Kind::Subscribe, group::DROP), Ok(()));
    members.end();
    assert!(!members.may_block() && !members.is_empty());
    for _ in 0..SUBSCRIBERS_MAX {
        members.leave();
    }
    assert!(members.is_empty());
    assert_eq!(members.join(Kind::Publish, 0), Ok(()));
    assert!(!members.is_empty() && !members.may_block());
}

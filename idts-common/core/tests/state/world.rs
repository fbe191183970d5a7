// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The model: two drivers, xenbus between them, what is granted and mapped.
//!
//! Reading the peer's state and acting on it are two steps, as in life, and so
//! are mapping and saying so.

use idts_core::state::{back, front, BackStep, FrontStep, Phase, XenbusState as X};

/// Numbers of offers. As a grant reference, one is taken again only when
/// nothing holds it any more.
const OFFERS: u8 = 3;
/// Set-ups at once, before each has to wait for its time.
const BURST: u8 = 2;

/// What the drivers do beyond the tables; each is needed, as a test shows.
#[derive(Clone, Copy)]
pub struct Rules {
    /// F-5: after Abandon and Release the front reads the back's state again.
    pub front_looks_again: bool,
    /// B-4: a back that finds another offer than the one it mapped resets.
    pub back_compares_offers: bool,
    /// B-5: after Reset the back reads the front's state again.
    pub back_looks_again: bool,
}

pub const RULES: Rules = Rules {
    front_looks_again: true,
    back_compares_offers: true,
    back_looks_again: true,
};

/// All phases.
const PHASES: [Phase; 4] = [Phase::Down, Phase::Offered, Phase::Up, Phase::Draining];

/// One driver as xenbus sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Side {
    bound: bool,
    /// Index into [`PHASES`].
    phase: u8,
    /// The number in this side's `state` node, which the toolstack writes too.
    node: u32,
    /// The number that this side wrote last.
    own: u32,
    /// The watch on the peer's node fired and was not handled.
    event: bool,
    /// What the handler read, while it has not acted on it.
    seen: Option<u32>,
}

impl Side {
    const fn new(node: X) -> Self {
        Self {
            bound: true,
            phase: 0,
            node: node as u32,
            own: node as u32,
            event: true,
            seen: None,
        }
    }

    fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase)]
    }

    fn go(&mut self, phase: Phase) {
        self.phase = PHASES.iter().position(|p| *p == phase).unwrap() as u8;
    }

    /// Writes a state; xenbus suppresses a write that changes nothing, and a
    /// node that was removed stays away.
    fn write(&mut self, state: X, peer: &mut Side) {
        let news = self.own != state as u32;
        self.own = state as u32;
        if news && self.node != X::Unknown as u32 {
            self.node = state as u32;
            peer.event |= peer.bound;
        }
    }

    fn unbind(&mut self, peer: &mut Side) {
        self.go(Phase::Down);
        self.bound = false;
        self.event = false;
        self.write(X::Closed, peer);
    }
}

/// Both drivers and all that they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    front: Side,
    back: Side,
    /// The toolstack wants the device.
    online: bool,
    /// The offer that the front's nodes tell of.
    published: u8,
    /// The offer that the front holds granted, 0 for none.
    granted: u8,
    /// Offers that could not be ended by try, a bit each.
    leftover: u8,
    /// The offer that the back has mapped, 0 for none.
    mapped: u8,
    /// The back has mapped and not yet said so.
    mapping: bool,
    /// The back has said that it unmaps and not yet done it.
    unmapping: bool,
    /// Set-ups that the back may begin now.
    pub tokens: u8,
    /// The back is to announce as soon as it may.
    held: bool,
    /// The front took the step Release while the back had its offer mapped.
    pub torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    FrontReads,
    FrontActs,
    FrontBinds,
    BackReads,
    BackActs,
    BackConnects,
    BackUnmaps,
    BackBinds,
    TimePasses,
    NodesGo,
    FrontUnbinds,
    FrontHearsTwice,
    FrontCloses,
    FrontDrains,
    BackUnbinds,
    BackHearsTwice,
    BackCloses,
    Detach,
}

use Move::*;

/// What happens of itself once nobody unbinds or breaks anything any more.
pub const CALM: [Move; 10] = [
    FrontReads,
    FrontActs,
    FrontBinds,
    BackReads,
    BackActs,
    BackConnects,
    BackUnmaps,
    BackBinds,
    TimePasses,
    NodesGo,
];

/// What people and broken peers do.
pub const ROUGH: [Move; 8] = [
    FrontUnbinds,
    FrontHearsTwice,
    FrontCloses,
    FrontDrains,
    BackUnbinds,
    BackHearsTwice,
    BackCloses,
    Detach,
];

impl World {
    pub const START: Self = Self {
        front: Side::new(X::Initialising),
        back: Side::new(X::InitWait),
        online: true,
        published: 0,
        granted: 0,
        leftover: 0,
        mapped: 0,
        mapping: false,
        unmapping: false,
        tokens: BURST - 1,
        held: false,
        torn: false,
    };

    fn front_writes(&mut self, state: X) {
        self.front.write(state, &mut self.back);
    }

    fn back_writes(&mut self, state: X) {
        self.back.write(state, &mut self.front);
    }

    /// No handler of the front runs.
    fn front_is_idle(&self) -> bool {
        self.front.bound && self.front.seen.is_none()
    }

    /// No handler of the back runs.
    fn back_is_idle(&self) -> bool {
        self.back.bound && self.back.seen.is_none() && !self.mapping && !self.unmapping
    }

    /// Ends the grants by try; what is mapped is left over.
    fn end_grants(&mut self) {
        self.leftover |= 1 << self.granted;
        self.granted = 0;
        self.front.go(Phase::Down);
    }

    /// The retries of the leftovers' work item.
    fn retry(&mut self) {
        self.leftover &= 1 << self.mapped;
        self.leftover &= !1;
    }

    fn offer(&mut self) {
        let held = self.leftover | 1 << self.granted | 1 << self.mapped;
        let offer = (1..=OFFERS).find(|o| held & 1 << o == 0).unwrap();
        self.granted = offer;
        self.published = offer;
        self.front.go(Phase::Offered);
        self.front_writes(X::Initialised);
    }

    fn front_acts(&mut self, peer: X, rules: Rules) {
        let step = front(self.front.phase(), peer);
        match step {
            FrontStep::Stay => {}
            FrontStep::Offer => self.offer(),
            FrontStep::Connect => {
                self.front.go(Phase::Up);
                self.front_writes(X::Connected);
            }
            FrontStep::Drain => {
                self.front.go(Phase::Draining);
                self.front_writes(X::Closing);
            }
            FrontStep::Release | FrontStep::Abandon => {
                let held = self.granted != 0 && self.granted == self.mapped;
                self.torn |= step == FrontStep::Release && held;
                let was_down = self.front.phase() == Phase::Down;
                self.end_grants();
                self.front_writes(X::Closed);
                self.front.event |= rules.front_looks_again && !was_down;
            }
        }
    }

    /// Maps what the front's nodes tell of, if it is still granted.
    fn back_maps(&mut self) {
        let there = self.leftover | 1 << self.granted;
        if self.published != 0 && there & 1 << self.published != 0 {
            self.mapped = self.published;
            self.back.go(Phase::Up);
            self.mapping = true;
        } else {
            self.back_writes(X::Closing);
        }
    }

    /// B-16: the back has no token and waits for the time.
    pub fn is_held(&self) -> bool {
        self.held && self.tokens == 0 && self.online
    }

    /// What the back says it is.
    pub fn back_is(&self, state: X) -> bool {
        self.back.own == state as u32
    }

    /// Begins a set-up, if there is a token for it.
    fn announce(&mut self) {
        self.held = self.tokens == 0;
        if self.held {
            self.back_writes(X::Closed);
        } else {
            self.tokens -= 1;
            self.back_writes(X::InitWait);
        }
    }

    fn unmap(&mut self) {
        self.mapped = 0;
        self.back.go(Phase::Down);
        self.back_writes(X::Closed);
    }

    fn back_acts(&mut self, peer: X, rules: Rules) {
        let waiting = self.back.own == X::InitWait as u32;
        let mut step = back(self.back.phase(), waiting, self.online, peer);
        let offered = matches!(peer, X::Initialised | X::Connected);
        if rules.back_compares_offers
            && offered
            && self.mapped != 0
            && self.mapped != self.published
        {
            step = BackStep::Reset;
        }
        if self.held && self.online && peer != X::Unknown {
            step = match self.tokens {
                0 => BackStep::Stay,
                _ => BackStep::Announce,
            };
        }
        match step {
            BackStep::Stay => {}
            BackStep::Announce => {
                self.announce();
                self.back.event |= rules.back_looks_again && !self.held;
            }
            BackStep::Map => self.back_maps(),
            BackStep::Unmap => {
                self.back_writes(X::Closing);
                self.unmapping = true;
            }
            BackStep::Reset if self.online => {
                self.unmap();
                self.announce();
                self.back.event |= rules.back_looks_again && !self.held;
            }
            BackStep::Reset | BackStep::Unregister => {
                self.unmap();
                self.held = false;
                self.back.unbind(&mut self.front);
            }
        }
    }

    /// The toolstack removes both directories.
    fn nodes_go(&mut self) {
        self.front.node = X::Unknown as u32;
        self.back.node = X::Unknown as u32;
        self.front.event |= self.front.bound;
        self.back.event |= self.back.bound;
    }

    /// The world after `m`, if `m` can happen.
    pub fn after(mut self, m: Move, rules: Rules) -> Option<Self> {
        let (front_idle, back_idle) = (self.front_is_idle(), self.back_is_idle());
        match m {
            FrontReads if self.front.event && front_idle => {
                self.front.event = false;
                self.front.seen = Some(self.back.node);
            }
            BackReads if self.back.event && back_idle => {
                self.back.event = false;
                self.back.seen = Some(self.front.node);
            }
            FrontActs => {
                let seen = self.front.seen.take()?;
                self.front_acts(X::from_wire(seen), rules);
            }
            BackActs => {
                let seen = self.back.seen.take()?;
                self.back_acts(X::from_wire(seen), rules);
            }
            BackConnects if self.mapping => {
                self.mapping = false;
                self.back_writes(X::Connected);
            }
            BackUnmaps if self.unmapping => {
                self.unmapping = false;
                self.unmap();
            }
            // xenbus waits for a running handler before it removes.
            FrontUnbinds if front_idle => {
                self.end_grants();
                self.front.unbind(&mut self.back);
            }
            BackUnbinds if back_idle => {
                self.unmap();
                self.held = false;
                self.back.unbind(&mut self.front);
            }
            FrontBinds if !self.front.bound && self.online => {
                self.front.bound = true;
                self.front.event = true;
            }
            BackBinds if !self.back.bound && self.online => {
                self.back.bound = true;
                self.tokens = BURST;
                self.back.event = true;
                self.announce();
            }
            TimePasses if self.tokens < BURST => {
                self.tokens += 1;
                // The work item that waited for it looks.
                self.back.event |= self.held && self.back.bound;
            }
            FrontHearsTwice if self.front.bound => self.front.event = true,
            BackHearsTwice if self.back.bound => self.back.event = true,
            // A violation: Closing is written at any time, whatever the phase.
            FrontCloses if front_idle && self.granted != 0 => self.front_writes(X::Closing),
            FrontDrains if front_idle && self.front.phase() == Phase::Up => {
                self.front.go(Phase::Draining);
                self.front_writes(X::Closing);
            }
            BackCloses if back_idle && self.mapped != 0 => self.back_writes(X::Closing),
            Detach if self.online => {
                self.online = false;
                self.back.node = X::Closing as u32;
                self.front.event |= self.front.bound;
            }
            NodesGo if !self.online && self.back.node != X::Unknown as u32 => self.nodes_go(),
            _ => return None,
        }
        self.retry();
        Some(self)
    }

    /// What all calm orders of events are to lead to.
    pub fn is_good(&self) -> bool {
        if !self.online {
            return self.granted | self.leftover | self.mapped == 0;
        }
        let up = |s: &Side| s.phase() == Phase::Up && s.node == X::Connected as u32;
        up(&self.front) && up(&self.back) && self.granted == self.mapped && self.leftover == 0
    }
}

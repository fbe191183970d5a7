// SPDX-License-Identifier: GPL-2.0

//! A channel between two guests: the back moves bytes from one tunnel's ring
//! straight into the other's and keeps none of them. A full ring is the
//! back-pressure.
//!
//! Owns the life of a relay and single stretches of moving. When which one is
//! moved is decided by [`crate::mover`], which alone calls this.

use idts_core::record::{framed, HEADER};
use idts_core::ring::{Consumer, Producer};
use idts_core::wire::{line, Kind, Open, Refusal};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full};
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::channel::{Channel, Rx, Stop, Tx};
use crate::endpoint::{Endpoint, Outcome, Owner};
use crate::mem::revocable::AccessGuard;
use crate::mem::shared;
use crate::opening::Wanted;
use crate::sys::errno::Errno;
use crate::tunnel::Tunnel;

/// One of a relay's two directions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the domain that asked.
    Forth,
    /// To the domain that asked.
    Back,
}

/// What a stretch of moving came to.
pub(crate) struct Moved {
    /// Bytes moved.
    pub(crate) bytes: u32,
    /// What is to come of it.
    pub(crate) then: Then,
}

/// What a job is to do after a stretch of moving.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// There is more to move at once.
    More,
    /// Nothing is left, and the source does not tell of more: look again.
    Look,
    /// An event tells when there is something to move.
    Wait,
}

/// Why nothing is moved now.
pub(crate) enum Stall {
    /// Nothing is left, and the source was not armed.
    Dry,
    /// A subscriber holds the publisher up.
    Held,
    /// One of the two ends says why.
    Stop(Stop),
}

impl From<Stop> for Stall {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The other domain has not been asked yet.
    New,
    /// It has been asked.
    Asked,
    /// Bytes move.
    Open,
    /// Over: nothing refers to the legs any more.
    Over,
}

struct State {
    phase: Phase,
    /// Directions in which nothing moves any more.
    ended: [bool; 2],
}

/// Two channels, joined. Each has a leg: an endpoint without a file.
#[pin_data]
pub(crate) struct Relay {
    /// The leg to the domain that asked, and its tunnel.
    asker: Arc<Endpoint>,
    tunnel: Arc<Tunnel>,
    open: Open,
    /// The leg to the other domain.
    target: Arc<Endpoint>,
    /// Which direction the mover has queued.
    queued: [Atomic<u32>; 2],
    #[pin]
    state: Mutex<State>,
}

impl Relay {
    /// A relay for a channel that `tunnel`'s front asked for; its answer is
    /// owed. The mover does the rest.
    pub(crate) fn begin(tunnel: &Arc<Tunnel>, asker: Arc<Endpoint>, open: &Open) -> Result {
        let target = Endpoint::leg(tunnel.hub.clone())?;
        let (tunnel, open) = (tunnel.clone(), *open);
        let legs = (asker.clone(), target.clone());
        let relay = Arc::pin_init(
            pin_init!(Self {
                asker,
                tunnel,
                open,
                target,
                queued: [const { Atomic::new(0) }; 2],
                state <- new_mutex!(State { phase: Phase::New, ended: [false; 2] }),
            }),
            GFP_KERNEL,
        )?;
        let (asker, target) = legs;
        asker.belongs_to(Owner::Relay(relay.clone()));
        target.belongs_to(Owner::Relay(relay));
        asker.kick();
        Ok(())
    }

    fn queued(&self, way: Way) -> &Atomic<u32> {
        let [forth, back] = &self.queued;
        match way {
            Way::Forth => forth,
            Way::Back => back,
        }
    }

    /// The mover queues a direction; `false`: it is queued already.
    pub(crate) fn mark_queued(&self, way: Way) -> bool {
        self.queued(way).xchg(1, Full) == 0
    }

    /// The mover took a direction out of its queue.
    pub(crate) fn unmark_queued(&self, way: Way) {
        self.queued(way).xchg(0, Full);
    }

    /// Goes on after news on a leg. `true`: there may be something to move.
    pub(crate) fn step(&self) -> bool {
        let mut state = self.state.lock();
        if state.phase == Phase::Over {
            return false;
        }
        // A tunnel that is gone serves nobody: this is the last chance.
        if self.asker.is_broken() || self.target.is_broken() {
            self.target.end_attempt(Errno::ConnReset);
            if state.phase != Phase::Open {
                // It is owed an answer before all.
                self.answer(&mut state, Some(Refusal::Forbidden));
                return false;
            }
            for leg in [&self.asker, &self.target] {
                if let Ok(channel) = leg.channel() {
                    channel.reset();
                }
            }
            self.finish(&mut state);
            return false;
        }
        if state.phase == Phase::New {
            state.phase = Phase::Asked;
            if let Err(why) = self.ask() {
                self.answer(&mut state, Some(why));
                return false;
            }
        }
        if state.phase == Phase::Asked {
            match self.target.outcome() {
                Outcome::Waiting => return false,
                Outcome::Connected => self.answer(&mut state, None),
                Outcome::Failed(errno) => {
                    self.answer(&mut state, Some(refusal(errno)));
                    return false;
                }
            }
        }
        true
    }

    /// Asks the other domain.
    fn ask(&self) -> Result<(), Refusal> {
        let tunnel = u16::try_from(self.open.domain)
            .ok()
            .and_then(|domid| self.tunnel.hub.tunnel(domid))
            .ok_or(Refusal::Forbidden)?;
        let wanted = Wanted {
            ports: self.open.ports,
            // What the asker's front writes, we write to the other.
            tx: self.open.front_ring.len,
            rx: self.open.back_ring.len,
            domain: self.tunnel.peer.into(),
            kind: self.open.kind,
            name: None,
        };
        self.target.connect_leg(&tunnel, wanted);
        Ok(())
    }

    /// Gives the asker the answer that is owed.
    fn answer(&self, state: &mut State, refusal: Option<Refusal>) {
        self.tunnel.answer(self.open.channel, refusal);
        match refusal {
            None => state.phase = Phase::Open,
            Some(_) => self.finish(state),
        }
    }

    /// The tunnel whose domain sends in a direction.
    pub(crate) fn sender(&self, way: Way) -> Option<Arc<Tunnel>> {
        match way {
            Way::Forth => Some(self.tunnel.clone()),
            Way::Back => Some(self.target.channel().ok()?.tunnel.clone()),
        }
    }

    /// The end that is read in a direction.
    fn source(&self, way: Way) -> &Endpoint {
        match way {
            Way::Forth => &self.asker,
            Way::Back => &self.target,
        }
    }

    /// The end that is written in a direction.
    fn sink(&self, way: Way) -> &Endpoint {
        match way {
            Way::Forth => &self.target,
            Way::Back => &self.asker,
        }
    }

    /// Whether there may be something to move in a direction that ran dry.
    pub(crate) fn has_news(&self, way: Way) -> bool {
        let state = self.state.lock();
        // What is over must not be touched: its memory may be another's.
        state.phase != Phase::Open || self.source(way).leg_has_news()
    }

    /// Asks for an event in a direction that ran dry. `true`: there is something.
    pub(crate) fn arm(&self, way: Way) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Open || self.source(way).arm_dry_leg()
    }

    /// Moves up to `budget` bytes in one direction. `looks`: where the source
    /// runs dry it will be looked at again, and need not tell.
    pub(crate) fn run(&self, way: Way, budget: u32, looks: bool) -> Moved {
        let mut state = self.state.lock();
        let nothing = Moved {
            bytes: 0,
            then: Then::Wait,
        };
        let (Phase::Open, [forth, back]) = (state.phase, &mut state.ended) else {
            return nothing;
        };
        let ended = match way {
            Way::Forth => forth,
            Way::Back => back,
        };
        let ends = (self.source(way).channel(), self.sink(way).channel());
        let (Ok(source), Ok(sink)) = ends else {
            return nothing;
        };
        if *ended {
            return nothing;
        }
        let (bytes, stall) = stretch(source, sink, budget, looks);
        let stop = match stall {
            None | Some(Stall::Dry | Stall::Held) => {
                let then = if stall.is_none() {
                    Then::More
                } else {
                    Then::Look
                };
                return Moved { bytes, then };
            }
            Some(Stall::Stop(stop)) => stop,
        };
        match stop {
            Stop::Blocked | Stop::Fault(_) | Stop::Turn(_) => {}
            Stop::End => {
                sink.shutdown(line::FIN);
                *ended = true;
            }
            Stop::Deaf | Stop::TooLong => {
                source.shutdown(line::DEAF);
                *ended = true;
            }
            Stop::Broken => {
                // Whichever broke, the other is told.
                source.reset();
                sink.reset();
                state.ended = [true; 2];
            }
        }
        if state.ended == [true; 2] {
            self.finish(&mut state);
        }
        let then = Then::Wait;
        Moved { bytes, then }
    }

    /// Closes both legs.
    fn finish(&self, state: &mut State) {
        state.phase = Phase::Over;
        for leg in [&self.asker, &self.target] {
            leg.end_leg();
        }
    }
}

/// What a refusal of one domain looks like to another.
fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::ConnRefused => Refusal::Refused,
        Errno::NoSpace => Refusal::NoSpace,
        _ => Refusal::Forbidden,
    }
}

/// Moves up to `budget` bytes, or says why it stopped. Notifies both sides.
fn stretch(source: &Channel, sink: &Channel, budget: u32, looks: bool) -> (u32, Option<Stall>) {
    let mut rx = source.rx.lock();
    let mut tx = sink.tx.lock();
    let entered = source
        .enter_to_read()
        .and_then(|l| Ok((l, sink.enter_to_write()?)));
    let (live, live_sink) = match entered {
        Ok(both) => both,
        Err(stop) => return (0, Some(stop.into())),
    };
    let mut job = Stretch {
        source,
        sink,
        live: &live,
        live_sink: &live_sink,
        looks,
        data: false,
        room: false,
    };
    let mut done = 0u32;
    let stop = loop {
        if done >= budget {
            break None;
        }
        match job.once(&mut rx, &mut tx, budget.wrapping_sub(done)) {
            Ok(n) => done = done.wrapping_add(n),
            Err(stop) => break Some(stop),
        }
    };
    sink.notify(&live_sink, job.data);
    source.notify(&live, job.room);
    rx.bytes = rx.bytes.wrapping_add(done.into());
    tx.bytes = tx.bytes.wrapping_add(done.into());
    source.tunnel.stats.relayed_in.add(done.into());
    sink.tunnel.stats.relayed_out.add(done.into());
    (done, stop)
}

struct Stretch<'a> {
    source: &'a Channel,
    sink: &'a Channel,
    live: &'a AccessGuard,
    live_sink: &'a AccessGuard,
    /// A source that runs dry is looked at again.
    looks: bool,
    /// The sink's reader is to be notified.
    data: bool,
    /// The source's writer is to be notified.
    room: bool,
}

impl Stretch<'_> {
    /// Moves what is there and fits, at most `want` bytes but at least a record.
    fn once(&mut self, rx: &mut Rx, tx: &mut Tx, want: u32) -> Result<u32, Stall> {
        let words = self.source.memory.lines.words(self.live);
        let words_sink = self.sink.memory.lines.words(self.live_sink);
        if let Err(stop) = self.source.refill(&mut rx.ring, self.live) {
            if !matches!(stop, Stop::Blocked) {
                return Err(stop.into());
            }
            if self.looks {
                return Err(Stall::Dry);
            }
            self.source.waiter.read.arm();
            let there = rx.ring.arm(&words, self.source.lines);
            if !there.map_err(|v| self.source.broken(v))? {
                // The end may have come before the arming.
                self.source.refill(&mut rx.ring, self.live)?;
            }
            return Ok(0);
        }
        let (need, least, header) = match self.source.kind {
            Kind::Stream => (rx.ring.available_seen().min(want), 1, None),
            _ => {
                let len = self.source.next_record(&rx.ring, self.live)?;
                let frame = framed(len).unwrap_or(len);
                if frame > tx.ring.size() {
                    return Err(Stop::TooLong.into());
                }
                (frame, frame, Some(len))
            }
        };
        if tx.ring.free_seen() < need {
            let free = tx.ring.free(&words_sink, self.sink.lines);
            if free.map_err(|v| self.sink.broken(v))? < least {
                self.sink.waiter.write.arm();
                let low = least.max(tx.ring.size() / 2).min(tx.ring.size());
                let room = tx.ring.arm(&words_sink, self.sink.lines, low);
                if !room.map_err(|v| self.sink.broken(v))? {
                    return Err(Stop::Blocked.into());
                }
                return Ok(0);
            }
        }
        let bytes = need.min(tx.ring.free_seen());
        match header {
            None => self.copy(rx, tx, bytes),
            Some(len) => copy_record(
                (self.source, &rx.ring, self.live),
                (self.sink, &tx.ring, self.live_sink),
                len,
            ),
        }
        self.data |= self.sink.publish(&mut tx.ring, &words_sink, bytes);
        self.room |= self.source.release(&mut rx.ring, &words, bytes);
        Ok(bytes)
    }

    /// Copies `bytes` of a stream from ring to ring.
    fn copy(&self, rx: &Rx, tx: &Tx, bytes: u32) {
        copy_bytes(
            (self.source, &rx.ring, self.live),
            (self.sink, &tx.ring, self.live_sink),
            0,
            bytes,
        );
    }
}

/// Where bytes come from: a channel that is read, and the proof that its memory
/// is mapped.
type Source<'a> = (&'a Channel, &'a Consumer, &'a AccessGuard);
/// Where they go to.
type Sink<'a> = (&'a Channel, &'a Producer, &'a AccessGuard);

/// Copies from ring to ring, from `skip` bytes after both heads up to `end`.
fn copy_bytes(
    (source, rx, live): Source<'_>,
    (sink, tx, live_sink): Sink<'_>,
    skip: u32,
    end: u32,
) {
    let mut done = skip;
    while done < end {
        let rest = end.wrapping_sub(done);
        let n = shared::copy_between(
            (&source.memory.rx, live, rx.next_after(done, rest)),
            (&sink.memory.tx, live_sink, tx.next_after(done, rest)),
        );
        if n == 0 {
            return;
        }
        done = done.wrapping_add(n);
    }
}

/// Copies a record of `len` bytes from ring to ring. Its header is not copied
/// but written anew from the length that was checked.
pub(crate) fn copy_record(from: Source<'_>, to: Sink<'_>, len: u32) {
    let (sink, tx, live) = to;
    sink.memory.tx.write_word(live, tx.next(HEADER).at, len);
    copy_bytes(from, to, HEADER, HEADER.wrapping_add(len));
}

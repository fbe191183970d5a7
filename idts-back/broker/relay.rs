// SPDX-License-Identifier: GPL-2.0

//! A relay: joins the channels of two guests. The back moves bytes from one tunnel's ring
//! straight into the other's and keeps none of them. A full ring is the back-pressure.
//!
//! This file owns the life of a relay; the worker decides when a direction is moved.

use idts_core::sched::FlowId;
use idts_core::wire::{line, Open, Refusal};
use idts_kernel::channel::splice::{splice, Stall};
use idts_kernel::channel::Stop;
use idts_kernel::context::registry::Registry;
use idts_kernel::link::waiter::WakeReason;
use idts_kernel::link::Link;
use idts_kernel::sys::errno::Errno;
use idts_kernel::tunnel::host::{Carrier, OpenRequest};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full};
use kernel::sync::{new_mutex, Arc, Mutex};

use super::job::{Direction, Item, Job, Outcome, Ready, RelayEnd, Resched, RunResult};

/// The state of a relay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The target domain has not been asked yet.
    New,
    /// The target domain has been asked.
    Asked,
    /// The relay moves bytes.
    Open,
    /// The relay is over, and nothing refers to the ends any more.
    Over,
}

/// State under a relay's lock.
struct State {
    phase: Phase,
    /// The directions that have ended: original, reply.
    ended: [bool; 2],
}

/// The next step after an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is nothing to move.
    Nothing,
    /// The relay has just opened: both directions may have data to move.
    Opened,
    /// The relay is open.
    Open,
}

/// Two joined channels, each with an end here.
#[pin_data]
pub(super) struct Relay {
    registry: Arc<Registry>,
    /// The end towards the requesting domain, its tunnel and its link.
    asker: Arc<RelayEnd>,
    tunnel: Arc<dyn Carrier>,
    link: Arc<Link>,
    open: Open,
    /// The end towards the target domain.
    target: Arc<RelayEnd>,
    /// Set for the directions that the worker has queued.
    queued: [Atomic<bool>; 2],
    #[pin]
    state: Mutex<State>,
}

impl Relay {
    /// Begins a relay for a channel that the peer of `tunnel` opened, and owes it an answer. The
    /// worker does the rest.
    ///
    /// # Errors
    /// `ENOMEM`; no answer is owed.
    pub(super) fn begin(
        registry: &Arc<Registry>,
        (tunnel, link): (Arc<dyn Carrier>, Arc<Link>),
        (asker, target): (Arc<RelayEnd>, Arc<RelayEnd>),
        open: &Open,
    ) -> Result {
        let ends = (asker.clone(), target.clone());
        let (registry, open) = (registry.clone(), *open);
        let relay = Arc::pin_init(
            pin_init!(Self {
                registry,
                asker,
                tunnel,
                link,
                open,
                target,
                queued: [const { Atomic::new(false) }; 2],
                state <- new_mutex!(State { phase: Phase::New, ended: [false; 2] }),
            }),
            GFP_KERNEL,
        )?;
        let (asker, target) = ends;
        asker.serve(relay.clone());
        target.serve(relay);
        asker.kick();
        Ok(())
    }

    /// The mark of a direction.
    fn queued(&self, direction: Direction) -> &Atomic<bool> {
        let [original, reply] = &self.queued;
        match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }
    }

    /// Takes the next step after an event at an end.
    fn step(&self) -> Step {
        let mut state = self.state.lock();
        if state.phase == Phase::Over {
            return Step::Nothing;
        }
        // This is the last event for a tunnel that is gone.
        if self.asker.is_broken() || self.target.is_broken() {
            self.target.end_attempt();
            if state.phase != Phase::Open {
                // The requester must get its answer first.
                self.answer(&mut state, Some(Refusal::Forbidden));
                return Step::Nothing;
            }
            for end in [&self.asker, &self.target] {
                if let Some(channel) = end.channel() {
                    channel.reset();
                }
            }
            self.finish(&mut state);
            return Step::Nothing;
        }
        if state.phase == Phase::New {
            state.phase = Phase::Asked;
            if let Err(why) = self.ask() {
                self.answer(&mut state, Some(why));
                return Step::Nothing;
            }
        }
        if state.phase != Phase::Asked {
            return Step::Open;
        }
        match self.target.outcome() {
            Outcome::New | Outcome::Waiting(_) => Step::Nothing,
            Outcome::Connected => {
                self.answer(&mut state, None);
                Step::Opened
            }
            Outcome::Failed(errno) => {
                self.answer(&mut state, Some(refusal(errno)));
                Step::Nothing
            }
        }
    }

    /// Requests the target domain's channel.
    ///
    /// # Errors
    /// The refusal for the requester.
    fn ask(&self) -> Result<(), Refusal> {
        let tunnel: Arc<dyn Carrier> = u16::try_from(self.open.domain)
            .ok()
            .and_then(|domid| self.registry.tunnel(domid))
            .ok_or(Refusal::Forbidden)?;
        let request = OpenRequest {
            ports: self.open.ports,
            // The bytes that the requester's front writes are written to the target.
            tx: self.open.front_ring.len,
            rx: self.open.back_ring.len,
            domain: self.link.peer.into(),
            kind: self.open.kind,
            name: None,
        };
        self.target.connect(&tunnel, request);
        Ok(())
    }

    /// Sends the requester its answer.
    fn answer(&self, state: &mut State, refusal: Option<Refusal>) {
        self.tunnel
            .as_arc_borrow()
            .answer(self.open.channel, refusal);
        match refusal {
            None => state.phase = Phase::Open,
            Some(_) => self.finish(state),
        }
    }

    /// The ends that a direction reads from and writes to.
    fn ends(&self, direction: Direction) -> (&RelayEnd, &RelayEnd) {
        match direction {
            Direction::Original => (&self.asker, &self.target),
            Direction::Reply => (&self.target, &self.asker),
        }
    }

    /// Ends the relay and closes both ends.
    fn finish(&self, state: &mut State) {
        state.phase = Phase::Over;
        for end in [&self.asker, &self.target] {
            end.close();
        }
    }
}

impl Job for Relay {
    fn on_event(self: Arc<Self>, end: &Arc<RelayEnd>, why: WakeReason) -> Ready {
        // Data at the requester's end and room at the target's concern the original direction.
        let is_asker = Arc::ptr_eq(end, &self.asker);
        let (original, reply) = match (self.step(), is_asker) {
            (Step::Nothing, _) => (false, false),
            (Step::Opened, _) => (true, true),
            (Step::Open, true) => (why.read, why.write),
            (Step::Open, false) => (why.write, why.read),
        };
        let item = |direction| Item {
            job: self.clone(),
            direction,
        };
        [
            original.then(|| item(Direction::Original)),
            reply.then(|| item(Direction::Reply)),
        ]
    }

    fn flow(&self, direction: Direction) -> Option<FlowId> {
        let link = match direction {
            Direction::Original => &self.link,
            Direction::Reply => &self.target.channel()?.link,
        };
        Some(link.throttle()?.flow())
    }

    fn mark_queued(&self, direction: Direction) -> bool {
        !self.queued(direction).xchg(true, Full)
    }

    fn unmark_queued(&self, direction: Direction) {
        self.queued(direction).xchg(false, Full);
    }

    fn run(&self, direction: Direction, budget: u32, looks: bool) -> RunResult {
        let mut state = self.state.lock();
        let (Phase::Open, [original, reply]) = (state.phase, &mut state.ended) else {
            return RunResult::NOTHING;
        };
        let ended = match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        };
        let (source, sink) = self.ends(direction);
        let (Some(source), Some(sink)) = (source.channel(), sink.channel()) else {
            return RunResult::NOTHING;
        };
        if *ended {
            return RunResult::NOTHING;
        }
        let (bytes, stall) = splice(source, sink, budget, looks);
        let stop = match stall {
            None => {
                let then = Resched::Now;
                return RunResult { bytes, then };
            }
            Some(Stall::Dry) => {
                let then = Resched::BusyPoll;
                return RunResult { bytes, then };
            }
            Some(Stall::Stop(stop)) => stop,
        };
        match stop {
            Stop::Blocked | Stop::Fault(_) => {}
            Stop::End => {
                sink.shutdown(line::FIN);
                *ended = true;
            }
            Stop::Deaf | Stop::TooLong => {
                source.shutdown(line::DEAF);
                *ended = true;
            }
            Stop::Broken => {
                // Resets both, since either may be the one that broke.
                source.reset();
                sink.reset();
                state.ended = [true; 2];
            }
        }
        if state.ended == [true; 2] {
            self.finish(&mut state);
        }
        let then = Resched::OnEvent;
        RunResult { bytes, then }
    }

    fn has_news(&self, direction: Direction) -> bool {
        let state = self.state.lock();
        // A closed channel must not be accessed: its memory may belong to another one.
        state.phase != Phase::Open || self.ends(direction).0.has_news()
    }

    fn arm(&self, direction: Direction) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Open || self.ends(direction).0.arm()
    }
}

/// The refusal that the requester gets for an errno of the target.
fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::ConnRefused => Refusal::Refused,
        Errno::NoSpace => Refusal::NoSpace,
        _ => Refusal::Forbidden,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Jobs, which the worker runs on behalf of the domain that sends, and the relay ends that they
//! serve.

use idts_core::sched::FlowId;
use idts_kernel::channel::Channel;
use idts_kernel::link::waiter::WakeReason;
use idts_kernel::sys::errno::Errno;
use idts_kernel::sys::ready_list::Node;
use idts_kernel::tunnel::host::Carrier;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::{Arc, ArcBorrow, Mutex, SetOnce};

/// A direction of a job, from the requester's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the requester. A group has only this one.
    Original,
    /// To the requester.
    Reply,
}

/// The condition on which a job runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resched {
    /// At once: there is more to move.
    Now,
    /// The source is empty and not armed: the worker busy-polls it.
    BusyPoll,
    /// An event will tell that there is data or room.
    OnEvent,
    /// A subscriber blocks the publisher: the worker tries again after a while.
    Held,
}

/// The result of running a job.
#[derive(Clone, Copy)]
pub(super) struct RunResult {
    /// Bytes moved.
    pub(super) bytes: u32,
    /// The condition on which the job runs again.
    pub(super) then: Resched,
}

impl RunResult {
    /// Nothing was moved, and nothing is to do before an event.
    pub(super) const NOTHING: Self = Self {
        bytes: 0,
        then: Resched::OnEvent,
    };
}

/// A source of work that moves data. Called by the worker alone, implemented by relays and
/// groups.
pub(super) trait Job: Send + Sync {
    /// Handles an event at one of the job's ends. Returns the directions that may have data to
    /// move.
    fn on_event(self: Arc<Self>, end: &Arc<RelayEnd>, why: WakeReason) -> Ready;

    /// Returns the scheduler's flow of the domain that sends.
    fn flow(&self, direction: Direction) -> Option<FlowId>;

    /// Marks a direction as queued. Returns false if it is queued already.
    fn mark_queued(&self, direction: Direction) -> bool;

    /// Clears the mark before the worker runs the direction.
    fn unmark_queued(&self, direction: Direction);

    /// Moves up to `budget` bytes. With `looks` the worker busy-polls an empty source, so it is
    /// not armed.
    fn run(&self, direction: Direction, budget: u32, looks: bool) -> RunResult;

    /// Returns whether an empty source may have data by now.
    fn has_news(&self, direction: Direction) -> bool;

    /// Arms an empty source. Returns true if there is data to move.
    fn arm(&self, direction: Direction) -> bool;

    /// Returns whether the job holds events back while it has several turns in a row, until
    /// [`Self::tell`].
    fn keeps_events(&self) -> bool {
        false
    }

    /// Sends the events that were held back.
    fn tell(&self) {}
}

/// A direction of a job, as an entry of a queue.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) job: Arc<dyn Job>,
    pub(super) direction: Direction,
}

/// The directions of a job that may have data to move.
pub(super) type Ready = [Option<Item>; 2];

impl Item {
    /// Returns whether both are the same direction of the same job.
    pub(super) fn is(&self, other: &Self) -> bool {
        core::ptr::addr_eq(&raw const *self.job, &raw const *other.job)
            && self.direction == other.direction
    }
}

/// The state of an end's connect.
#[derive(Clone)]
pub(super) enum Outcome {
    /// No request so far.
    New,
    /// Requested from this tunnel, without an answer yet.
    Waiting(Arc<dyn Carrier>),
    /// The end has its channel.
    Connected,
    /// The request failed.
    Failed(Errno),
}

/// The list of ends with events. Implemented by the worker, called by [`EndWaker`].
pub(super) trait ReadySink: Send + Sync {
    /// Adds an end and wakes the worker. Callable in hard interrupt context.
    fn on_ready(self: ArcBorrow<'_, Self>, end: ArcBorrow<'_, EndWaker>);
}

/// An end and the job that it serves.
pub(super) type Served = (Arc<RelayEnd>, Arc<dyn Job>);

/// The part of an end that its channel's waiter owns. It is separate from the end, which owns
/// the channel, because otherwise both would keep each other alive.
#[pin_data]
pub(super) struct EndWaker {
    pub(super) sink: Arc<dyn ReadySink>,
    pub(super) node: Node<EndWaker>,
    /// The reasons of its events since the worker took them, as bits.
    pub(super) woken: Atomic<u32>,
    /// The end and its job, kept until [`RelayEnd::close`].
    #[pin]
    pub(super) served: Mutex<Option<Served>>,
}

/// An in-kernel end of a channel, without an open file. [`super::relay_end`] has its operations.
#[pin_data]
pub(super) struct RelayEnd {
    pub(super) waker: Arc<EndWaker>,
    pub(super) channel: SetOnce<Arc<Channel>>,
    #[pin]
    pub(super) outcome: Mutex<Outcome>,
}

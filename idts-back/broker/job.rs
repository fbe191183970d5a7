// SPDX-License-Identifier: GPL-2.0

//! Jobs, which the worker runs on behalf of a domain that sends, and the ends of channels
//! that they serve. Both know each other.

use idts_core::sched::FlowId;
use idts_kernel::channel::Channel;
use idts_kernel::link::waiter::Woken;
use idts_kernel::sys::errno::Errno;
use idts_kernel::sys::ready_list::Node;
use idts_kernel::tunnel::host::Carrier;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::{Arc, ArcBorrow, Mutex, SetOnce};

/// One of a job's directions, from the view of whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the asker: a relay's, and a group's only one.
    Original,
    /// To the asker.
    Reply,
}

/// When a job is to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resched {
    /// There is more to move at once.
    Now,
    /// Nothing is left, and the source does not tell of more: look again.
    BusyPoll,
    /// An event tells when there is something to move.
    OnEvent,
    /// A subscriber holds the publisher up: look again after a while.
    Held,
}

/// The result of running a job.
#[derive(Clone, Copy)]
pub(super) struct RunResult {
    /// Bytes moved.
    pub(super) bytes: u32,
    pub(super) then: Resched,
}

impl RunResult {
    /// Nothing to do before an event.
    pub(super) const NOTHING: Self = Self {
        bytes: 0,
        then: Resched::OnEvent,
    };
}

/// Something that moves data. The worker alone calls it.
pub(super) trait Job: Send + Sync {
    /// Sees what an event at one of its ends means. Returns the directions that may have
    /// something to move.
    fn on_event(self: Arc<Self>, end: &Arc<RelayEnd>, why: Woken) -> Ready;

    /// The flow of the domain that sends.
    fn flow(&self, direction: Direction) -> Option<FlowId>;

    /// The worker queues a direction; `false`: it is queued already.
    fn mark_queued(&self, direction: Direction) -> bool;

    /// The worker took a direction out of its queue.
    fn unmark_queued(&self, direction: Direction);

    /// Moves up to `budget` bytes. `looks`: if it runs dry the worker looks at it again.
    fn run(&self, direction: Direction, budget: u32, looks: bool) -> RunResult;

    /// Whether there may be something to move after it ran dry.
    fn has_news(&self, direction: Direction) -> bool;

    /// Asks for an event after it ran dry. `true`: there is something to move.
    fn arm(&self, direction: Direction) -> bool;

    /// Whether it keeps events back during a row of turns, for [`Self::tell`].
    fn keeps_events(&self) -> bool {
        false
    }

    /// Sends the events that it kept back.
    fn tell(&self) {}
}

/// A direction of a job, as it stands in a queue.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) job: Arc<dyn Job>,
    pub(super) direction: Direction,
}

/// Items that may have something to move.
pub(super) type Ready = [Option<Item>; 2];

impl Item {
    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        core::ptr::addr_eq(&raw const *self.job, &raw const *other.job)
            && self.direction == other.direction
    }
}

/// The state of an end's connect.
#[derive(Clone)]
pub(super) enum Outcome {
    /// It has not asked.
    New,
    /// It has asked this tunnel.
    Waiting(Arc<dyn Carrier>),
    /// It has its channel.
    Connected,
    /// There will be none.
    Failed(Errno),
}

/// Told of ends with events. The worker implements it.
pub(super) trait ReadySink: Send + Sync {
    /// Has an end looked at. Called in hard interrupt context, too.
    fn on_ready(self: ArcBorrow<'_, Self>, end: ArcBorrow<'_, EndWaker>);
}

/// An end, and the job that it serves.
pub(super) type Served = (Arc<RelayEnd>, Arc<dyn Job>);

/// The part of an end that its channel's waiter knows: apart from the end, which has the
/// channel, for otherwise both would keep each other for ever.
#[pin_data]
pub(super) struct EndWaker {
    pub(super) sink: Arc<dyn ReadySink>,
    pub(super) node: Node<EndWaker>,
    /// The reasons of its events since it was looked at, as bits.
    pub(super) woken: Atomic<u32>,
    /// Keeps both until [`RelayEnd::close`].
    #[pin]
    pub(super) served: Mutex<Option<Served>>,
}

/// An end of a channel in the kernel, without an open file. [`super::relay_end`] has its
/// acts.
#[pin_data]
pub(super) struct RelayEnd {
    pub(super) waker: Arc<EndWaker>,
    pub(super) channel: SetOnce<Arc<Channel>>,
    #[pin]
    pub(super) outcome: Mutex<Outcome>,
}

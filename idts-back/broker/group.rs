// SPDX-License-Identifier: GPL-2.0

//! Groups: one publisher and many subscribers, in any domains.
//!
//! `idts_core::group` decides which members a group admits, and how it treats a slow subscriber.
//! This file copies the records when the worker gives a group its turn.
//!
//! All of it runs on the worker alone; the locks only prove that to Rust.

use idts_core::group::{
    Backpressure, Delivery, Members, OnLag, RecordCost, Subscriber as Rule, GROUPS_MAX,
};
use idts_core::record::framed;
use idts_core::sched::FlowId;
use idts_core::wire::{ChannelId, Kind, Name, Refusal};
use idts_kernel::channel::splice::{Reading, Stall};
use idts_kernel::channel::{Channel, Stop};
use idts_kernel::link::waiter::WakeReason;
use idts_kernel::sys::clock::clock;
use idts_kernel::tunnel::host::{Carrier, LocalMember};
use idts_kernel::tunnel::payer;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full};
use kernel::sync::{new_mutex, Arc, Mutex};

use super::job::{Direction, Item, Job, Ready, RelayEnd, Resched, RunResult};
use super::policy::Policies;

/// The requester that waits for the answer to its join.
pub(super) enum Asker {
    /// A peer: its tunnel, which is owed an answer, and its rights.
    Peer {
        tunnel: Arc<dyn Carrier>,
        peer: u16,
        id: ChannelId,
        policies: Arc<Policies>,
    },
    /// A program of this domain.
    Local(LocalMember),
}

/// An end that joins a group. It is a job until the end is a member.
pub(super) struct Joining {
    pub(super) groups: Arc<Groups>,
    /// The group's name.
    pub(super) name: Name,
    /// [`Kind::Publish`] or [`Kind::Subscribe`].
    pub(super) kind: Kind,
    /// Options of the group, encoded as in the source port of an OPEN.
    pub(super) options: u32,
    pub(super) asker: Asker,
}

/// A subscriber of a group.
struct Subscriber {
    end: Arc<RelayEnd>,
    rule: Rule,
    /// Set if its peer must be notified of records that it got.
    owed: bool,
}

/// A record that is being delivered to all subscribers of the time when it was taken. A turn may
/// end between two of them.
struct UnderWay {
    len: u32,
    cost: RecordCost,
}

/// State under a group's lock.
struct State {
    members: Members,
    publisher: Option<Arc<RelayEnd>>,
    subscribers: KVec<Subscriber>,
    under_way: Option<UnderWay>,
    /// Bytes of fully delivered records since subscribers were last notified.
    untold: u32,
}

/// A group with at least one member.
#[pin_data]
pub(super) struct Group {
    groups: Arc<Groups>,
    name: Name,
    /// Set while the worker has the group queued.
    queued: Atomic<bool>,
    #[pin]
    state: Mutex<State>,
}

/// All groups.
#[pin_data]
pub(super) struct Groups {
    #[pin]
    list: Mutex<KVec<Arc<Group>>>,
}

impl Groups {
    /// Creates an empty list.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the group with a name, a new one if there is none.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`]: there are too many groups, or no memory.
    fn find(self: &Arc<Self>, name: &Name) -> Result<Arc<Group>, Refusal> {
        let mut list = self.list.lock();
        if let Some(group) = list.iter().find(|g| g.name == *name) {
            return Ok(group.clone());
        }
        if list.len() >= GROUPS_MAX {
            return Err(Refusal::NoSpace);
        }
        let (groups, name) = (self.clone(), *name);
        let group = Arc::pin_init(
            pin_init!(Group {
                groups,
                name,
                queued: Atomic::new(false),
                state <- new_mutex!(State {
                    members: Members::NONE,
                    publisher: None,
                    subscribers: KVec::new(),
                    under_way: None,
                    untold: 0,
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
        .map_err(|_: Error| Refusal::NoSpace)?;
        list.push(group.clone(), GFP_KERNEL)
            .map_err(|_| Refusal::NoSpace)?;
        Ok(group)
    }

    /// Removes empty groups.
    fn sweep(&self) {
        self.list
            .lock()
            .retain(|group| !group.state.lock().members.is_empty());
    }

    /// Removes all groups at module exit.
    pub(super) fn finish(&self) {
        let list = core::mem::take(&mut *self.list.lock());
        drop(list);
    }
}

impl Joining {
    /// Checks again that the requester may join, because the policy may have changed since its
    /// request.
    fn may_join(&self) -> Result<(), Refusal> {
        let may = match &self.asker {
            Asker::Peer { peer, policies, .. } => {
                policies.may_join(*peer, self.kind, self.name.text())
            }
            Asker::Local(_) => true,
        };
        may.then_some(()).ok_or(Refusal::Forbidden)
    }

    /// Adds an end to its group, and answers the requester.
    fn join(&self, end: &Arc<RelayEnd>) -> Option<Arc<Group>> {
        let find = || self.groups.find(&self.name);
        let found = self.may_join().and_then(|()| match &self.asker {
            Asker::Local(member) => payer::charge(member.attempt.payer().map(|p| &**p), find),
            Asker::Peer { .. } => find(),
        });
        let joined = found.and_then(|group| {
            group.add(end, self.kind, self.options)?;
            Ok(group)
        });

        let refusal = joined.as_ref().err().copied();
        match &self.asker {
            Asker::Peer { tunnel, id, .. } => tunnel.as_arc_borrow().answer(*id, refusal),
            Asker::Local(member) => match refusal {
                None => {
                    // An attempt that is over ends as if its program had closed the channel.
                    if !member.attempt.opened(&member.channel) {
                        member.channel.close();
                    }
                }
                Some(why) => member.attempt.refused(why.into()),
            },
        }
        if refusal.is_some() {
            end.close();
        }
        self.groups.sweep();
        joined.ok()
    }
}

impl Job for Joining {
    fn on_event(self: Arc<Self>, end: &Arc<RelayEnd>, why: WakeReason) -> Ready {
        match self.join(end) {
            Some(group) => {
                end.serve(group.clone());
                group.on_event(end, why)
            }
            None => [None, None],
        }
    }

    fn flow(&self, _: Direction) -> Option<FlowId> {
        None
    }

    fn mark_queued(&self, _: Direction) -> bool {
        false
    }

    fn unmark_queued(&self, _: Direction) {}

    fn run(&self, _: Direction, _: u32, _: bool) -> RunResult {
        RunResult::NOTHING
    }

    fn has_news(&self, _: Direction) -> bool {
        false
    }

    fn arm(&self, _: Direction) -> bool {
        false
    }
}

impl Group {
    /// Adds a member.
    ///
    /// # Errors
    /// The reason to refuse it.
    fn add(&self, end: &Arc<RelayEnd>, kind: Kind, options: u32) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        state.members.join(kind, options)?;
        if kind == Kind::Publish {
            state.publisher = Some(end.clone());
            return Ok(());
        }
        let subscriber = Subscriber {
            end: end.clone(),
            rule: Rule::new(OnLag::from_source(options).unwrap_or(OnLag::Drop)),
            owed: false,
        };
        let pushed = state.subscribers.push(subscriber, GFP_KERNEL);
        pushed.map_err(|_| {
            state.members.leave();
            Refusal::NoSpace
        })
    }

    /// Removes the members that have left while nothing was published.
    fn look_after(&self) {
        let mut state = self.state.lock();
        if let Some(publisher) = state.publisher.clone() {
            // This is the last event for a tunnel that is gone.
            if publisher.is_broken() {
                state.end(&publisher);
            }
        }
        for subscriber in state.subscribers.iter_mut() {
            let channel = subscriber.end.channel();
            if channel.is_none_or(|channel| channel.may_write().is_err()) {
                subscriber.rule.end();
            }
        }
        state.drop_gone();
    }

    /// The publisher's end.
    fn publisher(&self) -> Option<Arc<RelayEnd>> {
        self.state.lock().publisher.clone()
    }

    /// Publishes records until that costs `budget`, and notifies the subscribers if no further
    /// turn follows at once.
    fn serve(&self, budget: u32, looks: bool) -> RunResult {
        let mut state = self.state.lock();
        let mut result = RunResult::NOTHING;
        let Some(publisher) = state.publisher.clone() else {
            return result;
        };
        let Some(source) = publisher.channel() else {
            return result;
        };
        loop {
            if result.bytes >= budget {
                result.then = Resched::Now;
                break;
            }
            let left = budget.wrapping_sub(result.bytes);
            match state.publish_next(source, left, looks) {
                Ok(cost) => {
                    result.bytes = result.bytes.saturating_add(cost);
                    continue;
                }
                Err(Held::Held) => result.then = Resched::Held,
                Err(Held::Stall(Stall::Dry)) => result.then = Resched::BusyPoll,
                Err(Held::Stall(Stall::Stop(Stop::Blocked))) => {}
                Err(Held::Stall(Stall::Stop(_))) => state.end(&publisher),
            }
            break;
        }
        if result.then != Resched::Now || state.untold >= budget {
            state.tell();
        }
        state.drop_gone();
        result
    }
}

impl Job for Group {
    fn on_event(self: Arc<Self>, _: &Arc<RelayEnd>, _: WakeReason) -> Ready {
        self.look_after();
        let item = Item {
            job: self,
            direction: Direction::Original,
        };
        [Some(item), None]
    }

    fn flow(&self, _: Direction) -> Option<FlowId> {
        let publisher = self.publisher()?;
        Some(publisher.channel()?.link.throttle()?.flow())
    }

    fn mark_queued(&self, _: Direction) -> bool {
        !self.queued.xchg(true, Full)
    }

    fn unmark_queued(&self, _: Direction) {
        self.queued.xchg(false, Full);
    }

    fn run(&self, _: Direction, budget: u32, looks: bool) -> RunResult {
        let result = self.serve(budget, looks);
        self.groups.sweep();
        result
    }

    fn has_news(&self, _: Direction) -> bool {
        self.publisher().is_some_and(|end| end.has_news())
    }

    fn arm(&self, _: Direction) -> bool {
        self.publisher().is_some_and(|end| end.arm())
    }

    fn keeps_events(&self) -> bool {
        true
    }

    fn tell(&self) {
        self.state.lock().tell();
    }
}

/// The reason why no record was published.
enum Held {
    /// A subscriber blocks the publisher.
    Held,
    /// The publisher's end cannot go on.
    Stall(Stall),
}

impl From<Stall> for Held {
    fn from(stall: Stall) -> Self {
        Self::Stall(stall)
    }
}

impl From<Stop> for Held {
    fn from(stop: Stop) -> Self {
        Self::Stall(stop.into())
    }
}

impl State {
    /// Copies the next record, or the one under way, to the subscribers that have not got it,
    /// until that costs `budget`.
    ///
    /// Returns the cost, or 0 if the caller is to try again. The gate is entered separately for
    /// each subscriber, because its lock may have to be waited for.
    fn publish_next(&mut self, source: &Channel, budget: u32, looks: bool) -> Result<u32, Held> {
        let mut reading = source.read_for_many();
        let mut record = match self.under_way.take() {
            Some(record) => record,
            None => match self.take_record(&mut reading, looks)? {
                Some(record) => record,
                None => return Ok(0),
            },
        };
        let mut cost = 0u32;
        for subscriber in self.subscribers.iter_mut().filter(|s| s.rule.is_due()) {
            if cost >= budget {
                self.under_way = Some(record);
                return Ok(cost);
            }
            let is_copied = subscriber.deliver(&reading, record.len)?;
            cost = cost.saturating_add(record.cost.add(is_copied));
        }
        reading.release(record.len)?;
        let frame = framed(record.len).unwrap_or(record.len);
        self.untold = self.untold.saturating_add(frame);
        Ok(cost.saturating_add(record.cost.rest()))
    }

    /// Takes the next record for all current subscribers. None: the caller tries again.
    fn take_record(
        &mut self,
        reading: &mut Reading<'_>,
        looks: bool,
    ) -> Result<Option<UnderWay>, Held> {
        let Some(len) = reading.next(looks)? else {
            return Ok(None);
        };
        let frame = framed(len).unwrap_or(len);
        if self.is_held(frame) {
            return Err(Held::Held);
        }
        for subscriber in self.subscribers.iter_mut() {
            subscriber.rule.take();
        }
        let cost = RecordCost::new(frame);
        Ok(Some(UnderWay { len, cost }))
    }

    /// Returns whether a subscriber that may block has no room. Arms each of them.
    fn is_held(&mut self, frame: u32) -> bool {
        let may_block = self.members.may_block();
        let mut held = false;
        for subscriber in self.subscribers.iter_mut() {
            if subscriber.rule.can_block(may_block) {
                held |= subscriber.holds(frame);
            }
        }
        held
    }

    /// Ends the publisher, which is the end of the stream for all subscribers.
    fn end(&mut self, publisher: &Arc<RelayEnd>) {
        self.members.end();
        self.publisher = None;
        self.under_way = None;
        publisher.close();
        for subscriber in self.subscribers.iter_mut() {
            subscriber.rule.end();
        }
    }

    /// Notifies all subscribers of the records that they got.
    fn tell(&mut self) {
        self.untold = 0;
        for subscriber in self.subscribers.iter_mut() {
            subscriber.tell();
        }
    }

    /// Removes the subscribers that have ended.
    fn drop_gone(&mut self) {
        let members = &mut self.members;
        self.subscribers.retain(|subscriber| {
            let is_gone = subscriber.rule.is_gone();
            if is_gone {
                members.leave();
                subscriber.end.close();
            }
            !is_gone
        });
    }
}

impl Subscriber {
    /// Returns whether it blocks: it has no room for a record, and its time is not over.
    fn holds(&mut self, frame: u32) -> bool {
        let Some(sink) = self.end.channel() else {
            return false;
        };
        let room = match sink.room(frame) {
            Ok(room) => room,
            // A peer that broke the protocol must not block the group.
            Err(Stop::Broken) => {
                self.rule.end();
                return false;
            }
            Err(_) => return false,
        };
        match self.rule.backpressure(room, clock()) {
            Backpressure::Go => false,
            Backpressure::Disconnect => {
                sink.reset();
                false
            }
            // If there is room by now, the next delivery finds it.
            Backpressure::Wait => match sink.arm_room(frame) {
                Ok(room) => !room,
                Err(_) => {
                    self.rule.end();
                    false
                }
            },
        }
    }

    /// Delivers a record, or applies the subscriber's overflow policy if it has no room. Returns
    /// whether the record was copied.
    ///
    /// # Errors
    /// The source cannot be read any more.
    fn deliver(&mut self, reading: &Reading<'_>, len: u32) -> Result<bool, Stop> {
        let Some(sink) = self.end.channel() else {
            self.rule.end();
            return Ok(false);
        };
        let rule = &mut self.rule;
        match reading.deliver(sink, len, |room| rule.deliver(room))? {
            Some((Delivery::Copy, tell)) => {
                self.owed |= tell;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => {
                self.rule.end();
                Ok(false)
            }
        }
    }

    /// Sends one event for all records since the last event.
    fn tell(&mut self) {
        if core::mem::take(&mut self.owed) {
            if let Some(sink) = self.end.channel() {
                sink.tell_peer();
            }
        }
    }
}

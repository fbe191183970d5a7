// SPDX-License-Identifier: GPL-2.0

//! Groups: one publisher, many subscribers, in any domains.
//!
//! Owns who is in which group and the copying of records to all of them; the
//! back's mover calls it, like relays, and gives it its turns. A slow subscriber
//! never holds the others up, unless the publisher lets it.
//!
//! Everything here runs on the mover's worker alone; the locks say so to Rust.

use idts_core::group::{BLOCK_NS, GROUPS_MAX, SKIP_COST, SUBSCRIBERS_MAX};
use idts_core::record::framed;
use idts_core::ring::set_lag;
use idts_core::uapi;
use idts_core::wire::{ChannelId, Kind, Name, Refusal};
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::{new_mutex, Arc, Mutex};

use crate::channel::{Channel, Rx, Stop};
use crate::endpoint::{Attempt, Endpoint};
use crate::payer;
use crate::relay::{copy_record, Moved, Stall, Then};
use crate::sys::clock::clock;
use crate::tunnel::Tunnel;

/// Who waits to hear whether it is in.
pub(crate) enum Asker {
    /// A front, by the answer that it is owed.
    Front(Arc<Tunnel>, ChannelId),
    /// A program of this domain, and the end that it will get.
    Local(Attempt, Arc<Channel>),
}

/// One leg's part in a group.
pub(crate) struct Member {
    /// The group's name.
    pub(crate) name: Name,
    /// [`Kind::Publish`] or [`Kind::Subscribe`].
    pub(crate) kind: Kind,
    /// `IDTS_GROUP_MAY_BLOCK`, or `IDTS_LAG_*`.
    pub(crate) how: u32,
    /// Who wants to hear.
    pub(crate) asker: Asker,
}

impl Member {
    /// Whether who asked still may be in: what is set may have changed since.
    fn may_join(&self) -> Result<(), Refusal> {
        let may = match &self.asker {
            Asker::Front(tunnel, _) => {
                let policies = &tunnel.hub.policies;
                policies.may_join(tunnel.peer, self.kind, self.name.text())
            }
            Asker::Local(..) => true,
        };
        may.then_some(()).ok_or(Refusal::Forbidden)
    }
}

struct Subscriber {
    leg: Arc<Endpoint>,
    on_lag: u32,
    /// Records missed.
    lag: u32,
    /// Since when it holds the publisher up, 0 if it does not.
    held: u64,
    /// It is to get the record that is under way.
    due: bool,
    /// It is owed an event for records that it got.
    owed: bool,
    gone: bool,
}

/// A record on its way to all who were in when it was taken. A turn may end
/// between two of them.
#[derive(Clone, Copy)]
struct UnderWay {
    len: u32,
    /// Bytes that it has cost so far.
    cost: u32,
}

struct State {
    publisher: Option<Arc<Endpoint>>,
    may_block: bool,
    subscribers: KVec<Subscriber>,
    under_way: Option<UnderWay>,
    /// Bytes of records that all have, since subscribers were last told.
    untold: u32,
}

/// A group with at least one member.
#[pin_data]
pub(crate) struct Group {
    name: Name,
    /// 1 while the mover has it queued.
    pub(crate) queued: Atomic<u32>,
    #[pin]
    state: Mutex<State>,
}

/// All groups.
#[pin_data]
pub(crate) struct Groups {
    #[pin]
    list: Mutex<KVec<Arc<Group>>>,
}

impl Groups {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_mutex!(KVec::new()),
        })
    }

    /// The group of that name, made if need be.
    fn find(&self, name: &Name) -> Result<Arc<Group>, Refusal> {
        let mut list = self.list.lock();
        if let Some(group) = list.iter().find(|g| g.name == *name) {
            return Ok(group.clone());
        }
        if list.len() >= GROUPS_MAX {
            return Err(Refusal::NoSpace);
        }
        let name = *name;
        let group = Arc::pin_init(
            pin_init!(Group {
                name,
                queued: Atomic::new(0),
                state <- new_mutex!(State {
                    publisher: None,
                    may_block: false,
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

    /// Forgets a group that nobody is in.
    fn sweep(&self) {
        self.list.lock().retain(|g| !g.is_empty());
    }

    /// Lets a leg into its group, and tells who asked.
    pub(crate) fn join(&self, leg: &Arc<Endpoint>, member: &Member) -> Option<Arc<Group>> {
        let find = || self.find(&member.name);
        let found = member.may_join().and_then(|()| match &member.asker {
            Asker::Local(attempt, _) => {
                let payer = attempt.endpoint.payer().map(|p| &**p);
                payer::charge(payer, find)
            }
            Asker::Front(..) => find(),
        });
        let joined = found.and_then(|group| group.add(leg, member).map(|()| group));

        let refusal = joined.as_ref().err().copied();
        match &member.asker {
            Asker::Front(tunnel, id) => tunnel.answer(*id, refusal),
            Asker::Local(attempt, channel) => match refusal {
                None => {
                    // A program that has given up leaves as if it had closed.
                    if !attempt.connected(channel) {
                        channel.tunnel.close(channel);
                    }
                }
                Some(why) => attempt.refused(why.into()),
            },
        }
        if refusal.is_some() {
            leg.end_leg();
        }
        self.sweep();
        joined.ok()
    }

    /// Serves a group: copies up to `budget` bytes of its publisher's records, and
    /// the copy that they end in. `looks`: where there are no more they will be
    /// looked for.
    pub(crate) fn run(&self, group: &Group, budget: u32, looks: bool) -> Served {
        let served = group.run(budget, looks);
        self.sweep();
        served
    }
}

/// What came of serving a group.
pub(crate) struct Served {
    pub(crate) moved: Moved,
    /// A subscriber holds the publisher up: look again after this time.
    pub(crate) held: bool,
}

impl Group {
    fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.publisher.is_none() && state.subscribers.is_empty()
    }

    /// The tunnel that the records come from.
    pub(crate) fn sender(&self) -> Option<Arc<Tunnel>> {
        let publisher = self.state.lock().publisher.clone()?;
        Some(publisher.channel().ok()?.tunnel.clone())
    }

    fn add(&self, leg: &Arc<Endpoint>, member: &Member) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if member.kind == Kind::Publish {
            if state.publisher.is_some() {
                return Err(Refusal::InUse);
            }
            state.publisher = Some(leg.clone());
            state.may_block = member.how & uapi::GROUP_MAY_BLOCK != 0;
            return Ok(());
        }
        if state.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(Refusal::NoSpace);
        }
        let subscriber = Subscriber {
            leg: leg.clone(),
            on_lag: member.how,
            lag: 0,
            held: 0,
            due: false,
            owed: false,
            gone: false,
        };
        let pushed = state.subscribers.push(subscriber, GFP_KERNEL);
        pushed.map_err(|_| Refusal::NoSpace)
    }

    /// Looks after members that went away while nothing was published.
    pub(crate) fn look_after(&self) {
        let mut state = self.state.lock();
        if let Some(publisher) = state.publisher.clone() {
            // A tunnel that is gone is not served: this is the last chance.
            if publisher.is_broken() {
                state.end(&publisher);
            }
        }
        for subscriber in state.subscribers.iter_mut() {
            let channel = subscriber.leg.channel();
            subscriber.gone |= channel.map_or(true, |c| c.enter_to_write().is_err());
        }
        state.drop_gone();
    }

    /// Whether there may be something to serve in a group that ran dry.
    pub(crate) fn has_news(&self) -> bool {
        let publisher = self.state.lock().publisher.clone();
        publisher.is_some_and(|leg| leg.leg_has_news())
    }

    /// Asks for an event in a group that ran dry. `true`: there is something.
    pub(crate) fn arm(&self) -> bool {
        let publisher = self.state.lock().publisher.clone();
        publisher.is_some_and(|leg| leg.arm_dry_leg())
    }

    fn run(&self, budget: u32, looks: bool) -> Served {
        let mut state = self.state.lock();
        let mut served = Served {
            moved: Moved {
                bytes: 0,
                then: Then::Wait,
            },
            held: false,
        };
        let Some(publisher) = state.publisher.clone() else {
            return served;
        };
        let Ok(source) = publisher.channel() else {
            return served;
        };
        loop {
            if served.moved.bytes >= budget {
                served.moved.then = Then::More;
                break;
            }
            let left = budget.wrapping_sub(served.moved.bytes);
            match state.publish_next(source, left, looks) {
                Ok(cost) => {
                    served.moved.bytes = served.moved.bytes.saturating_add(cost);
                    continue;
                }
                Err(Stall::Held) => served.held = true,
                Err(Stall::Dry) => served.moved.then = Then::Look,
                Err(Stall::Stop(Stop::Blocked)) => {}
                Err(Stall::Stop(_)) => state.end(&publisher),
            }
            break;
        }
        if !matches!(served.moved.then, Then::More) || state.untold >= budget {
            state.tell();
        }
        state.drop_gone();
        served
    }

    /// Sends subscribers the events that they are owed: after a turn that is not
    /// followed by the group's next one.
    pub(crate) fn tell(&self) {
        self.state.lock().tell();
    }
}

impl State {
    /// Copies the next record, or the one that is under way, to those who have not
    /// got it, until that costs `budget`. What it cost, or 0 to look again. The
    /// gate is entered anew for each of them, whose lock may have to be waited for.
    fn publish_next(&mut self, source: &Channel, budget: u32, looks: bool) -> Result<u32, Stall> {
        let mut rx = source.rx.lock();
        let mut record = match self.under_way {
            Some(record) => record,
            None => match self.take_record(&mut rx, source, looks)? {
                Some(record) => record,
                None => return Ok(0),
            },
        };
        let mut cost = 0u32;
        for subscriber in self.subscribers.iter_mut().filter(|s| s.due) {
            if cost >= budget {
                record.cost = record.cost.saturating_add(cost);
                self.under_way = Some(record);
                return Ok(cost);
            }
            let copied = subscriber.deliver((source, &rx.ring), record.len)?;
            subscriber.due = false;
            let frame = framed(record.len).unwrap_or(record.len);
            let paid = if copied > 0 {
                copied
            } else {
                SKIP_COST.min(frame)
            };
            cost = cost.saturating_add(paid);
        }
        self.under_way = None;
        let live = source.enter_to_read()?;
        let words = source.memory.lines.words(&live);
        let frame = framed(record.len).unwrap_or(record.len);
        let notify = source.release(&mut rx.ring, &words, frame);
        rx.bytes = rx.bytes.wrapping_add(record.len.into());
        source.notify(&live, notify);
        source.tunnel.stats.relayed_in.add(frame.into());
        self.untold = self.untold.saturating_add(frame);
        // At least what it brought, whoever it went to.
        Ok(cost.max(frame.saturating_sub(record.cost)))
    }

    /// Takes the next record, for all who are in now. `None`: look again.
    fn take_record(
        &mut self,
        rx: &mut Rx,
        source: &Channel,
        looks: bool,
    ) -> Result<Option<UnderWay>, Stall> {
        let Some(len) = next_record(rx, source, looks)? else {
            return Ok(None);
        };
        if self.is_held(framed(len).unwrap_or(len)) {
            return Err(Stall::Held);
        }
        for subscriber in self.subscribers.iter_mut() {
            subscriber.due = true;
        }
        Ok(Some(UnderWay { len, cost: 0 }))
    }

    /// Whether a subscriber that may do so has no room.
    fn is_held(&mut self, frame: u32) -> bool {
        if !self.may_block {
            return false;
        }
        let now = clock();
        let mut held = false;
        for subscriber in self.subscribers.iter_mut() {
            if subscriber.on_lag == uapi::LAG_BLOCK && !subscriber.gone {
                held |= subscriber.holds(frame, now);
            }
        }
        held
    }

    /// The publisher ended: the end of the stream for all.
    fn end(&mut self, publisher: &Arc<Endpoint>) {
        self.publisher = None;
        self.under_way = None;
        publisher.end_leg();
        for subscriber in self.subscribers.iter_mut() {
            subscriber.gone = true;
        }
    }

    fn tell(&mut self) {
        self.untold = 0;
        for subscriber in self.subscribers.iter_mut() {
            subscriber.tell();
        }
    }

    fn drop_gone(&mut self) {
        self.subscribers.retain(|subscriber| {
            if subscriber.gone {
                subscriber.leg.end_leg();
            }
            !subscriber.gone
        });
    }
}

/// The length of the record that is next; `None`: look again.
fn next_record(rx: &mut Rx, source: &Channel, looks: bool) -> Result<Option<u32>, Stall> {
    let live = source.enter_to_read()?;
    let words = source.memory.lines.words(&live);
    let Err(stop) = source.refill(&mut rx.ring, &live) else {
        return Ok(Some(source.next_record(&rx.ring, &live)?));
    };
    if !matches!(stop, Stop::Blocked) {
        return Err(stop.into());
    }
    if looks {
        return Err(Stall::Dry);
    }
    source.waiter.read.arm();
    let there = rx.ring.arm(&words, source.lines);
    if !there.map_err(|v| source.broken(v))? {
        source.refill(&mut rx.ring, &live)?;
    }
    Ok(None)
}

impl Subscriber {
    /// Whether it has no room for a record and its time is not over.
    fn holds(&mut self, frame: u32, now: u64) -> bool {
        let Ok(sink) = self.leg.channel() else {
            return false;
        };
        let mut tx = sink.tx.lock();
        let Ok(live) = sink.enter_to_write() else {
            return false;
        };
        let words = sink.memory.lines.words(&live);
        let room = match tx.ring.free(&words, sink.lines) {
            Ok(free) => frame > tx.ring.size() || free >= frame,
            // Whoever lies holds nobody up.
            Err(violation) => {
                sink.broken(violation);
                self.gone = true;
                true
            }
        };
        if room {
            self.held = 0;
            return false;
        }
        if self.held == 0 {
            self.held = now;
        }
        // Two CPUs' clocks may differ a little.
        if now.saturating_sub(self.held) > BLOCK_NS {
            drop(live);
            drop(tx);
            sink.reset();
            self.gone = true;
            return false;
        }
        sink.waiter.write.arm();
        // Not for each record anew. If there is room after all, the look that
        // follows finds it.
        let low = frame.max(tx.ring.size() / 2);
        match tx.ring.arm(&words, sink.lines, low) {
            Ok(room) => !room,
            Err(violation) => {
                sink.broken(violation);
                self.gone = true;
                false
            }
        }
    }

    /// Copies a record to it, or does what it wished for when it has no room. The
    /// bytes that were copied. Fails if the source cannot be read any more.
    fn deliver(&mut self, (source, from): Record<'_>, len: u32) -> Result<u32, Stop> {
        let Ok(sink) = self.leg.channel() else {
            self.gone = true;
            return Ok(0);
        };
        if self.gone {
            return Ok(0);
        }
        let mut tx = sink.tx.lock();
        let live = source.enter_to_read()?;
        let Ok(live_sink) = sink.enter_to_write() else {
            self.gone = true;
            return Ok(0);
        };
        let words = sink.memory.lines.words(&live_sink);
        let frame = framed(len).unwrap_or(len);
        let fits = tx.ring.free_seen() >= frame
            || match tx.ring.free(&words, sink.lines) {
                Ok(free) => free >= frame,
                Err(violation) => {
                    sink.broken(violation);
                    self.gone = true;
                    return Ok(0);
                }
            };
        if fits {
            copy_record((source, from, &live), (sink, &tx.ring, &live_sink), len);
            self.owed |= sink.publish(&mut tx.ring, &words, frame);
            tx.bytes = tx.bytes.wrapping_add(len.into());
            sink.tunnel.stats.relayed_out.add(frame.into());
            return Ok(frame);
        }
        if self.on_lag == uapi::LAG_DISCONNECT {
            drop(live);
            drop(live_sink);
            drop(tx);
            sink.reset();
            self.gone = true;
            return Ok(0);
        }
        self.lag = self.lag.wrapping_add(1);
        set_lag(&words, sink.lines, self.lag);
        Ok(0)
    }

    /// Sends the event that it is owed: one for all records since the last.
    fn tell(&mut self) {
        if !core::mem::take(&mut self.owed) {
            return;
        }
        if let Ok(sink) = self.leg.channel() {
            if let Ok(live) = sink.enter() {
                sink.notify(&live, true);
            }
        }
    }
}

/// Where a record is read from.
type Record<'a> = (&'a Channel, &'a idts_core::ring::Consumer);

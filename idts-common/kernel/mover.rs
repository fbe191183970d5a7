// SPDX-License-Identifier: GPL-2.0

//! The backend's worker: asks the scheduler which domain is served next, and
//! moves its relays' bytes; hands turns to this domain's own programs where a
//! cap makes them wait.
//!
//! Decides nothing: fairness is `idts_core::sched`'s, moving [`crate::relay`]'s.
//! News come from event handlers, without locks, by the inbox.

use core::ptr;

use idts_core::sched::{Claim, FlowId, Params, Pick, Policy, Scheduler};
use kernel::impl_has_hr_timer;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};
use kernel::time::hrtimer::{
    ArcHrTimerHandle, HrTimer, HrTimerCallback, HrTimerCallbackContext, HrTimerPointer,
    HrTimerRestart, RelativeMode,
};
use kernel::time::{Delta, Monotonic};
use kernel::workqueue::{impl_has_work, new_work, Work, WorkItem};

use crate::endpoint::{Leg, Owner};
use crate::groups::Group;
use crate::relay::{Moved, Relay, Then, Way};
use crate::sys::bindings;
use crate::sys::busy_poll::BusyPoll;
use crate::sys::clock::clock;
use crate::sys::wait::Armed;
use crate::sys::work;
use crate::tunnel::Tunnel;

/// Nanoseconds between two looks at a group that a subscriber holds up.
const HOLD: u64 = 100_000_000;
/// The longest that the worker sleeps, in nanoseconds: news wake it anyway.
const SLEEP_MAX: u64 = 10_000_000_000;
/// Jobs that ran dry and are looked at; those beyond are armed at once.
const DRY_MAX: usize = 16;

/// What has, or may have, something to move.
#[derive(Clone)]
enum Job {
    /// One direction of a relay.
    Relay(Arc<Relay>, Way),
    /// A group's publisher.
    Group(Arc<Group>),
}

impl Job {
    /// The tunnel whose domain sends.
    fn sender(&self) -> Option<Arc<Tunnel>> {
        match self {
            Self::Relay(relay, way) => relay.sender(*way),
            Self::Group(group) => group.sender(),
        }
    }

    /// Whether both are the same.
    fn is(&self, other: &Job) -> bool {
        match (self, other) {
            (Self::Relay(a, way), Self::Relay(b, other)) => Arc::ptr_eq(a, b) && way == other,
            (Self::Group(a), Self::Group(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// `false`: it is queued already.
    fn mark_queued(&self) -> bool {
        match self {
            Self::Relay(relay, way) => relay.mark_queued(*way),
            Self::Group(group) => group.queued.xchg(1, Full) == 0,
        }
    }

    /// Moves up to `budget` bytes. `looks`: if it runs dry it is looked at.
    fn run(&self, tunnel: &Tunnel, budget: u32, looks: bool) -> (Moved, bool) {
        match self {
            Self::Relay(relay, way) => (relay.run(*way, budget, looks), false),
            Self::Group(group) => {
                let served = tunnel.hub.groups.run(group, budget, looks);
                (served.moved, served.held)
            }
        }
    }

    /// Whether there may be something to move after it ran dry.
    fn has_news(&self) -> bool {
        match self {
            Self::Relay(relay, way) => relay.has_news(*way),
            Self::Group(group) => group.has_news(),
        }
    }

    /// Asks for an event after it ran dry. `true`: there is something to move.
    fn arm(&self) -> bool {
        match self {
            Self::Relay(relay, way) => relay.arm(*way),
            Self::Group(group) => group.arm(),
        }
    }

    fn unmark_queued(&self) {
        match self {
            Self::Relay(relay, way) => relay.unmark_queued(*way),
            Self::Group(group) => {
                group.queued.xchg(0, Full);
            }
        }
    }
}

/// A tunnel, as the scheduler sees it, and what waits on it.
struct Flow {
    id: FlowId,
    tunnel: Arc<Tunnel>,
    jobs: KVec<Job>,
}

struct Inner {
    sched: KBox<Scheduler>,
    /// By the scheduler's slot.
    flows: KVec<Option<Flow>>,
    /// Groups that a subscriber holds up, and when to look again.
    held: KVec<Arc<Group>>,
    look_at: u64,
}

/// What the worker does next.
enum Turn {
    /// Runs a job on behalf of a tunnel; none: it went away meanwhile.
    Work(FlowId, u32, Option<(Arc<Tunnel>, Job)>),
    /// Wakes a tunnel's programs.
    Grant(Arc<Tunnel>),
    /// Sleeps so many nanoseconds, or, with none, until there is news.
    Sleep(Option<u64>),
}

impl Inner {
    fn flow(&mut self, id: FlowId) -> Option<&mut Flow> {
        let flow = self.flows.get_mut(id.slot())?.as_mut();
        flow.filter(|f| f.id == id)
    }

    /// Keeps a flow at its slot.
    fn keep(&mut self, flow: Flow) -> Result {
        let slot = flow.id.slot();
        while self.flows.len() <= slot {
            self.flows.push(None, GFP_KERNEL)?;
        }
        if let Some(place) = self.flows.get_mut(slot) {
            *place = Some(flow);
        }
        Ok(())
    }

    /// Asks the scheduler.
    fn next(&mut self) -> Turn {
        let now = clock();
        loop {
            return match self.sched.next(now) {
                Pick::Run { flow: id, budget } => {
                    let flow = self.flow(id);
                    let job = flow.and_then(|f| Some((f.tunnel.clone(), f.jobs.remove(0).ok()?)));
                    Turn::Work(id, budget, job)
                }
                Pick::Grant { flow } => match self.flow(flow) {
                    Some(flow) => Turn::Grant(flow.tunnel.clone()),
                    None => continue,
                },
                Pick::WaitUntil(when) => Turn::Sleep(Some(self.until(when, now))),
                Pick::Idle if self.held.is_empty() => Turn::Sleep(None),
                Pick::Idle => Turn::Sleep(Some(self.until(u64::MAX, now))),
            };
        }
    }

    /// Nanoseconds until `when`, or until a look at the groups that are held.
    fn until(&self, when: u64, now: u64) -> u64 {
        let when = match self.held.is_empty() {
            true => when,
            false => when.min(self.look_at),
        };
        when.saturating_sub(now).clamp(1, SLEEP_MAX)
    }

    /// Groups that are to be looked at again now.
    fn due(&mut self) -> Option<KVec<Arc<Group>>> {
        let due = !self.held.is_empty() && clock() >= self.look_at;
        due.then(|| core::mem::take(&mut self.held))
    }

    /// Whether a flow waits for its turn.
    fn is_busy(&self) -> bool {
        self.sched.waiting() > 0
    }
}

/// The worker of a module.
#[pin_data]
pub(crate) struct Mover {
    /// Legs with news: a stack that is pushed and emptied without locks.
    inbox: Atomic<*mut Leg>,
    #[pin]
    work: Work<Mover, 0>,
    #[pin]
    timer: HrTimer<Mover>,
    /// Set while the timer may run.
    #[pin]
    alarm: Mutex<Option<ArcHrTimerHandle<Mover>>>,
    /// Jobs that ran dry a moment ago: no event tells of their news.
    #[pin]
    dry: Mutex<KVec<Job>>,
    /// The group that had the last turn and has more: its subscribers are told of a
    /// row of turns at once.
    #[pin]
    untold: Mutex<Option<Arc<Group>>>,
    busy_poll: BusyPoll,
    /// Set while the worker will look at the inbox again by itself.
    awake: Atomic<u32>,
    /// Armed while it halts in place, and the CPU that it halts.
    halted: Armed,
    cpu: Atomic<u32>,
    #[pin]
    inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Mover, 0> for Mover { self.work }
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Mover { mode: RelativeMode<Monotonic>, field: self.timer }
}

impl Mover {
    /// A mover with nothing to move.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let sched = work::zeroed::<Scheduler>()?;
        Arc::pin_init(
            pin_init!(Self {
                inbox: Atomic::new(ptr::null_mut()),
                work <- new_work!("idts_mover"),
                timer <- HrTimer::new(),
                alarm <- new_mutex!(None),
                dry <- new_mutex!(KVec::new()),
                untold <- new_mutex!(None),
                busy_poll: BusyPoll::new(),
                awake: Atomic::new(0),
                halted: Armed::new(),
                cpu: Atomic::new(0),
                inner <- new_mutex!(Inner {
                    sched,
                    flows: KVec::new(),
                    held: KVec::new(),
                    look_at: 0,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes the worker look. May be called from hard interrupt context.
    pub(crate) fn kick(self: &Arc<Self>) {
        // Already queued is fine: the worker looks at everything.
        let _ = crate::sys::work::queue().enqueue::<_, 0>(self.clone());
        // What it halts in place for is not all that it looks at when called.
        self.rouse();
    }

    /// Ends a halt in place.
    fn rouse(&self) {
        if self.halted.disarm() {
            // SAFETY: Any context; a CPU that is there, online or not: the
            // worker ran on it.
            unsafe { bindings::idts_kick_cpu(self.cpu.load(Relaxed)) };
        }
    }

    /// Puts a leg into the inbox. May be called from hard interrupt context.
    pub(crate) fn news(self: &Arc<Self>, leg: ArcBorrow<'_, Leg>) {
        if leg.queued.xchg(1, Full) == 1 {
            return;
        }
        let leg = Arc::into_raw(Arc::from(leg)).cast_mut();
        let mut head = self.inbox.load(Relaxed);
        loop {
            // SAFETY: Ours until it is taken out: `queued` lets nobody else here.
            unsafe { (*leg).next.store(head, Relaxed) };
            match self.inbox.cmpxchg(head, leg, Full) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // After the push, which is fully ordered: see `WorkItem::run`.
        match self.awake.load(Relaxed) {
            0 => self.kick(),
            _ => self.rouse(),
        }
    }

    /// Takes all legs with news and queues what they may have to move.
    fn take_news(self: &Arc<Self>) {
        if self.inbox.load(Relaxed).is_null() {
            return;
        }
        let mut leg = self.inbox.xchg(ptr::null_mut(), Full);
        while !leg.is_null() {
            // SAFETY: Made by `Arc::into_raw` in `news`, taken out once.
            let this = unsafe { Arc::from_raw(leg.cast_const()) };
            leg = this.next.load(Relaxed);
            // From here on it may be put in again, for newer news.
            this.queued.xchg(0, Full);
            self.look_after(&this);
        }
    }

    /// Sees what a leg's news mean for what it belongs to.
    fn look_after(self: &Arc<Self>, leg: &Leg) {
        match leg.owner() {
            Some(Owner::Relay(relay)) => {
                if relay.step() {
                    self.queue(Job::Relay(relay.clone(), Way::Forth));
                    self.queue(Job::Relay(relay, Way::Back));
                }
            }
            Some(Owner::Joining(end, member)) => {
                if let Some(group) = end.groups().join(&end, &member) {
                    leg.belongs_to(Owner::Group(group.clone()));
                    self.look_after_group(&group);
                }
            }
            Some(Owner::Group(group)) => self.look_after_group(&group),
            None => {}
        }
    }

    fn look_after_group(self: &Arc<Self>, group: &Arc<Group>) {
        group.look_after();
        self.queue(Job::Group(group.clone()));
    }

    /// Queues a job, unless it is queued.
    fn queue(&self, job: Job) {
        let Some(id) = job.sender().and_then(|t| t.flow()) else {
            return;
        };
        if !job.mark_queued() {
            return;
        }
        let spare = job.clone();
        let mut inner = self.inner.lock();
        let queued = match inner.flow(id) {
            Some(flow) => flow.jobs.push(job, GFP_KERNEL).is_ok(),
            None => false,
        };
        if queued {
            inner.sched.wake(id, clock());
        } else {
            spare.unmark_queued();
        }
    }

    /// Moves what a job has, and queues it again if there is more.
    fn run_job(self: &Arc<Self>, tunnel: &Arc<Tunnel>, job: Job, budget: u32) -> u32 {
        job.unmark_queued();
        let looks = self.busy_poll.may_spin() && self.dry.lock().len() < DRY_MAX;
        let (moved, held) = job.run(tunnel, budget, looks);
        match (moved.then, &job) {
            (Then::More, _) => {
                if let Job::Group(group) = &job {
                    *self.untold.lock() = Some(group.clone());
                }
                self.queue(job);
            }
            (Then::Look, _) => self.keep_dry(job),
            (Then::Wait, Job::Group(group)) if held => self.hold(group.clone()),
            (Then::Wait, _) => {}
        }
        moved.bytes
    }

    /// Keeps a job that is not armed, to look at it.
    fn keep_dry(&self, job: Job) {
        if self.dry.lock().iter().any(|dry| dry.is(&job)) {
            return;
        }
        let spare = job.clone();
        if self.dry.lock().push(job, GFP_KERNEL).is_err() && spare.arm() {
            self.queue(spare);
        }
    }

    /// Queues the dry jobs that have something to move, or may have. `true`: there
    /// were some.
    fn take_wet(&self, is_wet: impl Fn(&Job) -> bool) -> bool {
        let mut found = false;
        self.dry.lock().retain(|job| {
            let wet = is_wet(job);
            if wet {
                self.queue(job.clone());
                found = true;
            }
            !wet
        });
        found
    }

    /// Looks for news for a while; then the dry jobs are to tell of theirs.
    /// `true`: there are some, or may be.
    fn linger(&self) -> bool {
        if self.dry.lock().is_empty() {
            return false;
        }
        let news = || !self.inbox.load(Relaxed).is_null() || self.take_wet(Job::has_news);
        if self.busy_poll.spin(news) {
            return true;
        }
        let found = self.take_wet(Job::arm);
        // Whoever was armed is not looked at any more.
        self.dry.lock().truncate(0);
        found
    }

    /// Halts in place until the next interrupt. `true`: there are news.
    fn halt(&self) -> bool {
        if !self.busy_poll.may_halt() {
            return false;
        }
        // SAFETY: No requirements. It may be another one by the time it halts, and
        // then it does not.
        let cpu = unsafe { bindings::idts_this_cpu() };
        self.cpu.store(cpu, Relaxed);
        // Full: whoever puts a leg in after this look sees it armed.
        let seen = self.halted.seen();
        self.halted.arm();
        if self.inbox.load(Relaxed).is_null() && self.halted.halt(seen, cpu) {
            return true;
        }
        !self.halted.disarm() || !self.inbox.load(Relaxed).is_null()
    }

    /// Looks at a group again in a while, for a subscriber holds it up.
    fn hold(&self, group: Arc<Group>) {
        let mut inner = self.inner.lock();
        if inner.held.is_empty() {
            inner.look_at = clock().saturating_add(HOLD);
        }
        // Without memory its subscriber's next read is what it waits for.
        let _ = inner.held.push(group, GFP_KERNEL);
    }

    /// Has the worker look again in so many nanoseconds.
    fn wake_in(self: &Arc<Self>, ns: u64) {
        let mut alarm = self.alarm.lock();
        // The old one first: giving it up cancels the timer.
        *alarm = None;
        *alarm = Some(self.clone().start(Delta::from_nanos(ns as i64)));
    }

    /// Has the subscribers of the group that had the last turn told of it, unless it
    /// has the next one, too.
    fn tell_unless_next(&self, turn: &Turn) {
        let Some(group) = self.untold.lock().take() else {
            return;
        };
        match turn {
            Turn::Work(_, _, Some((_, Job::Group(next)))) if Arc::ptr_eq(next, &group) => {}
            _ => group.tell(),
        }
    }

    /// One round; `false`: there is nothing to do now.
    fn round(self: &Arc<Self>) -> bool {
        self.take_news();
        let turn = {
            let mut inner = self.inner.lock();
            if let Some(groups) = inner.due() {
                drop(inner);
                for group in groups {
                    self.queue(Job::Group(group));
                }
                return true;
            }
            inner.next()
        };
        self.tell_unless_next(&turn);
        match turn {
            Turn::Work(id, budget, job) => {
                let used = job.map_or(0, |(tunnel, job)| self.run_job(&tunnel, job, budget));
                let mut inner = self.inner.lock();
                let more = inner.flow(id).is_some_and(|f| !f.jobs.is_empty());
                inner.sched.done(id, used, more, clock());
                let busy = inner.is_busy();
                drop(inner);
                // Nobody is kept waiting by those who are busy.
                if busy {
                    self.take_wet(Job::has_news);
                }
            }
            Turn::Grant(tunnel) => tunnel.grant_turn(),
            Turn::Sleep(Some(ns)) => {
                self.wake_in(ns);
                return false;
            }
            Turn::Sleep(None) => return false,
        }
        true
    }

    // --- Flows ---

    /// Adds a tunnel's flow.
    pub(crate) fn join(&self, tunnel: &Arc<Tunnel>, params: Params) -> Result<FlowId> {
        let mut inner = self.inner.lock();
        let id = inner.sched.add_flow(params, clock()).ok_or(ENOSPC)?;
        let flow = Flow {
            id,
            tunnel: tunnel.clone(),
            jobs: KVec::new(),
        };
        inner
            .keep(flow)
            .inspect_err(|_| inner.sched.remove_flow(id))
            .map(|()| id)
    }

    /// Takes a tunnel's flow out, with all that waits on it.
    pub(crate) fn leave(&self, id: FlowId) {
        let mut inner = self.inner.lock();
        inner.sched.remove_flow(id);
        let place = inner.flows.get_mut(id.slot());
        let flow = place.and_then(|place| place.take_if(|f| f.id == id));
        drop(inner);
        if let Some(flow) = flow {
            for job in flow.jobs {
                job.unmark_queued();
            }
            flow.tunnel.grant_turn();
        }
    }

    /// Changes what is set for a flow.
    pub(crate) fn set(self: &Arc<Self>, id: FlowId, params: Params) {
        self.inner.lock().sched.set(id, params, clock());
        self.kick();
    }

    /// Changes policy and total cap.
    pub(crate) fn set_policy(self: &Arc<Self>, policy: Policy, rate: u64) {
        {
            let mut inner = self.inner.lock();
            inner.sched.set_policy(policy);
            inner.sched.set_total_rate(rate, clock());
        }
        self.kick();
    }

    /// Whether this domain's programs must claim what they move on a flow.
    pub(crate) fn is_capped(&self, id: FlowId) -> bool {
        self.inner.lock().sched.is_capped(id)
    }

    /// A program wants to move `want` bytes.
    pub(crate) fn claim(self: &Arc<Self>, id: FlowId, want: u32) -> Claim {
        let claim = self.inner.lock().sched.claim(id, want, clock());
        if matches!(claim, Claim::Queued) {
            self.kick();
        }
        claim
    }

    /// Whether a program's claim would be granted now. If not, its flow waits.
    pub(crate) fn may_claim(self: &Arc<Self>, id: FlowId) -> bool {
        let may = self.inner.lock().sched.may_claim(id, clock());
        if !may {
            self.kick();
        }
        may
    }

    /// A program that claimed so many bytes moved so many.
    pub(crate) fn settle(&self, id: FlowId, claimed: u32, used: u32) {
        let (unused, extra) = (claimed.saturating_sub(used), used.saturating_sub(claimed));
        if unused > 0 {
            self.inner.lock().sched.refund(id, unused);
        }
        if extra > 0 {
            self.inner.lock().sched.charge(id, extra, clock());
        }
    }

    /// Runs `f` on the scheduler, to look at it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Scheduler) -> R) -> R {
        f(&self.inner.lock().sched)
    }

    /// Finishes all work, at module exit, when no tunnel is left.
    pub(crate) fn finish(self: &Arc<Self>) {
        self.inner.lock().held = KVec::new();
        // It takes the legs out of its inbox, which owns them.
        work::flush(&self.work);
        // It starts the timer, which then starts nothing any more.
        work::disable::<_, 0>(self);
        *self.alarm.lock() = None;
    }
}

impl WorkItem<0> for Mover {
    type Pointer = Arc<Mover>;

    fn run(this: Arc<Mover>) {
        this.busy_poll.idle_end();
        loop {
            this.awake.store(1, Relaxed);
            while this.round() || this.linger() || this.halt() {
                // SAFETY: A worker may sleep, and nothing is held.
                unsafe { bindings::idts_cond_resched() };
            }
            // Full: whoever puts a leg in after this look finds it asleep.
            this.awake.xchg(0, Full);
            if this.inbox.load(Relaxed).is_null() {
                break;
            }
        }
        this.busy_poll.idle_begin();
    }
}

impl HrTimerCallback for Mover {
    type Pointer<'a> = Arc<Mover>;

    fn run(this: ArcBorrow<'_, Mover>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        Arc::from(this).kick();
        HrTimerRestart::NoRestart
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The broker's worker: asks the scheduler which domain is served next, and runs its jobs;
//! hands turns to this domain's own programs where a cap makes them wait.
//!
//! Decides nothing: fairness is `idts_core::sched`'s, moving the jobs'. Events come from
//! their handlers, without locks, by the list of ends that are ready.

use idts_core::sched::{Claim, FlowId, FlowStats, Params, Pick, Policy, Scheduler};
use idts_kernel::link::Link;
use idts_kernel::sys::busy_poll::BusyPoll;
use idts_kernel::sys::clock::clock;
use idts_kernel::sys::cpu;
use idts_kernel::sys::ready_list::ReadyList;
use idts_kernel::sys::wait::Armed;
use idts_kernel::sys::work;
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

use super::job::{EndWaker, Item, ReadySink, Resched};
use super::throttle::{Claims, FlowThrottle};

/// Nanoseconds between two looks at a group that a subscriber holds up.
const HOLD: u64 = 100_000_000;
/// The longest that the worker sleeps, in nanoseconds: news wake it anyway.
const SLEEP_MAX: u64 = 10_000_000_000;
/// Jobs that ran dry and are looked at; those beyond are armed at once.
const DRY_MAX: usize = 16;

/// A link, as the scheduler sees it, and the jobs that wait on it.
struct Flow {
    id: FlowId,
    link: Arc<Link>,
    throttle: Arc<FlowThrottle>,
    jobs: KVec<Item>,
}

struct Inner {
    sched: KBox<Scheduler>,
    /// By the scheduler's slot.
    flows: KVec<Option<Flow>>,
    /// Groups that a subscriber holds up, and when to look again.
    held: KVec<Item>,
    look_at: u64,
}

/// What the worker does next.
enum Turn {
    /// Runs a job on behalf of a flow; none: it went away meanwhile.
    Work(FlowId, u32, Option<Item>),
    /// Wakes this domain's programs on a link.
    Grant(Arc<FlowThrottle>, Arc<Link>),
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
                    let job = flow.and_then(|f| f.jobs.remove(0).ok());
                    Turn::Work(id, budget, job)
                }
                Pick::Grant { flow } => match self.flow(flow) {
                    Some(flow) => Turn::Grant(flow.throttle.clone(), flow.link.clone()),
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

    /// Groups that are held up and to be looked at again now.
    fn due(&mut self) -> Option<KVec<Item>> {
        let due = !self.held.is_empty() && clock() >= self.look_at;
        due.then(|| core::mem::take(&mut self.held))
    }

    /// Whether a flow waits for its turn.
    fn is_busy(&self) -> bool {
        self.sched.waiting() > 0
    }
}

/// The worker.
#[pin_data]
pub(super) struct Worker {
    /// Ends with events.
    ready: ReadyList<EndWaker>,
    #[pin]
    work: Work<Worker, 0>,
    #[pin]
    timer: HrTimer<Worker>,
    /// Set while the timer may run.
    #[pin]
    alarm: Mutex<Option<ArcHrTimerHandle<Worker>>>,
    /// Jobs that ran dry a moment ago: no event tells of their news.
    #[pin]
    dry: Mutex<KVec<Item>>,
    /// The job that had the last turn and has more, if it keeps events back: it sends those
    /// of a row of turns at once.
    #[pin]
    untold: Mutex<Option<Item>>,
    busy_poll: BusyPoll,
    /// Set while the worker will look at the list of ends again by itself.
    awake: Atomic<u32>,
    /// Armed while it halts in place, and the CPU that it halts.
    halted: Armed,
    cpu: Atomic<u32>,
    #[pin]
    inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Worker, 0> for Worker { self.work }
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Worker { mode: RelativeMode<Monotonic>, field: self.timer }
}

impl Worker {
    /// A worker with nothing to do.
    pub(super) fn new() -> Result<Arc<Self>> {
        let sched = work::zeroed::<Scheduler>()?;
        Arc::pin_init(
            pin_init!(Self {
                ready: ReadyList::new(),
                work <- new_work!("idts_worker"),
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
    pub(super) fn kick(self: &Arc<Self>) {
        // Already queued is fine: the worker looks at everything.
        let _ = work::queue().enqueue::<_, 0>(self.clone());
        // What it halts in place for is not all that it looks at when called.
        self.rouse();
    }

    /// Ends a halt in place.
    fn rouse(&self) {
        if self.halted.disarm() {
            cpu::kick(self.cpu.load(Relaxed));
        }
    }

    /// Looks at all ends with events, and queues the jobs that may have something to move.
    fn take_ready(self: &Arc<Self>) {
        self.ready.take(|waker| {
            let why = waker.take_woken();
            let Some((end, job)) = waker.served() else {
                return;
            };
            for item in job.on_event(&end, why).into_iter().flatten() {
                self.queue(item);
            }
        });
    }

    /// Queues a job, unless it is queued.
    fn queue(&self, item: Item) {
        let Some(id) = item.job.flow(item.direction) else {
            return;
        };
        if !item.job.mark_queued(item.direction) {
            return;
        }
        let spare = item.clone();
        let mut inner = self.inner.lock();
        let queued = match inner.flow(id) {
            Some(flow) => flow.jobs.push(item, GFP_KERNEL).is_ok(),
            None => false,
        };
        if queued {
            inner.sched.wake(id, clock());
        } else {
            spare.job.unmark_queued(spare.direction);
        }
    }

    /// Runs a job, and queues it again if there is more. Returns the bytes that it moved.
    fn run_job(self: &Arc<Self>, item: Item, budget: u32) -> u32 {
        let Item { job, direction } = &item;
        job.unmark_queued(*direction);
        let looks = self.busy_poll.may_spin() && self.dry.lock().len() < DRY_MAX;
        let result = job.run(*direction, budget, looks);
        match result.then {
            Resched::Now => {
                if job.keeps_events() {
                    *self.untold.lock() = Some(item.clone());
                }
                self.queue(item);
            }
            Resched::BusyPoll => self.keep_dry(item),
            Resched::Held => self.hold(item),
            Resched::OnEvent => {}
        }
        result.bytes
    }

    /// Keeps a job that is not armed, to look at it.
    fn keep_dry(&self, item: Item) {
        if self.dry.lock().iter().any(|dry| dry.is(&item)) {
            return;
        }
        let spare = item.clone();
        let kept = self.dry.lock().push(item, GFP_KERNEL);
        if kept.is_err() && spare.job.arm(spare.direction) {
            self.queue(spare);
        }
    }

    /// Queues the dry jobs that have something to move, or may have. `true`: there
    /// were some.
    fn take_wet(&self, is_wet: impl Fn(&Item) -> bool) -> bool {
        let mut found = false;
        self.dry.lock().retain(|item| {
            let wet = is_wet(item);
            if wet {
                self.queue(item.clone());
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
        let news = || !self.ready.is_empty() || self.take_wet(has_news);
        if self.busy_poll.spin(news) {
            return true;
        }
        let found = self.take_wet(|item| item.job.arm(item.direction));
        // Whoever was armed is not looked at any more.
        self.dry.lock().truncate(0);
        found
    }

    /// Halts in place until the next interrupt. `true`: there are news.
    fn halt(&self) -> bool {
        if !self.busy_poll.may_halt() {
            return false;
        }
        // It may be another one by the time it halts, and then it does not.
        let cpu = cpu::this();
        self.cpu.store(cpu, Relaxed);
        // Full: whoever puts an end in after this look sees it armed.
        let seen = self.halted.seen();
        self.halted.arm();
        if self.ready.is_empty() && self.halted.halt(seen, cpu) {
            return true;
        }
        !self.halted.disarm() || !self.ready.is_empty()
    }

    /// Looks at a job again in a while, for a subscriber holds it up.
    fn hold(&self, item: Item) {
        let mut inner = self.inner.lock();
        if inner.held.is_empty() {
            inner.look_at = clock().saturating_add(HOLD);
        }
        // Without memory its subscriber's next read is what it waits for.
        let _ = inner.held.push(item, GFP_KERNEL);
    }

    /// Has the worker look again in so many nanoseconds.
    fn wake_in(self: &Arc<Self>, ns: u64) {
        let mut alarm = self.alarm.lock();
        // The old one first: giving it up cancels the timer.
        *alarm = None;
        *alarm = Some(self.clone().start(Delta::from_nanos(ns as i64)));
    }

    /// Has the job that had the last turn send the events that it kept back, unless it
    /// has the next one, too.
    fn tell_unless_next(&self, turn: &Turn) {
        let Some(item) = self.untold.lock().take() else {
            return;
        };
        match turn {
            Turn::Work(_, _, Some(next)) if next.is(&item) => {}
            _ => item.job.tell(),
        }
    }

    /// One round; `false`: there is nothing to do now.
    fn round(self: &Arc<Self>) -> bool {
        self.take_ready();
        let turn = {
            let mut inner = self.inner.lock();
            if let Some(items) = inner.due() {
                drop(inner);
                for item in items {
                    self.queue(item);
                }
                return true;
            }
            inner.next()
        };
        self.tell_unless_next(&turn);
        match turn {
            Turn::Work(id, budget, job) => {
                let used = job.map_or(0, |item| self.run_job(item, budget));
                let mut inner = self.inner.lock();
                let more = inner.flow(id).is_some_and(|f| !f.jobs.is_empty());
                inner.sched.done(id, used, more, clock());
                let busy = inner.is_busy();
                drop(inner);
                // Nobody is kept waiting by those who are busy.
                if busy {
                    self.take_wet(has_news);
                }
            }
            Turn::Grant(throttle, link) => throttle.grant(&link),
            Turn::Sleep(Some(ns)) => {
                self.wake_in(ns);
                return false;
            }
            Turn::Sleep(None) => return false,
        }
        true
    }

    // --- Flows ---

    /// Adds the flow of a link. Returns its throttle.
    ///
    /// # Errors
    /// `ENOSPC`: there is no place for one more.
    pub(super) fn join(
        self: &Arc<Self>,
        link: &Arc<Link>,
        params: Params,
    ) -> Result<Arc<FlowThrottle>> {
        let mut inner = self.inner.lock();
        let id = inner.sched.add_flow(params, clock()).ok_or(ENOSPC)?;
        let kept = FlowThrottle::new(self.clone(), id).and_then(|throttle| {
            inner.keep(Flow {
                id,
                link: link.clone(),
                throttle: throttle.clone(),
                jobs: KVec::new(),
            })?;
            Ok(throttle)
        });
        kept.inspect_err(|_| inner.sched.remove_flow(id))
    }

    /// Takes a flow out, with all that waits on it.
    pub(super) fn leave(&self, id: FlowId) {
        let mut inner = self.inner.lock();
        inner.sched.remove_flow(id);
        let place = inner.flows.get_mut(id.slot());
        let flow = place.and_then(|place| place.take_if(|f| f.id == id));
        drop(inner);
        if let Some(flow) = flow {
            for item in flow.jobs {
                item.job.unmark_queued(item.direction);
            }
            flow.throttle.grant(&flow.link);
        }
    }

    /// Changes what is set for a flow.
    pub(super) fn set(self: &Arc<Self>, id: FlowId, params: Params) {
        self.inner.lock().sched.set(id, params, clock());
        self.kick();
    }

    /// Changes policy and total cap.
    pub(super) fn set_policy(self: &Arc<Self>, policy: Policy, rate: u64) {
        {
            let mut inner = self.inner.lock();
            inner.sched.set_policy(policy);
            inner.sched.set_total_rate(rate, clock());
        }
        self.kick();
    }

    /// Whether this domain's programs must claim what they move on a flow.
    pub(super) fn is_capped(&self, id: FlowId) -> bool {
        self.inner.lock().sched.is_capped(id)
    }

    /// Runs `f` on the scheduler, to look at it.
    pub(super) fn with<R>(&self, f: impl FnOnce(&Scheduler) -> R) -> R {
        f(&self.inner.lock().sched)
    }

    /// Finishes all work, at module exit, when no tunnel is left.
    pub(super) fn finish(self: &Arc<Self>) {
        self.inner.lock().held = KVec::new();
        // It takes the ends out of its list, which owns them.
        work::flush(&self.work);
        // It starts the timer, which then starts nothing any more.
        work::disable::<_, 0>(self);
        *self.alarm.lock() = None;
    }
}

impl Claims for Worker {
    fn claim(self: ArcBorrow<'_, Self>, flow: FlowId, want: u32) -> Claim {
        let claim = self.inner.lock().sched.claim(flow, want, clock());
        if matches!(claim, Claim::Queued) {
            Arc::from(self).kick();
        }
        claim
    }

    fn may_claim(self: ArcBorrow<'_, Self>, flow: FlowId) -> bool {
        let may = self.inner.lock().sched.may_claim(flow, clock());
        if !may {
            Arc::from(self).kick();
        }
        may
    }

    fn settle(&self, flow: FlowId, claimed: u32, used: u32) {
        let (unused, extra) = (claimed.saturating_sub(used), used.saturating_sub(claimed));
        if unused > 0 {
            self.inner.lock().sched.refund(flow, unused);
        }
        if extra > 0 {
            self.inner.lock().sched.charge(flow, extra, clock());
        }
    }

    fn stats(&self, flow: FlowId) -> Option<FlowStats> {
        self.with(|sched| sched.stats(flow, clock()))
    }
}

impl ReadySink for Worker {
    fn on_ready(self: ArcBorrow<'_, Self>, end: ArcBorrow<'_, EndWaker>) {
        if !self.ready.push(end) {
            return;
        }
        // After the push, which is fully ordered: see `WorkItem::run`.
        match self.awake.load(Relaxed) {
            0 => Arc::from(self).kick(),
            _ => self.rouse(),
        }
    }
}

impl WorkItem<0> for Worker {
    type Pointer = Arc<Worker>;

    fn run(this: Arc<Worker>) {
        this.busy_poll.idle_end();
        loop {
            this.awake.store(1, Relaxed);
            while this.round() || this.linger() || this.halt() {
                cpu::yield_if_wanted();
            }
            // Full: whoever puts an end in after this look finds it asleep.
            this.awake.xchg(0, Full);
            if this.ready.is_empty() {
                break;
            }
        }
        this.busy_poll.idle_begin();
    }
}

impl HrTimerCallback for Worker {
    type Pointer<'a> = Arc<Worker>;

    fn run(this: ArcBorrow<'_, Worker>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        Arc::from(this).kick();
        HrTimerRestart::NoRestart
    }
}

/// Whether a job that ran dry may have something to move.
fn has_news(item: &Item) -> bool {
    item.job.has_news(item.direction)
}

// SPDX-License-Identifier: GPL-2.0

//! The broker's worker: asks the scheduler for the next flow and runs its jobs; gives turns to
//! this domain's own programs while a cap makes them wait.
//!
//! It decides nothing: `idts_core::sched` is responsible for fairness, the jobs for moving data.
//! Event handlers pass ends with events without locks, by a ready list.

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

/// Nanoseconds between two attempts of a group that a subscriber blocks.
const HOLD: u64 = 100_000_000;
/// The longest sleep of the worker, in nanoseconds. Events wake it in any case.
const SLEEP_MAX: u64 = 10_000_000_000;
/// Most jobs with an empty source that are busy-polled; further ones are armed at once.
const DRY_MAX: usize = 16;

/// A flow of the scheduler: a link, its throttle, and the jobs that wait on it.
struct Flow {
    id: FlowId,
    link: Arc<Link>,
    throttle: Arc<FlowThrottle>,
    jobs: KVec<Item>,
}

/// State under the worker's lock.
struct Inner {
    sched: KBox<Scheduler>,
    /// The flows, by the scheduler's slot.
    flows: KVec<Option<Flow>>,
    /// The groups that a subscriber blocks, and the time of the next attempt.
    held: KVec<Item>,
    look_at: u64,
}

/// The worker's next step.
enum Next {
    /// Runs a job on behalf of a flow. None: the job is gone.
    Work(FlowId, u32, Option<Item>),
    /// Wakes this domain's programs on a link.
    Grant(Arc<FlowThrottle>, Arc<Link>),
    /// Sleeps for so many nanoseconds, or, with none, until an event.
    Sleep(Option<u64>),
}

impl Inner {
    /// Returns a flow, if it still exists.
    fn flow(&mut self, id: FlowId) -> Option<&mut Flow> {
        let flow = self.flows.get_mut(id.slot())?.as_mut();
        flow.filter(|f| f.id == id)
    }

    /// Stores a flow at its slot.
    ///
    /// # Errors
    /// `ENOMEM`.
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

    /// Asks the scheduler for the next step.
    fn next(&mut self) -> Next {
        let now = clock();
        loop {
            return match self.sched.next(now) {
                Pick::Run { flow: id, budget } => {
                    let flow = self.flow(id);
                    let job = flow.and_then(|f| f.jobs.remove(0).ok());
                    Next::Work(id, budget, job)
                }
                Pick::Grant { flow } => match self.flow(flow) {
                    Some(flow) => Next::Grant(flow.throttle.clone(), flow.link.clone()),
                    None => continue,
                },
                Pick::WaitUntil(when) => Next::Sleep(Some(self.until(when, now))),
                Pick::Idle if self.held.is_empty() => Next::Sleep(None),
                Pick::Idle => Next::Sleep(Some(self.until(u64::MAX, now))),
            };
        }
    }

    /// Nanoseconds until `when`, or until the next attempt of blocked groups if that is earlier.
    fn until(&self, when: u64, now: u64) -> u64 {
        let when = match self.held.is_empty() {
            true => when,
            false => when.min(self.look_at),
        };
        when.saturating_sub(now).clamp(1, SLEEP_MAX)
    }

    /// Keeps a job, to look at it in a while.
    fn hold(&mut self, item: Item) {
        if self.held.is_empty() {
            self.look_at = clock().saturating_add(HOLD);
        }
        // Without memory its subscriber's next read is what it waits for.
        let _ = self.held.push(item, GFP_KERNEL);
    }

    /// Jobs that are held up and to be looked at again now.
    fn due(&mut self) -> Option<KVec<Item>> {
        let due = !self.held.is_empty() && clock() >= self.look_at;
        due.then(|| core::mem::take(&mut self.held))
    }

    /// Returns whether a flow waits for its turn.
    fn is_busy(&self) -> bool {
        self.sched.waiting() > 0
    }
}

/// The worker of the module.
#[pin_data]
pub(super) struct Worker {
    /// The relay ends with events.
    ready: ReadyList<EndWaker>,
    #[pin]
    work: Work<Worker, 0>,
    #[pin]
    timer: HrTimer<Worker>,
    /// The timer's handle; dropping it cancels the timer.
    #[pin]
    alarm: Mutex<Option<ArcHrTimerHandle<Worker>>>,
    /// Jobs with an empty source that is not armed, so they are busy-polled.
    #[pin]
    dry: Mutex<KVec<Item>>,
    /// The job that had the last turn and holds events back. It sends those of consecutive turns
    /// at once.
    #[pin]
    untold: Mutex<Option<Item>>,
    busy_poll: BusyPoll,
    /// Set while the worker is running and checks the ready list again before it sleeps.
    awake: Atomic<u32>,
    /// Armed while the worker halts in place, and the CPU that it halts.
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
    /// Creates an idle worker.
    ///
    /// # Errors
    /// `ENOMEM`.
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

    /// Wakes the worker. Callable in hard interrupt context.
    pub(super) fn kick(self: &Arc<Self>) {
        // A worker that is already queued finds everything.
        let _ = work::queue().enqueue::<_, 0>(self.clone());
        // The halt condition covers only the ready list; other work needs this kick.
        self.rouse();
    }

    /// Ends the worker's halt in place.
    fn rouse(&self) {
        if self.halted.disarm() {
            cpu::kick(self.cpu.load(Relaxed));
        }
    }

    /// Handles the events of all ends in the ready list, and queues the jobs that may have data
    /// to move.
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

    /// Queues a job on its flow, unless it is queued.
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
            Some(flow) => Some(flow.jobs.push(item, GFP_KERNEL).is_ok()),
            None => None,
        };
        if queued == Some(true) {
            inner.sched.wake(id, clock());
            return;
        }
        spare.job.unmark_queued(spare.direction);
        if queued == Some(false) {
            // No event comes for it again: it is looked at after a while.
            inner.hold(spare);
        }
    }

    /// Runs a job and reschedules it. Returns the bytes that it moved.
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

    /// Keeps a job with an empty source for busy polling; without memory the source is armed.
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

    /// Queues the dry jobs for which `is_wet` holds. Returns true if there were some.
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

    /// Busy-polls the ready list and the dry jobs for a while, then arms the dry jobs. Returns
    /// true if there may be work.
    fn linger(&self) -> bool {
        if self.dry.lock().is_empty() {
            return false;
        }
        let news = || !self.ready.is_empty() || self.take_wet(has_news);
        if self.busy_poll.spin(news) {
            return true;
        }
        let found = self.take_wet(|item| item.job.arm(item.direction));
        // The armed jobs are not polled any more.
        self.dry.lock().truncate(0);
        found
    }

    /// Halts in place until the next interrupt. Returns true if there is work.
    fn halt(&self) -> bool {
        if !self.busy_poll.may_halt() {
            return false;
        }
        // The worker may have moved to another CPU by then, and does not halt.
        let cpu = cpu::this();
        self.cpu.store(cpu, Relaxed);
        // Fully ordered: an end that is pushed after the check below finds the word armed.
        let seen = self.halted.seen();
        self.halted.arm();
        if self.ready.is_empty() && self.halted.halt(seen, cpu) {
            return true;
        }
        !self.halted.disarm() || !self.ready.is_empty()
    }

    /// Keeps a group that a subscriber blocks for another attempt later.
    fn hold(&self, item: Item) {
        self.inner.lock().hold(item);
    }

    /// Wakes the worker in so many nanoseconds.
    fn wake_in(self: &Arc<Self>, ns: u64) {
        let mut alarm = self.alarm.lock();
        // The old handle is dropped first, because that cancels the timer.
        *alarm = None;
        *alarm = Some(self.clone().start(Delta::from_nanos(ns as i64)));
    }

    /// Lets the job that had the last turn send the events that it held back, unless it has the
    /// next turn, too.
    fn tell_unless_next(&self, turn: &Next) {
        let Some(item) = self.untold.lock().take() else {
            return;
        };
        match turn {
            Next::Work(_, _, Some(next)) if next.is(&item) => {}
            _ => item.job.tell(),
        }
    }

    /// Runs one step. Returns false if there is nothing to do now.
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
            Next::Work(id, budget, job) => {
                let used = job.map_or(0, |item| self.run_job(item, budget));
                let mut inner = self.inner.lock();
                let more = inner.flow(id).is_some_and(|f| !f.jobs.is_empty());
                inner.sched.done(id, used, more, clock());
                let busy = inner.is_busy();
                drop(inner);
                // Dry jobs must not wait until the busy flows are done.
                if busy {
                    self.take_wet(has_news);
                }
            }
            Next::Grant(throttle, link) => throttle.grant(&link),
            Next::Sleep(Some(ns)) => {
                self.wake_in(ns);
                return false;
            }
            Next::Sleep(None) => return false,
        }
        true
    }

    // --- Flows ---

    /// Adds the flow of a link. Returns its throttle.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many. `ENOMEM`.
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

    /// Removes a flow with its waiting jobs, and wakes its programs.
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

    /// Sets the parameters of a flow.
    pub(super) fn set(self: &Arc<Self>, id: FlowId, params: Params) {
        self.inner.lock().sched.set(id, params, clock());
        self.kick();
    }

    /// Sets the scheduler's policy and total rate.
    pub(super) fn set_policy(self: &Arc<Self>, policy: Policy, rate: u64) {
        {
            let mut inner = self.inner.lock();
            inner.sched.set_policy(policy);
            inner.sched.set_total_rate(rate, clock());
        }
        self.kick();
    }

    /// Returns whether this domain's programs must claim the bytes that they move on a flow.
    pub(super) fn is_capped(&self, id: FlowId) -> bool {
        self.inner.lock().sched.is_capped(id)
    }

    /// Runs `f` on the scheduler, for reading.
    pub(super) fn with<R>(&self, f: impl FnOnce(&Scheduler) -> R) -> R {
        f(&self.inner.lock().sched)
    }

    /// Finishes all work at module exit, after the last tunnel.
    pub(super) fn finish(self: &Arc<Self>) {
        self.inner.lock().held = KVec::new();
        // The last run empties the ready list, which owns the relay ends in it.
        work::flush(&self.work);
        // The work starts the timer, so it goes first; the timer then cannot queue it again.
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
            // Fully ordered: an end that is pushed after the check below finds the worker
            // asleep.
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

/// Returns whether a job with an empty source may have data by now.
fn has_news(item: &Item) -> bool {
    item.job.has_news(item.direction)
}

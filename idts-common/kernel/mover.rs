// SPDX-License-Identifier: GPL-2.0

//! The backend's worker: asks the scheduler which domain is served next, and
//! moves its relays' bytes; hands turns to this domain's own programs where a
//! cap makes them wait.
//!
//! Decides nothing: fairness is `idts_core::sched`'s, moving [`crate::relay`]'s.
//! News come from event handlers, without locks, by the inbox.

use core::ptr;

use idts_core::sched::{Claim, FlowId, Params, Pick, Policy, Scheduler};
use kernel::alloc::flags::__GFP_ZERO;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{
    impl_has_delayed_work, impl_has_work, new_delayed_work, new_work, DelayedWork, Work, WorkItem,
};

use crate::bindings;
use crate::endpoint::Endpoint;
use crate::patience::clock;
use crate::relay::{Relay, Way};
use crate::tunnel::Tunnel;

/// Picks before the worker lets others run.
const BATCH: usize = 32;

/// One direction of a relay that has, or may have, something to move.
struct Job {
    relay: Arc<Relay>,
    way: Way,
}

/// A tunnel, as the scheduler sees it, and what waits on it.
struct Flow {
    id: FlowId,
    tunnel: Arc<Tunnel>,
    jobs: KVec<Job>,
}

struct Inner {
    sched: KBox<Scheduler>,
    flows: KVec<Flow>,
}

impl Inner {
    fn flow(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.iter_mut().find(|f| f.id == id)
    }
}

/// The worker of a module.
#[pin_data]
pub(crate) struct Mover {
    /// Legs with news: a stack that is pushed and emptied without locks.
    inbox: Atomic<*mut Endpoint>,
    #[pin]
    work: Work<Mover, 0>,
    #[pin]
    timer: DelayedWork<Mover, 1>,
    #[pin]
    inner: Mutex<Inner>,
}

impl_has_work! {
    impl HasWork<Mover, 0> for Mover { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Mover, 1> for Mover { self.timer }
}

impl Mover {
    /// A mover with nothing to move.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let sched = KBox::<Scheduler>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: A scheduler whose memory is all zero is a valid, empty one.
        let sched = unsafe { sched.assume_init() };
        Arc::pin_init(
            pin_init!(Self {
                inbox: Atomic::new(ptr::null_mut()),
                work <- new_work!("idts_mover"),
                timer <- new_delayed_work!("idts_mover_timer"),
                inner <- new_mutex!(Inner { sched, flows: KVec::new() }),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes the worker look. May be called from hard interrupt context.
    pub(crate) fn kick(self: &Arc<Self>) {
        // Already queued is fine: the worker looks at everything.
        let _ = crate::queue().enqueue::<_, 0>(self.clone());
    }

    /// Puts a leg into the inbox. May be called from hard interrupt context.
    pub(crate) fn news(self: &Arc<Self>, leg: ArcBorrow<'_, Endpoint>) {
        if leg.inbox.queued.xchg(1, Full) == 1 {
            return;
        }
        let leg = Arc::into_raw(Arc::from(leg)).cast_mut();
        let mut head = self.inbox.load(Relaxed);
        loop {
            // SAFETY: Ours until it is taken out: `queued` lets nobody else here.
            unsafe { (*leg).inbox.next.store(head, Relaxed) };
            match self.inbox.cmpxchg(head, leg, Full) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        self.kick();
    }

    /// Takes all legs with news and queues what they may have to move.
    fn take_news(self: &Arc<Self>) {
        let mut leg = self.inbox.xchg(ptr::null_mut(), Full);
        while !leg.is_null() {
            // SAFETY: Made by `Arc::into_raw` in `news`, taken out once.
            let this = unsafe { Arc::from_raw(leg.cast_const()) };
            leg = this.inbox.next.load(Relaxed);
            // From here on it may be put in again, for newer news.
            this.inbox.queued.xchg(0, Full);
            let Some(relay) = this.relay() else {
                continue;
            };
            if relay.step() {
                self.queue(&relay, Way::Forth);
                self.queue(&relay, Way::Back);
            }
        }
    }

    /// Queues a direction, unless it is queued.
    fn queue(&self, relay: &Arc<Relay>, way: Way) {
        let Some(id) = relay.sender(way).and_then(|t| t.flow()) else {
            return;
        };
        if !relay.mark_queued(way) {
            return;
        }
        let job = Job {
            relay: relay.clone(),
            way,
        };
        let mut inner = self.inner.lock();
        let queued = match inner.flow(id) {
            Some(flow) => flow.jobs.push(job, GFP_KERNEL).is_ok(),
            None => false,
        };
        if queued {
            inner.sched.wake(id, clock());
        } else {
            relay.unmark_queued(way);
        }
    }

    /// Serves a flow's first job.
    fn serve(&self, id: FlowId, budget: u32) {
        let job = {
            let mut inner = self.inner.lock();
            inner.flow(id).and_then(|f| f.jobs.remove(0).ok())
        };
        let mut used = 0;
        if let Some(job) = job {
            job.relay.unmark_queued(job.way);
            let moved = job.relay.run(job.way, budget);
            used = moved.bytes;
            if moved.more {
                self.queue(&job.relay, job.way);
            }
        }
        let mut inner = self.inner.lock();
        let more = inner.flow(id).is_some_and(|f| !f.jobs.is_empty());
        inner.sched.done(id, used, more, clock());
    }

    /// One round; `false`: there is nothing to do now.
    fn round(self: &Arc<Self>) -> bool {
        self.take_news();
        let now = clock();
        let pick = self.inner.lock().sched.next(now);
        match pick {
            Pick::Run { flow, budget } => self.serve(flow, budget),
            Pick::Grant { flow } => {
                let tunnel = {
                    let mut inner = self.inner.lock();
                    inner.flow(flow).map(|f| f.tunnel.clone())
                };
                if let Some(tunnel) = tunnel {
                    tunnel.grant_turn();
                }
            }
            Pick::WaitUntil(when) => {
                let ms = when.saturating_sub(now).div_ceil(1_000_000);
                let jiffies = msecs_to_jiffies(ms.min(10_000) as u32).max(1);
                let _ = crate::queue().enqueue_delayed::<_, 1>(self.clone(), jiffies);
                return false;
            }
            Pick::Idle => return false,
        }
        true
    }

    // --- Flows ---

    /// Adds a tunnel's flow.
    pub(crate) fn join(&self, tunnel: &Arc<Tunnel>, params: Params) -> Result<FlowId> {
        let mut inner = self.inner.lock();
        let id = inner.sched.join(params, clock()).ok_or(ENOSPC)?;
        let flow = Flow {
            id,
            tunnel: tunnel.clone(),
            jobs: KVec::new(),
        };
        if inner.flows.push(flow, GFP_KERNEL).is_err() {
            inner.sched.leave(id);
            return Err(ENOMEM);
        }
        Ok(id)
    }

    /// Takes a tunnel's flow out, with all that waits on it.
    pub(crate) fn leave(&self, id: FlowId) {
        let mut inner = self.inner.lock();
        inner.sched.leave(id);
        let flow = inner
            .flows
            .iter()
            .position(|f| f.id == id)
            .and_then(|i| inner.flows.remove(i).ok());
        drop(inner);
        if let Some(flow) = flow {
            for job in flow.jobs {
                job.relay.unmark_queued(job.way);
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

    /// Gives back what a claim left over.
    pub(crate) fn refund(&self, id: FlowId, unused: u32) {
        if unused > 0 {
            self.inner.lock().sched.refund(id, unused);
        }
    }

    /// Runs `f` on the scheduler, to look at it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Scheduler) -> R) -> R {
        f(&self.inner.lock().sched)
    }

    /// Finishes all work, at module exit, when no tunnel is left.
    pub(crate) fn finish(&self) {
        // SAFETY: Both are initialised; process context. They run rather than
        // being cancelled, for scheduled work owns a reference to the mover.
        unsafe {
            bindings::flush_delayed_work((&raw const self.timer).cast_mut().cast());
            bindings::flush_work(Work::raw_get(&raw const self.work));
        }
    }
}

impl WorkItem<0> for Mover {
    type Pointer = Arc<Mover>;

    fn run(this: Arc<Mover>) {
        for _ in 0..BATCH {
            if !this.round() {
                return;
            }
        }
        this.kick();
    }
}

impl WorkItem<1> for Mover {
    type Pointer = Arc<Mover>;

    fn run(this: Arc<Mover>) {
        this.kick();
    }
}

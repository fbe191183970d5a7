// SPDX-License-Identifier: GPL-2.0

//! Front: what this domain tells dom0 of its wish for a tunnel, and the connects
//! that wait for one.
//!
//! dom0 may take a tunnel down that nobody uses, and set it up again when the
//! domain asks. It says so in a node, and the domain answers in one of its own
//! (PROTOCOL.md section 3.1). That is written by a work item: nobody waits for
//! xenstore with a lock held. Any program can cause it, so that it is done at most
//! so often; in between, what was read last holds, and what changes is written
//! once.

use idts_core::nodes;
use idts_core::token_bucket::TokenBucket;
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::time::msecs_to_jiffies;
use kernel::workqueue::{impl_has_delayed_work, new_delayed_work, DelayedWork, WorkItem};

use crate::endpoint::Attempt;
use crate::opening::Wanted;
use crate::sys::clock::clock;
use crate::sys::errno::Errno;
use crate::sys::work::{disable_delayed, flush_delayed};
use crate::tunnel::Tunnel;
use crate::xen::xenstore;

/// Connects that may wait for a tunnel.
const WAITING_MAX: usize = 256;

/// How often xenstore is read, and how often it is written.
const PACE: TokenBucket = TokenBucket {
    burst: 16,
    interval_ns: 1_000_000_000,
};
const NS_PER_MS: u64 = 1_000_000;

/// A connect that waits for a tunnel.
struct Waiting {
    attempt: Attempt,
    wanted: Wanted,
}

struct State {
    /// Ports are bound: the tunnel is to stay.
    listens: bool,
    /// There is no tunnel, and one is wanted.
    asks: bool,
    waiting: KVec<Waiting>,
    /// What our node holds, if that is known.
    told: Option<&'static str>,
    /// Whether dom0 heard us when that was read last.
    heard: bool,
    /// When reads and writes are free again.
    reads: u64,
    writes: u64,
}

impl State {
    /// What our node is to hold.
    fn word(&self) -> &'static str {
        match (self.asks, self.listens) {
            (true, _) => nodes::REQUEST_ATTACH,
            (false, true) => nodes::REQUEST_KEEP,
            (false, false) => "",
        }
    }
}

/// The domain's wish.
#[pin_data]
pub(crate) struct Wish {
    #[pin]
    work: DelayedWork<Wish>,
    #[pin]
    state: Mutex<State>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Wish { self.work }
}

impl Wish {
    /// No wish.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_delayed_work!("idts_wish"),
                state <- new_mutex!(State {
                    listens: false,
                    asks: false,
                    waiting: KVec::new(),
                    told: Some(""),
                    heard: false,
                    reads: 0,
                    writes: 0,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether dom0 sets a tunnel up when it is asked for.
    pub(crate) fn is_heard(&self) -> bool {
        {
            let mut state = self.state.lock();
            match PACE.take(state.reads, clock()) {
                Some(next) => state.reads = next,
                None => return state.heard,
            }
        }
        let (dir, node) = nodes::ON_DEMAND;
        let heard = CString::try_from_fmt(fmt!("{dir}"))
            .and_then(|dir| xenstore::read(&dir, node))
            .is_ok_and(|text| text.as_slice() == nodes::ON_DEMAND_ENABLED.as_bytes());
        self.state.lock().heard = heard;
        heard
    }

    /// Whether ports are bound now, with a tunnel or without.
    pub(crate) fn ports(self: &Arc<Self>, any: bool, has_tunnel: bool) {
        let mut state = self.state.lock();
        state.listens = any;
        if any && !has_tunnel {
            state.asks = true;
        } else if !any && state.waiting.is_empty() {
            state.asks = false;
        }
        self.tell(&state);
    }

    /// Has a connect wait for a tunnel.
    pub(crate) fn wait(self: &Arc<Self>, attempt: &Attempt, wanted: Wanted) -> Result {
        let mut state = self.state.lock();
        if state.waiting.len() >= WAITING_MAX {
            return Err(Errno::NoSpace.into());
        }
        let attempt = attempt.clone();
        state
            .waiting
            .push(Waiting { attempt, wanted }, GFP_KERNEL)?;
        state.asks = true;
        self.tell(&state);
        Ok(())
    }

    /// A connect waits no more.
    pub(crate) fn abandon(self: &Arc<Self>, attempt: &Attempt) {
        let mut state = self.state.lock();
        state.waiting.retain(|w| !w.attempt.is(attempt));
        if state.waiting.is_empty() && !state.listens {
            state.asks = false;
        }
        self.tell(&state);
    }

    /// There is a tunnel: who waits goes on with it.
    pub(crate) fn is_met(self: &Arc<Self>, tunnel: &Arc<Tunnel>) {
        let waiting = {
            let mut state = self.state.lock();
            state.asks = false;
            if state.listens {
                // Who took the last one down by hand took our node away.
                state.told = None;
            }
            self.tell(&state);
            core::mem::take(&mut state.waiting)
        };
        for Waiting { attempt, wanted } in waiting {
            attempt.go_on(tunnel, wanted);
        }
    }

    /// The domain was restored: its nodes are new, and its tunnel is gone.
    pub(crate) fn restored(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.told = None;
        state.asks = state.listens || !state.waiting.is_empty();
        self.tell(&state);
    }

    fn tell(self: &Arc<Self>, state: &State) {
        if state.told != Some(state.word()) {
            // Already scheduled is fine: the work looks at what is to be told.
            let ms = PACE.wait(state.writes, clock()).div_ceil(NS_PER_MS);
            let delay = msecs_to_jiffies(ms.try_into().unwrap_or(u32::MAX));
            let _ = crate::sys::work::queue().enqueue_delayed(self.clone(), delay);
        }
    }

    /// Finishes what is scheduled, at module exit.
    pub(crate) fn finish(self: &Arc<Self>) {
        // What is to be told yet is told.
        flush_delayed(&self.work);
        disable_delayed::<_, 0>(self);
    }
}

impl WorkItem for Wish {
    type Pointer = Arc<Wish>;

    fn run(this: Arc<Wish>) {
        let word = {
            let mut state = this.state.lock();
            let word = state.word();
            if state.told == Some(word) {
                return;
            }
            state.told = Some(word);
            let now = clock();
            state.writes = PACE.take(state.writes, now).unwrap_or(state.writes);
            word
        };
        let (dir, node) = nodes::REQUEST;
        let written =
            CString::try_from_fmt(fmt!("{dir}")).and_then(|dir| xenstore::write(&dir, node, word));
        if let Err(error) = written {
            pr_warn!("cannot write {}/{}: {:?}\n", dir, node, error);
            // The next change tries again.
            this.state.lock().told = None;
        }
    }
}

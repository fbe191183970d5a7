// SPDX-License-Identifier: GPL-2.0

//! The throttle of a tunnel's link: its flow in the scheduler, and the turns of this domain's
//! own programs while a cap makes them wait.
//!
//! `idts_core::sched` decides which flow is served next; the worker asks it.

use idts_core::sched::{Claim, FlowId, FlowStats};
use idts_kernel::link::throttle::{Throttle, Turn, UNLIMITED};
use idts_kernel::link::Link;
use idts_kernel::sys::wait::WaitQueue;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::{Arc, ArcBorrow};

/// The scheduler's interface to this domain's own programs. Implemented by the worker, called by
/// [`FlowThrottle`].
pub(super) trait Claims: Send + Sync {
    /// Claims `want` bytes for a program.
    fn claim(self: ArcBorrow<'_, Self>, flow: FlowId, want: u32) -> Claim;

    /// Returns whether a claim would be granted now. If not, the flow waits for its turn.
    fn may_claim(self: ArcBorrow<'_, Self>, flow: FlowId) -> bool;

    /// Settles a claim of `claimed` bytes, of which `used` were moved.
    fn settle(&self, flow: FlowId, claimed: u32, used: u32);

    /// Returns the counters of a flow.
    fn stats(&self, flow: FlowId) -> Option<FlowStats>;
}

/// The throttle of a link. The worker owns it until the tunnel ends.
#[pin_data]
pub(super) struct FlowThrottle {
    claims: Arc<dyn Claims>,
    flow: FlowId,
    /// Number of turns that this domain's own programs had.
    turns: Atomic<u32>,
    /// Set while a poller waits for the next turn.
    armed: Atomic<bool>,
    #[pin]
    queue: WaitQueue,
}

impl FlowThrottle {
    /// Creates the throttle of a flow.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(claims: Arc<dyn Claims>, flow: FlowId) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                claims,
                flow,
                turns: Atomic::new(0),
                armed: Atomic::new(false),
                queue <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives this domain's programs a turn on the flow's link.
    pub(super) fn grant(&self, link: &Link) {
        self.turns.add(1, Relaxed);
        self.queue.wake_all();
        if self.armed.xchg(false, Full) {
            link.tell_turn();
        }
    }
}

impl Throttle for FlowThrottle {
    fn flow(&self) -> FlowId {
        self.flow
    }

    fn charge(&self, want: u32) -> Result<u32, Turn> {
        let seen = self.turns.load(Relaxed);
        match self.claims.as_arc_borrow().claim(self.flow, want) {
            Claim::Granted(bytes) => Ok(bytes),
            Claim::Free | Claim::Gone => Ok(UNLIMITED),
            Claim::Queued => Err(Turn(seen)),
        }
    }

    fn may_charge(&self) -> bool {
        self.claims.as_arc_borrow().may_claim(self.flow)
    }

    fn settle(&self, charged: u32, used: u32) {
        self.claims.settle(self.flow, charged, used);
    }

    fn wait_turn(&self, turn: Turn, is_over: &dyn Fn() -> bool) -> Result {
        let came = || is_over() || self.turns.load(Relaxed) != turn.0;
        self.queue.wait(None, came).map(|_| ())
    }

    fn arm_turn(&self) {
        // Fully ordered: a turn after this sees it.
        self.armed.xchg(true, Full);
    }

    fn report(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.claims.stats(self.flow);
        for (name, value) in stats.iter().flat_map(|stats| stats.named()) {
            writeln!(f, "flow_{name} {value}")?;
        }
        Ok(())
    }

    fn wake(&self) {
        self.queue.wake_all();
    }
}

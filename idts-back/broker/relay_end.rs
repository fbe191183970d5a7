// SPDX-License-Identifier: GPL-2.0

//! In-kernel ends of channels, of relays and groups, without an open file.

use idts_kernel::channel::Channel;
use idts_kernel::link::waiter::{Wake, WakeReason};
use idts_kernel::sys::errno::Errno;
use idts_kernel::sys::ready_list::{Linked, Node};
use idts_kernel::sys::test_override;
use idts_kernel::tunnel::host::{Attempt, Carrier, OpenRequest, Opener};
use idts_kernel::tunnel::payer::Payer;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, SetOnce};

use super::job::{EndWaker, Job, Outcome, ReadySink, RelayEnd, Served};

/// Bits of [`EndWaker::woken`].
const READ: u32 = 1;
const WRITE: u32 = 2;

/// The number of an end's only attempt.
const ATTEMPT: u32 = 1;

impl RelayEnd {
    /// Creates an end without a channel.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn new(sink: Arc<dyn ReadySink>) -> Result<Arc<Self>> {
        let waker = Arc::pin_init(
            pin_init!(EndWaker {
                sink,
                node: Node::new(),
                woken: Atomic::new(0),
                served <- new_mutex!(None),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Arc::pin_init(
            pin_init!(Self {
                waker,
                channel: SetOnce::new(),
                outcome <- new_mutex!(Outcome::New),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Creates the near end of a channel that a peer opened.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn accepted(sink: Arc<dyn ReadySink>, channel: &Arc<Channel>) -> Result<Arc<Self>> {
        let end = Self::new(sink)?;
        *end.outcome.lock() = Outcome::Connected;
        end.attach(channel);
        Ok(end)
    }

    /// Attaches the end's channel.
    fn attach(&self, channel: &Arc<Channel>) {
        channel.waiter.belongs_to(self.waker.clone());
        self.channel.populate(channel.clone());
    }

    /// Sets the end's job.
    pub(super) fn serve(self: &Arc<Self>, job: Arc<dyn Job>) {
        let old = self.waker.served.lock().replace((self.clone(), job));
        drop(old);
    }

    /// Queues the end for the worker.
    pub(super) fn kick(&self) {
        self.waker.as_arc_borrow().wake(WakeReason::ALL);
    }

    /// Requests a channel to the other domain.
    pub(super) fn connect(self: &Arc<Self>, tunnel: &Arc<dyn Carrier>, request: OpenRequest) {
        *self.outcome.lock() = Outcome::Waiting(tunnel.clone());
        Attempt::new(self.clone(), ATTEMPT).ask(tunnel, request);
    }

    /// Returns the state of its connect.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.lock().clone()
    }

    /// Returns its channel.
    pub(super) fn channel(&self) -> Option<&Arc<Channel>> {
        self.channel.as_ref()
    }

    /// Returns whether its channel is broken or its tunnel gone.
    pub(super) fn is_broken(&self) -> bool {
        self.channel().is_some_and(|channel| channel.is_broken())
    }

    /// Returns whether there may be data to read although it is not armed.
    pub(super) fn has_news(&self) -> bool {
        self.channel().is_none_or(|channel| !channel.is_quiet())
    }

    /// Arms it for reading. Returns true if there may be data to read.
    pub(super) fn arm(&self) -> bool {
        self.channel().is_none_or(|channel| channel.arm_reader())
    }

    /// Abandons its connect, if that is under way.
    pub(super) fn end_attempt(self: &Arc<Self>) {
        self.as_arc_borrow().give_up(ATTEMPT, Errno::ConnReset);
    }

    /// Closes its channel, and drops the references to the end and its job.
    pub(super) fn close(&self) {
        test_override::delay(c"leg-end");
        let served = self.waker.served.lock().take();
        if let Some(channel) = self.channel() {
            channel.close();
        }
        drop(served);
    }
}

impl EndWaker {
    /// The end and its job, until it is closed. The end hears of flags from here on,
    /// whatever it waits for.
    pub(super) fn served(&self) -> Option<Served> {
        let served = self.served.lock().clone();
        if let Some(channel) = served.as_ref().and_then(|(end, _)| end.channel()) {
            channel.waiter.ends.arm();
        }
        served
    }

    /// Returns the reasons of the end's events since the last call.
    pub(super) fn take_woken(&self) -> WakeReason {
        let woken = self.woken.xchg(0, Full);
        WakeReason {
            read: woken & READ != 0,
            write: woken & WRITE != 0,
        }
    }
}

impl Linked for EndWaker {
    fn node(&self) -> &Node<Self> {
        &self.node
    }
}

impl Wake for EndWaker {
    fn wake(self: ArcBorrow<'_, Self>, why: WakeReason) {
        let reads = if why.read { READ } else { 0 };
        let writes = if why.write { WRITE } else { 0 };
        // Before the push: the worker takes the end from the list, then the reasons.
        let mut woken = self.woken.load(Relaxed);
        while let Err(now) = self.woken.cmpxchg(woken, woken | reads | writes, Full) {
            woken = now;
        }
        self.sink.as_arc_borrow().on_ready(self);
    }
}

impl Opener for RelayEnd {
    fn opened(self: ArcBorrow<'_, Self>, _: u32, channel: &Arc<Channel>) -> bool {
        {
            let mut outcome = self.outcome.lock();
            if !matches!(*outcome, Outcome::Waiting(_)) {
                return false;
            }
            // First the channel: whoever finds the end connected may close it.
            self.attach(channel);
            *outcome = Outcome::Connected;
        }
        self.kick();
        true
    }

    fn refused(self: ArcBorrow<'_, Self>, _: u32, errno: Errno) {
        {
            let mut outcome = self.outcome.lock();
            if !matches!(*outcome, Outcome::Waiting(_)) {
                return;
            }
            *outcome = Outcome::Failed(errno);
        }
        self.kick();
    }

    fn awaits(&self, _: u32) -> bool {
        matches!(*self.outcome.lock(), Outcome::Waiting(_))
    }

    fn has_tunnel(&self, _: u32, _: &Arc<dyn Carrier>) -> bool {
        false
    }

    fn give_up(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno) {
        let Outcome::Waiting(tunnel) = self.outcome() else {
            return;
        };
        tunnel.abandon(&Attempt::new(Arc::from(self), attempt));
        self.refused(attempt, errno);
    }

    fn payer(&self) -> Option<&Arc<Payer>> {
        None
    }
}

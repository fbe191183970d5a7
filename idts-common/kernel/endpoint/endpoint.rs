// SPDX-License-Identifier: GPL-2.0

//! The state of an endpoint, and its sleeping.

use idts_core::uapi;
use idts_core::wire::{line, Kind};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};

use super::attempt::Last;
use crate::channel::Channel;
use crate::context::Context;
use crate::link::waiter::{Wake, Woken};
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;
use crate::sys::wait::{self, Armed, Awaited, WaitQueue};
use crate::tunnel::host::Carrier;
use crate::tunnel::payer::{Payer, Seat};

/// The processes that wait at an endpoint.
#[pin_data]
pub(super) struct Sleepers {
    #[pin]
    pub(super) queue: WaitQueue,
}

impl Wake for Sleepers {
    fn wake(self: ArcBorrow<'_, Self>, _: Woken) {
        self.queue.wake_all();
    }
}

pub(super) enum State {
    Idle,
    Bound,
    Listening {
        kind: Kind,
        /// The largest ring that is taken.
        max_ring: u32,
        backlog: usize,
        queue: KVec<Arc<Endpoint>>,
        refused: u32,
    },
    /// With a tunnel, or waiting for one.
    Connecting {
        tunnel: Option<Arc<dyn Carrier>>,
    },
    Connected,
}

pub(super) struct Inner {
    pub(super) state: State,
    /// The local port, 0 for none.
    pub(super) port: u32,
    /// The port is ours in the context's table.
    pub(super) bound: bool,
    /// Result of the last connect that was not waited for.
    pub(super) error: Option<Errno>,
    /// The last attempt to connect.
    pub(super) last: Last,
    pub(super) peer: uapi::Addr,
}

/// An open file of `/dev/idts`.
#[pin_data]
pub(crate) struct Endpoint {
    pub(super) context: Arc<Context>,
    /// Its place in its user's account.
    pub(super) seat: Seat,
    pub(super) sleepers: Arc<Sleepers>,
    /// State changes: a connection to accept, an answer to connect.
    pub(super) change: Armed,
    pub(super) reading: BusyPoll,
    pub(super) writing: BusyPoll,
    /// Somebody polled: news must come even if nobody reads or writes.
    pub(super) polled: Atomic<bool>,
    pub(super) channel: SetOnce<Arc<Channel>>,
    pub(super) sleeps: Atomic<u32>,
    #[pin]
    pub(super) inner: Mutex<Inner>,
}

impl Endpoint {
    /// A new idle endpoint of a file.
    pub(crate) fn open(context: Arc<Context>, payer: &Arc<Payer>) -> Result<Arc<Self>> {
        let seat = payer.seat(|| context.services.grace.flush())?;
        payer.charge(|| Self::make(context, seat))
    }

    /// The cgroup that is charged at the time pays.
    fn make(context: Arc<Context>, seat: Seat) -> Result<Arc<Self>> {
        let sleepers = Arc::pin_init(
            pin_init!(Sleepers { queue <- WaitQueue::new() }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Arc::pin_init(
            pin_init!(Self {
                context,
                seat,
                sleepers,
                change: Armed::new(),
                reading: BusyPoll::new(),
                writing: BusyPoll::new(),
                polled: Atomic::new(false),
                channel: SetOnce::new(),
                sleeps: Atomic::new(0),
                inner <- new_mutex!(Inner {
                    state: State::Idle,
                    port: 0,
                    bound: false,
                    error: None,
                    last: Last::NONE,
                    peer: uapi::Addr::default(),
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The account that pays for the endpoint and for what it asks for.
    pub(super) fn payer(&self) -> &Arc<Payer> {
        self.seat.payer()
    }

    /// A connected endpoint that waits for accept.
    pub(super) fn accepted(
        context: Arc<Context>,
        channel: Arc<Channel>,
        seat: Seat,
    ) -> Result<Arc<Self>> {
        let endpoint = Self::make(context, seat)?;
        endpoint.accept_end(channel);
        Ok(endpoint)
    }

    /// Becomes the end of `channel` that did not ask for it.
    fn accept_end(&self, channel: Arc<Channel>) {
        let ports = channel.ports;
        self.attach(&mut self.inner.lock(), channel, ports.target, ports.source);
    }

    /// Becomes the end of `channel`.
    pub(super) fn attach(&self, inner: &mut Inner, channel: Arc<Channel>, local: u32, remote: u32) {
        inner.state = State::Connected;
        inner.peer = uapi::Addr::default();
        // A group has no address.
        if !channel.kind.is_group() {
            // A port that is bound stays this endpoint's, whatever was asked before.
            if !inner.bound {
                inner.port = local;
            }
            inner.peer.domid = channel.far;
            inner.peer.port = remote;
        }
        channel.waiter.belongs_to(self.sleepers.clone());
        self.channel.populate(channel);
    }

    /// Wakes everyone, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.change.disarm();
        match self.channel.as_ref() {
            // It wakes the same.
            Some(channel) => channel.waiter.kick(),
            None => self.sleepers.queue.wake_all(),
        }
        self.context.services.inline.wake();
    }

    /// Waits for a change, and handles messages meanwhile. Nothing is held.
    pub(super) fn wait_change(
        &self,
        change: Awaited<'_>,
        jiffies: Option<isize>,
    ) -> Result<wait::Woken> {
        match self.context.process_until(change, jiffies) {
            Some(result) => {
                self.sleeps.add(1, Relaxed);
                result
            }
            None => self.sleep(change, jiffies),
        }
    }

    /// Sleeps until `news` come. Nothing is held.
    pub(super) fn sleep(&self, news: Awaited<'_>, jiffies: Option<isize>) -> Result<wait::Woken> {
        self.sleeps.add(1, Relaxed);
        self.sleepers.queue.wait(jiffies, || news.came())
    }

    /// The channel of a connected endpoint.
    pub(crate) fn channel(&self) -> Result<&Arc<Channel>> {
        self.channel.as_ref().ok_or_else(|| Errno::NotConn.into())
    }

    /// `shutdown(2)`.
    pub(crate) fn shutdown(&self, how: u32) -> Result {
        let flags = match how {
            uapi::SHUT_RD => line::DEAF,
            uapi::SHUT_WR => line::FIN,
            uapi::SHUT_RDWR => line::FIN | line::DEAF,
            _ => return Err(EINVAL),
        };
        self.channel()?.shutdown(flags);
        self.kick();
        Ok(())
    }

    /// The last close of the file. Nobody else uses the endpoint any more, but
    /// for the event handler and for answers that are under way.
    pub(crate) fn release(self: Arc<Self>) {
        self.end_attempt(Errno::ConnReset);
        let (port, queue) = {
            let mut inner = self.inner.lock();
            let port = if inner.bound { inner.port } else { 0 };
            match core::mem::replace(&mut inner.state, State::Idle) {
                State::Listening { queue, .. } => (port, queue),
                _ => (port, KVec::new()),
            }
        };
        if port != 0 {
            self.context.unbind(port);
        }
        for child in queue {
            child.release();
        }
        if let Some(channel) = self.channel.as_ref() {
            channel.close();
        }
    }
}

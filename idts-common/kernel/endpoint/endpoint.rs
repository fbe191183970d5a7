// SPDX-License-Identifier: GPL-2.0

//! The state of an endpoint, and its waiting.

use idts_core::uapi;
use idts_core::wire::{line, Kind};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};

use super::attempt::Last;
use crate::channel::Channel;
use crate::context::Context;
use crate::link::waiter::{Wake, WakeReason};
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;
use crate::sys::wait::{self, Armed, Awaited, WaitQueue};
use crate::tunnel::host::Carrier;
use crate::tunnel::payer::{Payer, Seat};

/// The tasks and polls that wait at an endpoint.
#[pin_data]
pub(super) struct Sleepers {
    #[pin]
    pub(super) queue: WaitQueue,
}

impl Wake for Sleepers {
    fn wake(self: ArcBorrow<'_, Self>, _: WakeReason) {
        self.queue.wake_all();
    }
}

/// The state of an endpoint.
pub(super) enum State {
    Idle,
    Bound,
    Listening {
        kind: Kind,
        /// The largest ring that is accepted.
        max_ring: u32,
        backlog: usize,
        queue: KVec<Arc<Endpoint>>,
        refused: u32,
    },
    /// Over a tunnel, or waiting for one.
    Connecting {
        tunnel: Option<Arc<dyn Carrier>>,
    },
    Connected,
}

/// State under an endpoint's lock.
pub(super) struct Inner {
    pub(super) state: State,
    /// The local port, 0 for none.
    pub(super) port: u32,
    /// Set if the port is bound in the context's table.
    pub(super) bound: bool,
    /// Result of the last nonblocking connect.
    pub(super) error: Option<Errno>,
    /// The last attempt to connect.
    pub(super) last: Last,
    pub(super) peer: uapi::Addr,
}

/// An open file of `/dev/idts`.
#[pin_data]
pub(crate) struct Endpoint {
    pub(super) context: Arc<Context>,
    /// The charge to its user.
    pub(super) seat: Seat,
    pub(super) sleepers: Arc<Sleepers>,
    /// Armed for a change of state: a connection to accept, an answer to connect.
    pub(super) change: Armed,
    pub(super) reading: BusyPoll,
    pub(super) writing: BusyPoll,
    /// Set once the file was polled: events must come even while no task reads or writes.
    pub(super) polled: Atomic<bool>,
    pub(super) channel: SetOnce<Arc<Channel>>,
    pub(super) sleeps: Atomic<u32>,
    #[pin]
    pub(super) inner: Mutex<Inner>,
}

impl Endpoint {
    /// Creates the idle endpoint of a file.
    ///
    /// # Errors
    /// `ENOSPC`: the user has too many. `ENOMEM`.
    pub(crate) fn open(context: Arc<Context>, payer: &Arc<Payer>) -> Result<Arc<Self>> {
        let seat = payer.seat(|| context.services.grace.flush())?;
        payer.charge(|| Self::make(context, seat))
    }

    /// Creates an endpoint at the cost of the cgroup that is charged at the time.
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

    /// The account that pays for the endpoint and for its channels.
    pub(super) fn payer(&self) -> &Arc<Payer> {
        self.seat.payer()
    }

    /// Creates a connected endpoint for accept.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn accepted(
        context: Arc<Context>,
        channel: Arc<Channel>,
        seat: Seat,
    ) -> Result<Arc<Self>> {
        let endpoint = Self::make(context, seat)?;
        endpoint.accept_end(channel);
        Ok(endpoint)
    }

    /// Attaches the acceptor's end of `channel`.
    fn accept_end(&self, channel: Arc<Channel>) {
        let ports = channel.ports;
        self.attach(&mut self.inner.lock(), channel, ports.target, ports.source);
    }

    /// Attaches an end of `channel`: the endpoint is connected.
    pub(super) fn attach(&self, inner: &mut Inner, channel: Arc<Channel>, local: u32, remote: u32) {
        inner.state = State::Connected;
        inner.peer = uapi::Addr::default();
        // A group has no address.
        if !channel.kind.is_group() {
            // A bound port stays, whatever was requested before.
            if !inner.bound {
                inner.port = local;
            }
            inner.peer.domid = channel.far;
            inner.peer.port = remote;
        }
        channel.waiter.belongs_to(self.sleepers.clone());
        self.channel.populate(channel);
    }

    /// Wakes all tasks, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.change.disarm();
        match self.channel.as_ref() {
            // The channel's waiter wakes the same queue.
            Some(channel) => channel.waiter.kick(),
            None => self.sleepers.queue.wake_all(),
        }
        self.context.services.inline.wake();
    }

    /// Waits for a change of state, and processes control messages meanwhile. The caller holds
    /// nothing.
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

    /// Sleeps until `news` comes. The caller holds nothing.
    pub(super) fn sleep(&self, news: Awaited<'_>, jiffies: Option<isize>) -> Result<wait::Woken> {
        self.sleeps.add(1, Relaxed);
        self.sleepers.queue.wait(jiffies, || news.came())
    }

    /// Returns the channel.
    ///
    /// # Errors
    /// `ENOTCONN`: there is none.
    pub(crate) fn channel(&self) -> Result<&Arc<Channel>> {
        self.channel.as_ref().ok_or_else(|| Errno::NotConn.into())
    }

    /// `IDTS_IOC_SHUTDOWN`, as `shutdown(2)`.
    ///
    /// # Errors
    /// `EINVAL`, `ENOTCONN`.
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

    /// Handles the last close of the file. From here on only the event handler and answers under
    /// way use the endpoint.
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

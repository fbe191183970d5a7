// SPDX-License-Identifier: GPL-2.0

//! An endpoint: an open file of `/dev/idts`, and its waiting.
//!
//! Owns the states idle, bound, listening, connecting, connected, and all
//! sleeping of applications. Nothing is held while it sleeps or takes a page
//! fault: no lock, no mapping. Called by [`crate::dev`], and by
//! [`crate::tunnel`] when the peer answers.

mod caps;
mod connect;
mod data;
mod info;
mod leg;
mod listen;
mod poll;

use idts_core::uapi;
use idts_core::wire::{line, Kind};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};

pub(crate) use self::connect::Attempt;
use self::connect::Last;
pub(crate) use self::leg::{Leg, Outcome, Owner};
use crate::channel::Channel;
use crate::hub::Hub;
use crate::link::waiter::Wake;
use crate::payer::{Payer, Seat};
use crate::sys::busy_poll::BusyPoll;
use crate::sys::errno::Errno;
use crate::sys::wait::{Armed, Awaited, WaitQueue, Woken};
use crate::tunnel::Tunnel;

/// The processes that wait at an endpoint.
#[pin_data]
struct Sleepers {
    #[pin]
    queue: WaitQueue,
}

impl Wake for Sleepers {
    fn wake(self: ArcBorrow<'_, Self>) {
        self.queue.wake_all();
    }
}

enum State {
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
        tunnel: Option<Arc<Tunnel>>,
    },
    Connected,
}

struct Inner {
    state: State,
    /// The local port, 0 for none.
    port: u32,
    /// The port is ours in the hub's book.
    bound: bool,
    /// Result of the last connect that was not waited for.
    error: Option<Errno>,
    /// The last attempt to connect.
    last: Last,
    peer: uapi::Addr,
}

/// An open file of `/dev/idts`.
#[pin_data]
pub(crate) struct Endpoint {
    hub: Arc<Hub>,
    /// Its place in the book; none of a leg, which is no program's.
    seat: Option<Seat>,
    sleepers: Arc<Sleepers>,
    /// State changes: a connection to accept, an answer to connect.
    change: Armed,
    reading: BusyPoll,
    writing: BusyPoll,
    /// Somebody polled: news must come even if nobody reads or writes.
    polled: Atomic<bool>,
    channel: SetOnce<Arc<Channel>>,
    sleeps: Atomic<u32>,
    /// This is a leg of a relay or a group: it has no file, and its news go to
    /// the mover.
    leg: Option<Arc<Leg>>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Endpoint {
    /// A new idle endpoint of a file.
    pub(crate) fn open(hub: Arc<Hub>, payer: &Arc<Payer>) -> Result<Arc<Self>> {
        let seat = payer.seat(|| hub.reaper.flush())?;
        payer.charge(|| Self::make(hub, None, Some(seat)))
    }

    /// Whoever is charged at the time pays.
    fn make(hub: Arc<Hub>, leg: Option<Arc<Leg>>, seat: Option<Seat>) -> Result<Arc<Self>> {
        let sleepers = Arc::pin_init(
            pin_init!(Sleepers { queue <- WaitQueue::new() }),
            GFP_KERNEL_ACCOUNT,
        )?;
        Arc::pin_init(
            pin_init!(Self {
                hub,
                seat,
                sleepers,
                change: Armed::new(),
                reading: BusyPoll::new(),
                writing: BusyPoll::new(),
                polled: Atomic::new(false),
                channel: SetOnce::new(),
                sleeps: Atomic::new(0),
                leg,
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

    /// Who pays for it and for what it asks; nobody for a leg.
    pub(crate) fn payer(&self) -> Option<&Arc<Payer>> {
        self.seat.as_ref().map(Seat::payer)
    }

    /// A connected endpoint that waits for accept.
    pub(crate) fn accepted(hub: Arc<Hub>, channel: Arc<Channel>, seat: Seat) -> Result<Arc<Self>> {
        let endpoint = Self::make(hub, None, Some(seat))?;
        endpoint.accept_end(channel);
        Ok(endpoint)
    }

    /// Becomes the end of `channel` that did not ask for it.
    fn accept_end(&self, channel: Arc<Channel>) {
        let ports = channel.ports;
        self.attach(&mut self.inner.lock(), channel, ports.target, ports.source);
    }

    /// Becomes the end of `channel`.
    fn attach(&self, inner: &mut Inner, channel: Arc<Channel>, local: u32, remote: u32) {
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
        channel.waiter.belongs_to(self.listener());
        self.channel.populate(channel);
    }

    /// Who is told of news.
    fn listener(&self) -> Arc<dyn Wake> {
        match &self.leg {
            Some(leg) => leg.clone(),
            None => self.sleepers.clone(),
        }
    }

    /// Wakes everyone, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.change.disarm();
        match self.channel.as_ref() {
            // It wakes the same.
            Some(channel) => channel.waiter.kick(),
            None => self.listener().as_arc_borrow().wake(),
        }
        self.hub.help.look_up();
    }

    /// Waits for a change, and helps meanwhile. Nothing is held.
    fn wait_change(&self, change: Awaited<'_>, jiffies: Option<isize>) -> Result<Woken> {
        match self.hub.help(change, jiffies) {
            Some(helped) => {
                self.sleeps.add(1, Relaxed);
                helped
            }
            None => self.sleep(change, jiffies),
        }
    }

    /// Sleeps until `news` come. Nothing is held.
    fn sleep(&self, news: Awaited<'_>, jiffies: Option<isize>) -> Result<Woken> {
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
            self.hub.unbind(port);
        }
        for child in queue {
            child.release();
        }
        if let Some(channel) = self.channel.as_ref() {
            channel.tunnel.close(channel);
        }
    }
}

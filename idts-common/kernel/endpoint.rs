// SPDX-License-Identifier: GPL-2.0

//! An endpoint: an open file of `/dev/idts`, and its waiting.
//!
//! Owns the states idle, bound, listening, connecting, connected, and all
//! sleeping of applications. Nothing is held while it sleeps or takes a page
//! fault: no lock, no mapping. Called by [`crate::chardev`], and by
//! [`crate::tunnel`] when the peer answers.

mod connect;
mod data;
mod info;
mod leg;
mod listen;
mod poll;

use idts_core::uapi;
use idts_core::wire::{line, Kind};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, ArcBorrow, Mutex, SetOnce};

pub(crate) use self::leg::{Outcome, Owner};
use crate::channel::Channel;
use crate::errno::Errno;
use crate::hub::Hub;
use crate::patience::Patience;
use crate::tunnel::Tunnel;
use crate::wait::{Armed, WaitQueue, Woken};

/// A leg's place in the mover's inbox.
pub(crate) struct Inbox {
    /// 1 while it is in.
    pub(crate) queued: Atomic<u32>,
    pub(crate) next: Atomic<*mut Endpoint>,
}

enum State {
    Idle,
    Bound,
    Listening {
        kind: Kind,
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
    peer: uapi::Addr,
}

/// An open file of `/dev/idts`.
#[pin_data]
pub(crate) struct Endpoint {
    hub: Arc<Hub>,
    #[pin]
    queue: WaitQueue,
    read: Armed,
    write: Armed,
    /// State changes: a connection to accept, an answer to connect.
    change: Armed,
    reading: Patience,
    writing: Patience,
    /// Somebody polled: news must come even if nobody reads or writes.
    polled: Atomic<bool>,
    channel: SetOnce<Arc<Channel>>,
    sleeps: Atomic<u32>,
    /// This is a leg of a relay or a group: it has no file, and its news go to
    /// the mover.
    is_leg: Atomic<bool>,
    pub(crate) inbox: Inbox,
    #[pin]
    owner: Mutex<Option<Owner>>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Endpoint {
    /// A new idle endpoint.
    pub(crate) fn new(hub: Arc<Hub>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                hub,
                queue <- WaitQueue::new(),
                read: Armed::new(),
                write: Armed::new(),
                change: Armed::new(),
                reading: Patience::new(),
                writing: Patience::new(),
                polled: Atomic::new(false),
                channel: SetOnce::new(),
                sleeps: Atomic::new(0),
                is_leg: Atomic::new(false),
                inbox: Inbox {
                    queued: Atomic::new(0),
                    next: Atomic::new(core::ptr::null_mut()),
                },
                owner <- new_mutex!(None),
                inner <- new_mutex!(Inner {
                    state: State::Idle,
                    port: 0,
                    bound: false,
                    error: None,
                    peer: uapi::Addr::default(),
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// A connected endpoint that waits for accept.
    pub(crate) fn accepted(hub: Arc<Hub>, channel: Arc<Channel>) -> Result<Arc<Self>> {
        let endpoint = Self::new(hub)?;
        let ports = channel.ports;
        endpoint.attach(
            &mut endpoint.inner.lock(),
            channel,
            ports.target,
            ports.source,
        );
        Ok(endpoint)
    }

    /// Becomes the end of `channel`.
    fn attach(&self, inner: &mut Inner, channel: Arc<Channel>, local: u32, remote: u32) {
        inner.state = State::Connected;
        inner.peer = uapi::Addr::default();
        // A group has no address.
        if !channel.kind.is_group() {
            inner.port = local;
            inner.peer.domid = channel.far;
            inner.peer.port = remote;
        }
        self.channel.populate(channel);
    }

    /// News of the channel, in hard interrupt context. `true`: somebody waited.
    pub(crate) fn on_event(&self) -> bool {
        let read = self.read.disarm();
        let write = self.write.disarm();
        if read || write {
            self.wake();
        }
        read || write
    }

    /// Wakes everyone, whatever they wait for.
    pub(crate) fn kick(&self) {
        self.read.disarm();
        self.write.disarm();
        self.change.disarm();
        self.wake();
        self.hub.help.look_up();
    }

    fn wake(&self) {
        if self.is_leg.load(Acquire) {
            // SAFETY: Endpoints are only ever made inside an `Arc`, and this one
            // is borrowed.
            let this = unsafe { ArcBorrow::from_raw(self) };
            self.hub.mover.news(this);
        } else {
            self.queue.wake_all();
        }
    }

    /// Waits until `change` is disarmed, and helps meanwhile. Nothing is held.
    fn wait_change(&self, jiffies: Option<isize>) -> Result<Woken> {
        match self.hub.help(&self.change, jiffies) {
            Some(helped) => {
                self.sleeps.add(1, Relaxed);
                helped
            }
            None => self.sleep(&self.change, jiffies),
        }
    }

    /// Sleeps until `armed` is disarmed. Nothing is held.
    fn sleep(&self, armed: &Armed, jiffies: Option<isize>) -> Result<Woken> {
        self.sleeps.add(1, Relaxed);
        self.queue.wait(jiffies, || !armed.is_armed())
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
        self.give_up(Errno::ConnReset);
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
            self.hub.reaper.clone().retire(self);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Asking for a channel or a group, and waiting for the answer.
//!
//! Each time is an attempt with a number of its own: its answer, its time and
//! who waits for it are no other's, however quickly one follows another.

use idts_core::ioctl::JoinParams;
use idts_core::role::Role;
use idts_core::uapi;
use idts_core::wire::{Kind, Name, Ports};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::msecs_to_jiffies;

use super::{Endpoint, Inner, State};
use crate::channel::Channel;
use crate::opening::Wanted;
use crate::sys::clock::clock;
use crate::sys::errno::{invalid, Errno};
use crate::sys::wait::Awaited;
use crate::tunnel::Tunnel;

/// How long a connect waits by default.
const CONNECT_MS: u32 = 30_000;

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// An attempt of an endpoint, as those know it who are to answer.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) endpoint: Arc<Endpoint>,
    number: u32,
}

impl Attempt {
    /// The peer accepted. `false`: nobody waits for it, and the channel is the
    /// caller's to close.
    #[must_use]
    pub(crate) fn connected(&self, channel: &Arc<Channel>) -> bool {
        self.endpoint.connected(self.number, channel)
    }

    /// It failed.
    pub(crate) fn refused(&self, errno: Errno) {
        self.endpoint.refused(self.number, errno);
    }

    /// Nobody waits for it any more.
    pub(crate) fn give_up(&self, errno: Errno) {
        self.endpoint.give_up(self.number, errno);
    }

    /// Asks a tunnel.
    fn ask_by(&self, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        if let Err(errno) = tunnel.connect(self, wanted) {
            self.refused(errno);
        }
    }

    fn wait_for_tunnel(&self, wanted: Wanted) {
        let hub = &self.endpoint.hub;
        if hub.wait_for_tunnel(self, wanted).is_err() {
            self.refused(Errno::NoSpace);
        } else if !self.is_awaited() {
            // It was given up before it was in the list.
            hub.wish.abandon(self);
        }
    }

    /// There is a tunnel for an attempt that waited for one.
    pub(crate) fn go_on(&self, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        {
            let mut inner = self.endpoint.inner.lock();
            if !inner.awaits(self.number) {
                return;
            }
            inner.state = State::Connecting {
                tunnel: Some(tunnel.clone()),
            };
        }
        self.ask_by(tunnel, wanted);
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_awaited(&self) -> bool {
        self.endpoint.inner.lock().awaits(self.number)
    }

    /// Whether it is the same.
    pub(crate) fn is(&self, other: &Attempt) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint) && self.number == other.number
    }
}

/// Whom a connect, a publish or a subscribe is to reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    domid: u16,
    port: u32,
    kind: Kind,
    name: Option<Name>,
}

/// The last attempt.
pub(super) struct Last {
    number: u32,
    target: Option<Target>,
    /// When it ends without an answer.
    deadline: u64,
    /// Why it failed, for all who waited for it.
    failed: Errno,
    /// A signal ended the waiting, and nobody was told yet what came of it.
    untold: bool,
    /// The reaper ends it.
    watched: bool,
}

impl Last {
    /// There was none.
    pub(super) const NONE: Self = Self {
        number: 0,
        target: None,
        deadline: 0,
        failed: Errno::NetDown,
        untold: false,
        watched: false,
    };

    /// Somebody was told what came of it.
    pub(super) fn is_told(&mut self) {
        self.untold = false;
    }
}

/// What a call is to do about an attempt.
enum Ask {
    /// Begin one.
    Begin,
    /// Wait for the one with this number.
    Wait(u32),
    /// Nothing: it connected.
    Done,
}

impl Inner {
    /// Whether the answer to an attempt is awaited.
    fn awaits(&self, number: u32) -> bool {
        matches!(self.state, State::Connecting { .. }) && self.last.number == number
    }

    /// Whether a channel may be asked for. What a signal kept from a caller is
    /// told when it asks for the same again.
    fn may_ask(&mut self, target: &Target, nonblock: bool) -> Result<Ask> {
        let same = self.last.target.as_ref() == Some(target);
        let untold = same && self.last.untold;
        match self.state {
            State::Connecting { .. } if nonblock || !same => Err(Errno::Already.into()),
            State::Connecting { .. } => {
                self.last.untold = false;
                Ok(Ask::Wait(self.last.number))
            }
            State::Connected if untold => {
                self.last.untold = false;
                Ok(Ask::Done)
            }
            State::Connected => Err(Errno::IsConn.into()),
            State::Listening { .. } => Err(EINVAL),
            State::Idle | State::Bound if untold => {
                self.last.untold = false;
                self.error = None;
                Err(self.last.failed.into())
            }
            State::Idle | State::Bound => Ok(Ask::Begin),
        }
    }

    /// An attempt begins; its number.
    fn begin(&mut self, tunnel: Option<Arc<Tunnel>>, target: Option<Target>, ms: u32) -> u32 {
        let number = self.last.number.wrapping_add(1);
        self.error = None;
        self.state = State::Connecting { tunnel };
        self.last = Last {
            number,
            target,
            deadline: clock().saturating_add(u64::from(ms).saturating_mul(MS)),
            ..Last::NONE
        };
        number
    }
}

impl Endpoint {
    /// Connects.
    pub(crate) fn connect(self: &Arc<Self>, request: &uapi::Connect, nonblock: bool) -> Result {
        let asked = request.check().map_err(invalid)?;
        let (domid, alias) = self.whom(request)?;
        let wanted = Wanted {
            ports: Ports {
                source: self.inner.lock().port,
                target: request.peer.port,
            },
            tx: asked.tx,
            rx: asked.rx,
            // The back asks in its own name, the front for somebody.
            domain: match (self.hub.role, alias) {
                (Role::Front, None) => domid.into(),
                _ => 0,
            },
            kind: asked.kind,
            name: alias,
        };
        self.ask(domid, wanted, request.timeout_ms, nonblock)
    }

    /// The domain that is asked for; from a guest, by alias, the back alone
    /// knows it.
    fn whom(&self, request: &uapi::Connect) -> Result<(u16, Option<Name>)> {
        let Some(name) = request.alias().map_err(invalid)? else {
            return Ok((request.peer.domid, None));
        };
        match self.hub.role {
            Role::Front => Ok((uapi::DOMID_ANY, Some(name))),
            Role::Back => {
                let domid = self.hub.policies.named(&name);
                Ok((domid.ok_or(Errno::HostUnreach)?, None))
            }
        }
    }

    /// Publishes to, or subscribes to, a group.
    pub(crate) fn join(
        self: &Arc<Self>,
        request: &uapi::Group,
        kind: Kind,
        nonblock: bool,
    ) -> Result {
        let JoinParams {
            channel,
            name,
            source,
        } = request.check(kind).map_err(invalid)?;
        let wanted = Wanted {
            ports: Ports { source, target: 1 },
            tx: channel.tx,
            rx: channel.rx,
            domain: 0,
            kind,
            name: Some(name),
        };
        self.ask(0, wanted, request.timeout_ms, nonblock)
    }

    /// The tunnel to a domain; none if it will be there when it is asked for.
    fn reach(&self, domid: u16) -> Result<Option<Arc<Tunnel>>> {
        match self.hub.reach(domid) {
            Ok(tunnel) => Ok(Some(tunnel)),
            Err(error) if self.hub.role == Role::Back || error != Errno::NetDown.into() => {
                Err(error)
            }
            Err(error) => self.hub.wish.is_heard().then_some(None).ok_or(error),
        }
    }

    /// Asks for a channel, unless that is under way, and waits for the answer or
    /// leaves that to the reaper.
    fn ask(self: &Arc<Self>, domid: u16, wanted: Wanted, ms: u32, nonblock: bool) -> Result {
        let target = Target {
            domid,
            port: wanted.ports.target,
            kind: wanted.kind,
            name: wanted.name,
        };
        let ask = self.inner.lock().may_ask(&target, nonblock)?;
        let ask = match ask {
            Ask::Begin => self.begin(&target, wanted, ms, nonblock)?,
            ask => ask,
        };
        match ask {
            Ask::Begin | Ask::Done => Ok(()),
            Ask::Wait(number) if nonblock => self.leave(number, Errno::InProgress.into()),
            Ask::Wait(number) => self.wait_answer(number),
        }
    }

    /// Begins an attempt, unless another thread was first.
    fn begin(
        self: &Arc<Self>,
        target: &Target,
        wanted: Wanted,
        ms: u32,
        nonblock: bool,
    ) -> Result<Ask> {
        // Reads xenstore, perhaps: not with the lock.
        let tunnel = match wanted.name {
            // Behind dom0, whoever it is.
            Some(_) => self.reach(0)?,
            None => self.reach(target.domid)?,
        };
        let ms = match ms {
            0 => CONNECT_MS,
            ms => ms,
        };
        let number = {
            let mut inner = self.inner.lock();
            match inner.may_ask(target, nonblock)? {
                Ask::Begin => {}
                ask => return Ok(ask),
            }
            inner.peer = uapi::Addr {
                domid: target.domid,
                reserved: 0,
                port: target.port,
            };
            // The answer takes this lock.
            inner.begin(tunnel.clone(), Some(*target), ms)
        };
        let attempt = self.attempt(number);
        match tunnel {
            Some(tunnel) => attempt.ask_by(&tunnel, wanted),
            None => attempt.wait_for_tunnel(wanted),
        }
        Ok(Ask::Wait(number))
    }

    /// The attempt with a number.
    fn attempt(self: &Arc<Self>, number: u32) -> Attempt {
        Attempt {
            endpoint: self.clone(),
            number,
        }
    }

    /// Begins the attempt of a leg, which has the time that its own asker has.
    pub(super) fn begin_leg(self: &Arc<Self>, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        let number = self.inner.lock().begin(Some(tunnel.clone()), None, 0);
        self.attempt(number).ask_by(tunnel, wanted);
    }

    /// Waits for the answer to an attempt, for what is left of its time.
    fn wait_answer(self: &Arc<Self>, number: u32) -> Result {
        loop {
            let change = Awaited::arm(&self.change);
            let left = {
                let mut inner = self.inner.lock();
                if inner.last.number != number {
                    // It is over, and another thread has begun the next one.
                    return Err(Errno::Already.into());
                }
                match inner.state {
                    State::Connecting { .. } => inner.last.deadline.saturating_sub(clock()),
                    State::Connected => return Ok(()),
                    _ => {
                        inner.error = None;
                        return Err(inner.last.failed.into());
                    }
                }
            };
            if left == 0 {
                self.give_up(number, Errno::TimedOut);
                continue;
            }
            let ms = u32::try_from(left.div_ceil(MS)).unwrap_or(u32::MAX);
            let jiffies = isize::try_from(msecs_to_jiffies(ms)).unwrap_or(isize::MAX);
            if let Err(error) = self.wait_change(change, Some(jiffies)) {
                return self.leave(number, error);
            }
        }
    }

    /// Leaves an attempt to the reaper, for its caller is told `told` instead of
    /// what comes of it.
    fn leave(self: &Arc<Self>, number: u32, told: Error) -> Result {
        {
            let mut inner = self.inner.lock();
            if inner.last.number == number {
                inner.last.untold = told == ERESTARTSYS;
            }
            if !inner.awaits(number) {
                return Err(told);
            }
            let deadline = inner.last.deadline;
            if self
                .hub
                .reaper
                .watch(self.attempt(number), deadline)
                .is_ok()
            {
                inner.last.watched = true;
                return Err(told);
            }
        }
        self.give_up(number, Errno::NoSpace);
        Err(Errno::NoSpace.into())
    }

    fn connected(&self, number: u32, channel: &Arc<Channel>) -> bool {
        let watched = {
            let mut inner = self.inner.lock();
            if !inner.awaits(number) {
                return false;
            }
            let ports = channel.ports;
            self.attach(&mut inner, channel.clone(), ports.source, ports.target);
            core::mem::take(&mut inner.last.watched)
        };
        self.answered(watched);
        true
    }

    fn refused(&self, number: u32, errno: Errno) {
        let watched = {
            let mut inner = self.inner.lock();
            if !inner.awaits(number) {
                return;
            }
            inner.state = if inner.bound {
                State::Bound
            } else {
                State::Idle
            };
            inner.error = Some(errno);
            inner.last.failed = errno;
            core::mem::take(&mut inner.last.watched)
        };
        self.answered(watched);
    }

    /// An attempt is over.
    fn answered(&self, watched: bool) {
        if watched {
            self.hub.reaper.forget(self);
        }
        self.kick();
    }

    /// Stops waiting for the answer to an attempt.
    fn give_up(self: &Arc<Self>, number: u32, errno: Errno) {
        let tunnel = {
            let inner = self.inner.lock();
            match &inner.state {
                State::Connecting { tunnel } if inner.last.number == number => tunnel.clone(),
                _ => return,
            }
        };
        let errno = match (&tunnel, errno) {
            // It is not the peer that was silent.
            (None, Errno::TimedOut) => Errno::NetDown,
            _ => errno,
        };
        let attempt = self.attempt(number);
        match tunnel {
            Some(tunnel) => tunnel.abandon(&attempt),
            None => self.hub.wish.abandon(&attempt),
        }
        self.refused(number, errno);
    }

    /// Stops waiting for whatever is awaited.
    pub(crate) fn end_attempt(self: &Arc<Self>, errno: Errno) {
        let number = self.inner.lock().last.number;
        self.give_up(number, errno);
    }
}

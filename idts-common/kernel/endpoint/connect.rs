// SPDX-License-Identifier: GPL-2.0

//! Connecting to a port or joining a group, and waiting for the answer.
//!
//! Each attempt has its own number, so that its answer, its timeout and its waiters are never
//! taken for those of the next one.

use idts_core::ioctl::JoinParams;
use idts_core::uapi;
use idts_core::wire::{Kind, Ports};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::time::msecs_to_jiffies;

use super::attempt::{Last, Target};
use super::endpoint::{Endpoint, Inner, State};
use crate::channel::Channel;
use crate::context::router::{Address, Destination};
use crate::sys::clock::clock;
use crate::sys::errno::{invalid, Errno};
use crate::sys::wait::Awaited;
use crate::tunnel::host::{Attempt, Carrier, OpenRequest, Opener};
use crate::tunnel::payer::Payer;

/// Default timeout of a connect, in milliseconds.
const CONNECT_MS: u32 = 30_000;

/// Nanoseconds per millisecond.
const MS: u64 = 1_000_000;

/// The next step of a call.
enum Ask {
    /// Begin an attempt.
    Begin,
    /// Wait for the attempt with this number.
    Wait(u32),
    /// Nothing: the attempt has connected.
    Done,
}

impl Inner {
    /// Returns whether an attempt waits for its answer.
    fn awaits(&self, number: u32) -> bool {
        matches!(self.state, State::Connecting { .. }) && self.last.number == number
    }

    /// Checks whether a channel may be requested. A call for the same target as one that a
    /// signal interrupted gets the result of that one.
    ///
    /// # Errors
    /// The result of the interrupted call, or the reason why this state allows no request.
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

    /// Begins an attempt and returns its number.
    fn begin(&mut self, tunnel: Option<Arc<dyn Carrier>>, target: Option<Target>, ms: u32) -> u32 {
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
    /// `IDTS_IOC_CONNECT`: connects to a port.
    ///
    /// # Errors
    /// The errno for user space.
    pub(crate) fn connect(self: &Arc<Self>, request: &uapi::Connect, nonblock: bool) -> Result {
        let asked = request.check().map_err(invalid)?;
        let destination = match request.alias().map_err(invalid)? {
            None => Destination::Domain(request.peer.domid),
            Some(alias) => Destination::Alias(alias),
        };
        let address = self.context.router.address(destination)?;
        let request_for_channel = OpenRequest {
            ports: Ports {
                source: self.inner.lock().port,
                target: request.peer.port,
            },
            tx: asked.tx,
            rx: asked.rx,
            domain: address.domain,
            kind: asked.kind,
            name: address.name,
        };
        self.ask(address, request_for_channel, request.timeout_ms, nonblock)
    }

    /// `IDTS_IOC_PUBLISH`, `IDTS_IOC_SUBSCRIBE`: joins a group.
    ///
    /// # Errors
    /// The errno for user space.
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
        let address = self.context.router.address(Destination::Group(name))?;
        let request_for_channel = OpenRequest {
            ports: Ports { source, target: 1 },
            tx: channel.tx,
            rx: channel.rx,
            domain: address.domain,
            kind,
            name: address.name,
        };
        self.ask(address, request_for_channel, request.timeout_ms, nonblock)
    }

    /// Requests a channel, unless that is under way, and waits for the answer or leaves the
    /// attempt to the timeouts.
    fn ask(
        self: &Arc<Self>,
        address: Address,
        request: OpenRequest,
        ms: u32,
        nonblock: bool,
    ) -> Result {
        let target = Target {
            address,
            port: request.ports.target,
            kind: request.kind,
        };
        let ask = self.inner.lock().may_ask(&target, nonblock)?;
        let ask = match ask {
            Ask::Begin => self.begin(&target, request, ms, nonblock)?,
            ask => ask,
        };
        match ask {
            Ask::Begin | Ask::Done => Ok(()),
            Ask::Wait(number) if nonblock => self.leave(number, Errno::InProgress.into()),
            Ask::Wait(number) => self.wait_answer(number),
        }
    }

    /// Begins an attempt, unless another thread has begun one.
    fn begin(
        self: &Arc<Self>,
        target: &Target,
        request: OpenRequest,
        ms: u32,
        nonblock: bool,
    ) -> Result<Ask> {
        // Not under the lock: this may read xenstore.
        let tunnel = self.context.router.route(&target.address)?;
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
                domid: target.address.domid,
                reserved: 0,
                port: target.port,
            };
            // The lock is released before the request, because the answer takes it.
            inner.begin(tunnel.clone(), Some(*target), ms)
        };
        let attempt = self.attempt(number);
        match tunnel {
            Some(tunnel) => attempt.ask(&tunnel, request),
            None => self.wait_for_tunnel(&attempt, request),
        }
        Ok(Ask::Wait(number))
    }

    /// Queues an attempt until there is a tunnel.
    fn wait_for_tunnel(&self, attempt: &Attempt, request: OpenRequest) {
        if self.context.router.wait(attempt, request).is_err() {
            attempt.refused(Errno::NoSpace);
        } else if !attempt.is_awaited() {
            // It was abandoned before it was in the queue.
            self.context.router.abandon(attempt);
        }
    }

    /// Returns the handle of the attempt with a number.
    fn attempt(self: &Arc<Self>, number: u32) -> Attempt {
        Attempt::new(self.clone(), number)
    }

    /// Waits for the answer to an attempt, for the rest of its time.
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
                self.end(number, Errno::TimedOut);
                continue;
            }
            let ms = u32::try_from(left.div_ceil(MS)).unwrap_or(u32::MAX);
            let jiffies = isize::try_from(msecs_to_jiffies(ms)).unwrap_or(isize::MAX);
            if let Err(error) = self.wait_change(change, Some(jiffies)) {
                return self.leave(number, error);
            }
        }
    }

    /// Leaves an attempt to the timeouts, because its caller returns `told` before the result is
    /// known.
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
            let (timeouts, attempt) = (&self.context.timeouts, self.attempt(number));
            if timeouts.watch(&**self, attempt, deadline).is_ok() {
                inner.last.watched = true;
                return Err(told);
            }
        }
        self.end(number, Errno::NoSpace);
        Err(Errno::NoSpace.into())
    }

    /// Wakes the waiters of an attempt that is over.
    fn answered(&self, watched: bool) {
        if watched {
            self.context.timeouts.forget(self);
        }
        self.kick();
    }

    /// Ends an attempt with an errno, and abandons its request.
    fn end(self: &Arc<Self>, number: u32, errno: Errno) {
        let tunnel = {
            let inner = self.inner.lock();
            match &inner.state {
                State::Connecting { tunnel } if inner.last.number == number => tunnel.clone(),
                _ => return,
            }
        };
        let errno = match (&tunnel, errno) {
            // Without a tunnel it is not the peer that timed out.
            (None, Errno::TimedOut) => Errno::NetDown,
            _ => errno,
        };
        let attempt = self.attempt(number);
        match tunnel {
            Some(tunnel) => tunnel.abandon(&attempt),
            None => self.context.router.abandon(&attempt),
        }
        self.as_arc_borrow().refused(number, errno);
    }

    /// Ends the attempt that is under way, if there is one.
    pub(super) fn end_attempt(self: &Arc<Self>, errno: Errno) {
        let number = self.inner.lock().last.number;
        self.end(number, errno);
    }
}

impl Opener for Endpoint {
    fn opened(self: ArcBorrow<'_, Self>, attempt: u32, channel: &Arc<Channel>) -> bool {
        let watched = {
            let mut inner = self.inner.lock();
            if !inner.awaits(attempt) {
                return false;
            }
            let ports = channel.ports;
            self.attach(&mut inner, channel.clone(), ports.source, ports.target);
            core::mem::take(&mut inner.last.watched)
        };
        self.answered(watched);
        true
    }

    fn refused(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno) {
        let watched = {
            let mut inner = self.inner.lock();
            if !inner.awaits(attempt) {
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

    fn awaits(&self, attempt: u32) -> bool {
        self.inner.lock().awaits(attempt)
    }

    fn has_tunnel(&self, attempt: u32, tunnel: &Arc<dyn Carrier>) -> bool {
        let mut inner = self.inner.lock();
        let awaits = inner.awaits(attempt);
        if awaits {
            inner.state = State::Connecting {
                tunnel: Some(tunnel.clone()),
            };
        }
        awaits
    }

    fn give_up(self: ArcBorrow<'_, Self>, attempt: u32, errno: Errno) {
        Arc::from(self).end(attempt, errno);
    }

    fn payer(&self) -> Option<&Arc<Payer>> {
        Some(Endpoint::payer(self))
    }
}

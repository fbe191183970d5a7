// SPDX-License-Identifier: GPL-2.0

//! Asking for a channel or a group, and waiting for the answer.

use idts_core::control::Role;
use idts_core::uapi;
use idts_core::wire::{Kind, Name, Ports};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::msecs_to_jiffies;

use super::{Endpoint, Inner, State};
use crate::channel::Channel;
use crate::errno::Errno;
use crate::opening::Wanted;
use crate::patience::clock;
use crate::tunnel::Tunnel;
use crate::wait::Woken;
use crate::wish::Wish;

/// How long a connect waits by default.
const CONNECT_MS: u32 = 30_000;

impl Endpoint {
    /// Connects.
    pub(crate) fn connect(self: &Arc<Self>, request: &uapi::Connect, nonblock: bool) -> Result {
        let asked = request.check().ok_or(EINVAL)?;
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
        self.ask(domid, wanted, nonblock)?;
        self.wait_answer(request.timeout_ms, nonblock)
    }

    /// The domain that is asked for; from a guest, by alias, the back alone
    /// knows it.
    fn whom(&self, request: &uapi::Connect) -> Result<(u16, Option<Name>)> {
        let Some(name) = request.alias().ok_or(EINVAL)? else {
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
        let (asked, name, how) = request.check(kind).ok_or(EINVAL)?;
        let wanted = Wanted {
            ports: Ports {
                source: how,
                target: 1,
            },
            tx: asked.tx,
            rx: asked.rx,
            domain: 0,
            kind,
            name: Some(name),
        };
        self.ask(0, wanted, nonblock)?;
        self.wait_answer(request.timeout_ms, nonblock)
    }

    /// Whether a channel may be asked for; `false`: it was already.
    fn may_ask(&self, inner: &Inner, nonblock: bool) -> Result<bool> {
        match inner.state {
            State::Connecting { .. } if nonblock => Err(Errno::Already.into()),
            State::Connecting { .. } => Ok(false),
            State::Connected => Err(Errno::IsConn.into()),
            State::Listening { .. } => Err(EINVAL),
            State::Idle | State::Bound => Ok(true),
        }
    }

    /// The tunnel to a domain; none if it will be there when it is asked for.
    fn reach(&self, domid: u16) -> Result<Option<Arc<Tunnel>>> {
        match self.hub.reach(domid) {
            Ok(tunnel) => Ok(Some(tunnel)),
            Err(error) if self.hub.role == Role::Back || error != Errno::NetDown.into() => {
                Err(error)
            }
            Err(error) => Wish::is_heard().then_some(None).ok_or(error),
        }
    }

    /// Asks for a channel, unless that is under way.
    fn ask(self: &Arc<Self>, domid: u16, wanted: Wanted, nonblock: bool) -> Result {
        if !self.may_ask(&self.inner.lock(), nonblock)? {
            return Ok(());
        }
        // Reads xenstore, perhaps: not with the lock.
        let tunnel = match wanted.name {
            // Behind dom0, whoever it is.
            Some(_) => self.reach(0)?,
            None => self.reach(domid)?,
        };
        {
            let mut inner = self.inner.lock();
            if !self.may_ask(&inner, nonblock)? {
                return Ok(());
            }
            inner.error = None;
            inner.state = State::Connecting {
                tunnel: tunnel.clone(),
            };
            inner.peer = uapi::Addr {
                domid,
                reserved: 0,
                port: wanted.ports.target,
            };
            // The answer takes this lock.
        }
        match tunnel {
            Some(tunnel) => self.ask_by(&tunnel, wanted),
            None => {
                if self.hub.wait_for_tunnel(self, wanted).is_err() {
                    self.refused(Errno::NoSpace);
                }
            }
        }
        Ok(())
    }

    fn ask_by(self: &Arc<Self>, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        if let Err(errno) = tunnel.connect(self, wanted) {
            self.refused(errno);
        }
    }

    /// There is a tunnel for a connect that waited for one.
    pub(crate) fn go_on(self: &Arc<Self>, tunnel: &Arc<Tunnel>, wanted: Wanted) {
        {
            let mut inner = self.inner.lock();
            let State::Connecting { tunnel: place } = &mut inner.state else {
                return;
            };
            *place = Some(tunnel.clone());
        }
        self.ask_by(tunnel, wanted);
    }

    /// Waits for the answer to what was asked, or leaves that to the reaper.
    fn wait_answer(self: &Arc<Self>, timeout_ms: u32, nonblock: bool) -> Result {
        let ms = match timeout_ms {
            0 => CONNECT_MS,
            ms => ms,
        };
        if nonblock {
            let deadline = clock().saturating_add(u64::from(ms).saturating_mul(1_000_000));
            if let Err(error) = self.hub.reaper.watch(self.clone(), deadline) {
                self.give_up(Errno::NoSpace);
                return Err(error);
            }
            return Err(Errno::InProgress.into());
        }
        let jiffies = isize::try_from(msecs_to_jiffies(ms)).unwrap_or(isize::MAX);
        loop {
            self.change.arm();
            {
                let mut inner = self.inner.lock();
                match inner.state {
                    State::Connecting { .. } => {}
                    State::Connected => return Ok(()),
                    _ => {
                        let error = inner.error.take().unwrap_or(Errno::NetDown);
                        return Err(error.into());
                    }
                }
            }
            if self.wait_change(Some(jiffies))? == Woken::TimedOut {
                self.give_up(Errno::TimedOut);
            }
        }
    }

    /// Whether an answer is awaited.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.inner.lock().state, State::Connecting { .. })
    }

    /// The peer accepted. `false`: nobody waits for it, and the channel is the
    /// caller's to close.
    #[must_use]
    pub(crate) fn connected(&self, channel: &Arc<Channel>) -> bool {
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.state, State::Connecting { .. }) {
                return false;
            }
            let ports = channel.ports;
            self.attach(&mut inner, channel.clone(), ports.source, ports.target);
        }
        self.kick();
        true
    }

    /// The connect failed.
    pub(crate) fn refused(&self, errno: Errno) {
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.state, State::Connecting { .. }) {
                return;
            }
            inner.state = if inner.bound {
                State::Bound
            } else {
                State::Idle
            };
            inner.error = Some(errno);
        }
        self.kick();
    }

    /// Stops waiting for an answer.
    pub(crate) fn give_up(&self, errno: Errno) {
        let tunnel = match &self.inner.lock().state {
            State::Connecting { tunnel } => tunnel.clone(),
            _ => return,
        };
        let errno = match (&tunnel, errno) {
            // It is not the peer that was silent.
            (None, Errno::TimedOut) => Errno::NetDown,
            _ => errno,
        };
        match tunnel {
            Some(tunnel) => tunnel.abandon(self),
            None => self.hub.wish.abandon(self),
        }
        self.refused(errno);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The backend driver on xenbus: carries out the steps that `idts_core::state` decides.

use idts_core::sched::FLOWS;
use idts_core::state::{back, BackStep, Phase, XenbusState};
use idts_core::token_bucket::TokenBucket;
use idts_kernel::context::Context;
use idts_kernel::sys::clock::clock;
use idts_kernel::sys::errno::Errno;
use idts_kernel::tunnel::{negotiate, Tunnel};
use idts_kernel::xen::xenbus::{Device, Driver, End, Next};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Arc, Mutex};

/// The backend driver.
pub(crate) struct Back;

/// Rate limit for set-ups of a device, whichever side ended the last tunnel: so many at once,
/// then one in so many milliseconds. A front must not keep xenwatch busy, which serves all
/// devices of dom0; a set-up takes it some 50 ms.
static BURST: Atomic<u32> = Atomic::new(1);
static EVERY_MS: Atomic<u32> = Atomic::new(0);

/// Sets the rate limit for set-ups of a device: `burst` at once, then one in `ms` milliseconds.
pub(crate) fn set_pace(burst: u32, ms: u32) {
    BURST.store(burst, Relaxed);
    EVERY_MS.store(ms, Relaxed);
}

/// The token bucket of set-ups.
fn pace() -> TokenBucket {
    TokenBucket {
        burst: BURST.load(Relaxed),
        interval_ns: u64::from(EVERY_MS.load(Relaxed)).wrapping_mul(NS_PER_MS),
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// The error of a tunnel beyond the limit. One of the scheduler's flows is dom0's loopback
/// tunnel.
const FULL: &CStr = c"255 domains have a tunnel, which is the most";
const _: () = assert!(FLOWS == 256);

/// The state of a device.
struct Session {
    context: Arc<Context>,
    phase: Phase,
    tunnel: Option<Arc<Tunnel>>,
    /// Time at which the bucket of set-ups is full. Only time and a new device fill it.
    full_at: u64,
    /// Set while the announcement waits for a token.
    held: bool,
    /// Set once it is logged that the front cannot make an offer.
    refused: bool,
    /// Set once it is logged that the device was connected. From then on [`Services::may_log`]
    /// limits the lines that the front causes.
    connected: bool,
}

/// A bound device. The lock serialises xenwatch and the work queue.
#[pin_data]
pub(crate) struct Bound {
    #[pin]
    session: Mutex<Session>,
}

impl Session {
    /// Ends the tunnel and unmaps its memory.
    fn unmap(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            self.context.stop(&tunnel, Errno::ConnReset);
            tunnel.give_back();
        }
        self.phase = Phase::Down;
    }

    /// Announces this side's capabilities and waits for the front, which may set up once then.
    /// Without a token the device stays Closed.
    fn announce(&mut self, device: &Device) -> Result {
        let Some(full_at) = pace().take(self.full_at, clock()) else {
            self.held = true;
            device.switch_state(XenbusState::Closed);
            if self.context.services.may_log(device.peer()) {
                dev_warn!(
                    device.device(),
                    "domain {} sets its tunnel up too often and has to wait\n",
                    device.peer()
                );
            }
            return Ok(());
        };
        self.full_at = full_at;
        self.held = false;
        negotiate::announce(device)?;
        device.switch_state(XenbusState::InitWait);
        Ok(())
    }

    /// Milliseconds until there is a token for the announcement.
    fn wait_ms(&self) -> u32 {
        let ns = pace().wait(self.full_at, clock());
        ns.div_ceil(NS_PER_MS).try_into().unwrap_or(u32::MAX)
    }

    /// Decides the next step for a state of the front.
    fn decide(&self, device: &Device, state: XenbusState) -> BackStep {
        let offers = matches!(state, XenbusState::Initialised | XenbusState::Connected);
        if offers && self.tunnel.as_ref().is_some_and(|t| t.is_stale(device)) {
            return BackStep::Reset;
        }
        let online = device.is_online();
        if self.held && online && state != XenbusState::Unknown {
            return match self.wait_ms() {
                0 => BackStep::Announce,
                _ => BackStep::Stay,
            };
        }
        let waiting = device.state() == XenbusState::InitWait;
        back(self.phase, waiting, online, state)
    }

    /// Carries out a step.
    fn step(&mut self, device: &Device, (state, step): (XenbusState, BackStep)) -> Result<Next> {
        match step {
            BackStep::Stay => {
                // Logged once: a front that closes again and again must not fill the log.
                let down = self.phase == Phase::Down && !self.held;
                let closed = state == XenbusState::Closed && down;
                self.refused = self.refused
                    || closed && negotiate::was_refused(device, &self.context.services);
            }
            BackStep::Announce => self.announce(device)?,
            BackStep::Map => {
                let tunnel = Tunnel::map(device, &self.context.services, self.context.clone())?;
                self.tunnel = Some(tunnel.clone());
                self.phase = Phase::Up;
                self.refused = false;
                self.context.start(&tunnel)?;
                device.switch_state(XenbusState::Connected);
                if !core::mem::replace(&mut self.connected, true) {
                    dev_info!(device.device(), "connected to domain {}\n", device.peer());
                }
            }
            // Unmapped already, and visible to the front.
            BackStep::Unmap
                if self.phase == Phase::Down && device.state() == XenbusState::Closed => {}
            BackStep::Unmap => {
                // A front whose domain shuts down waits for this.
                device.switch_state(XenbusState::Closing);
                self.unmap();
                device.switch_state(XenbusState::Closed);
            }
            BackStep::Reset => {
                self.unmap();
                device.switch_state(XenbusState::Closed);
                if !device.is_online() {
                    return Ok(Next::Unregister);
                }
                self.announce(device)?;
            }
            BackStep::Unregister => {
                self.unmap();
                return Ok(Next::Unregister);
            }
        }
        Ok(Next::Stay)
    }
}

impl Driver for Back {
    const END: End = End::Back;
    type Data = Arc<Bound>;

    fn probe(device: &Device) -> Result<Self::Data> {
        let context = Context::current()?;
        let bound = Arc::pin_init(
            pin_init!(Bound {
                session <- new_mutex!(Session {
                    context,
                    phase: Phase::Down,
                    tunnel: None,
                    full_at: 0,
                    held: false,
                    refused: false,
                    connected: false,
                }),
            }),
            GFP_KERNEL,
        )?;
        bound.session.lock().announce(device)?;
        Ok(bound)
    }

    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next {
        let mut session = data.session.lock();
        let mut state = state;
        loop {
            let step = session.decide(device, state);
            match session.step(device, (state, step)) {
                Ok(Next::Unregister) => return Next::Unregister,
                // The front may have changed its state during the unmapping or the wait.
                Ok(_) if matches!(step, BackStep::Reset | BackStep::Announce) && !session.held => {
                    state = device.peer_state();
                }
                Ok(_) if session.held => return Next::Again(session.wait_ms()),
                Ok(next) => return next,
                Err(error) => {
                    // The tunnel is mapped, but the scheduler has no free slot.
                    if error == ENOSPC && session.phase == Phase::Up {
                        device.report_error(
                            error,
                            FULL,
                            session.context.services.may_log(device.peer()),
                        );
                    } else if session.context.services.may_log(device.peer()) {
                        dev_err!(device.device(), "{:?} failed: {:?}\n", step, error);
                    }
                    session.unmap();
                    device.switch_state(XenbusState::Closing);
                    return Next::Stay;
                }
            }
        }
    }

    fn unbind(device: &Device, data: &Self::Data) {
        device.switch_state(XenbusState::Closing);
        data.session.lock().unmap();
    }

    fn restored(data: &Self::Data) {
        let mut session = data.session.lock();
        if let Some(tunnel) = session.tunnel.take() {
            session.context.lose(&tunnel, Errno::ConnReset);
            tunnel.give_back();
        }
        session.phase = Phase::Down;
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The frontend driver on xenbus: carries out the steps that `idts_core::state` decides.

use idts_core::state::{front, FrontStep, Phase, XenbusState};
use idts_kernel::context::Context;
use idts_kernel::sys::errno::Errno;
use idts_kernel::tunnel::Tunnel;
use idts_kernel::xen::xenbus::{Device, Driver, End, Next};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The frontend driver.
pub(crate) struct Front;

/// The state of a device.
struct Session {
    context: Arc<Context>,
    phase: Phase,
    tunnel: Option<Arc<Tunnel>>,
    /// Set once it is logged that the device was connected. From then on the lines that the back
    /// causes are rate-limited.
    connected: bool,
}

/// A bound device. The callbacks never overlap; the lock only proves that to Rust.
#[pin_data]
pub(crate) struct Bound {
    #[pin]
    session: Mutex<Session>,
}

impl Session {
    /// Ends the tunnel and wakes all waiters.
    fn stop(&self) {
        if let Some(tunnel) = &self.tunnel {
            self.context.stop(tunnel, Errno::ConnReset);
        }
    }

    /// Ends the grants, after the back has unmapped them or is gone.
    fn release(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            self.context.stop(&tunnel, Errno::ConnReset);
            tunnel.give_back();
        }
        self.phase = Phase::Down;
    }

    /// Carries out a step.
    fn step(&mut self, device: &Device, step: FrontStep) -> Result {
        match step {
            FrontStep::Stay => {}
            FrontStep::Offer => {
                self.tunnel = Some(Tunnel::offer(
                    device,
                    &self.context.services,
                    self.context.clone(),
                )?);
                self.phase = Phase::Offered;
                device.switch_state(XenbusState::Initialised);
            }
            FrontStep::Connect => {
                if let Some(tunnel) = &self.tunnel {
                    self.context.start(tunnel)?;
                }
                self.phase = Phase::Up;
                device.switch_state(XenbusState::Connected);
                if !core::mem::replace(&mut self.connected, true) {
                    dev_info!(device.device(), "connected to domain {}\n", device.peer());
                }
            }
            FrontStep::Drain => {
                self.stop();
                self.phase = Phase::Draining;
                device.switch_state(XenbusState::Closing);
            }
            FrontStep::Release | FrontStep::Abandon => {
                self.release();
                device.frontend_closed();
            }
        }
        Ok(())
    }
}

impl Driver for Front {
    const END: End = End::Front;
    type Data = Arc<Bound>;

    fn probe(_device: &Device) -> Result<Self::Data> {
        let context = Context::current()?;
        Arc::pin_init(
            pin_init!(Bound {
                session <- new_mutex!(Session {
                    context,
                    phase: Phase::Down,
                    tunnel: None,
                    connected: false,
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next {
        let mut session = data.session.lock();
        let mut state = state;
        loop {
            let was = session.phase;
            let step = front(was, state);
            if was == Phase::Offered && matches!(state, XenbusState::Closing | XenbusState::Closed)
            {
                if session.context.services.may_log(device.peer()) {
                    dev_err!(
                        device.device(),
                        "domain {} closed the tunnel before it stood; if it refused it, its log says why\n",
                        device.peer()
                    );
                }
            }
            if let Err(error) = session.step(device, step) {
                if session.context.services.may_log(device.peer()) {
                    dev_err!(device.device(), "{:?} failed: {:?}\n", step, error);
                }
                session.release();
                if device.state() == XenbusState::Closed {
                    // The back acts when this state changes.
                    device.switch_state(XenbusState::Initialising);
                }
                device.frontend_closed();
                return Next::Stay;
            }
            // The back may have changed its state during the release.
            let released = matches!(step, FrontStep::Release | FrontStep::Abandon);
            if !released || was == Phase::Down {
                return Next::Stay;
            }
            state = device.peer_state();
        }
    }

    fn unbind(device: &Device, data: &Self::Data) {
        let mut session = data.session.lock();
        session.stop();
        // The back unmaps in this state, and the grants end then. Nothing waits here, because
        // this may be the xenwatch thread.
        device.switch_state(XenbusState::Closing);
        session.release();
    }

    fn restored(data: &Self::Data) {
        // The new domain's grant table is empty and its event channels are unbound. Ending ours
        // finds that out, and affects no others.
        let mut session = data.session.lock();
        if let Some(tunnel) = session.tunnel.take() {
            session.context.lose(&tunnel, Errno::ConnReset);
            tunnel.give_back();
        }
        session.phase = Phase::Down;
        let context = session.context.clone();
        drop(session);
        context.router.restored();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The frontend's life on xenbus: carries out what `idts_core::state` decides.

use idts_core::state::{front, FrontStep, Phase, XenbusState};
use idts_kernel::hub::Hub;
use idts_kernel::sys::errno::Errno;
use idts_kernel::tunnel::Tunnel;
use idts_kernel::xen::xenbus::{Device, Driver, End, Next};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The frontend driver.
pub(crate) struct Front;

struct Link {
    phase: Phase,
    tunnel: Option<Arc<Tunnel>>,
    /// The log has it that the device was connected. What the back causes after
    /// that is for [`Hub::may_say`].
    connected: bool,
}

/// A bound device. The callbacks never overlap; the lock says so to Rust.
#[pin_data]
pub(crate) struct Bound {
    hub: Arc<Hub>,
    #[pin]
    link: Mutex<Link>,
}

impl Link {
    /// Marks the tunnel dead and wakes everyone.
    fn stop(&self) {
        if let Some(tunnel) = &self.tunnel {
            tunnel.stop(Errno::ConnReset);
        }
    }

    /// Ends the grants, after the back unmapped them or went away.
    fn release(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            tunnel.stop(Errno::ConnReset);
            tunnel.give_back();
        }
        self.phase = Phase::Down;
    }

    fn step(&mut self, device: &Device, bound: &Bound, step: FrontStep) -> Result {
        match step {
            FrontStep::Stay => {}
            FrontStep::Offer => {
                self.tunnel = Some(Tunnel::offer(device, &bound.hub)?);
                self.phase = Phase::Offered;
                device.switch_state(XenbusState::Initialised);
            }
            FrontStep::Connect => {
                if let Some(tunnel) = &self.tunnel {
                    tunnel.start()?;
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
        let hub = Hub::current()?;
        Arc::pin_init(
            pin_init!(Bound {
                hub,
                link <- new_mutex!(Link { phase: Phase::Down, tunnel: None, connected: false }),
            }),
            GFP_KERNEL,
        )
    }

    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next {
        let mut link = data.link.lock();
        let mut state = state;
        loop {
            let was = link.phase;
            let step = front(was, state);
            if was == Phase::Offered && matches!(state, XenbusState::Closing | XenbusState::Closed)
            {
                if data.hub.may_say(device.peer()) {
                    dev_err!(
                        device.device(),
                        "domain {} closed the tunnel before it stood; if it refused it, its log says why\n",
                        device.peer()
                    );
                }
            }
            if let Err(error) = link.step(device, data, step) {
                if data.hub.may_say(device.peer()) {
                    dev_err!(device.device(), "{:?} failed: {:?}\n", step, error);
                }
                link.release();
                if device.state() == XenbusState::Closed {
                    // The back looks when that changes.
                    device.switch_state(XenbusState::Initialising);
                }
                device.frontend_closed();
                return Next::Stay;
            }
            // The back may have gone on while we gave things back.
            let released = matches!(step, FrontStep::Release | FrontStep::Abandon);
            if !released || was == Phase::Down {
                return Next::Stay;
            }
            state = device.peer_state();
        }
    }

    fn unbind(device: &Device, data: &Self::Data) {
        let mut link = data.link.lock();
        link.stop();
        // The back unmaps on this; the reaper ends the grants then. Nothing
        // waits here: this may be the xenwatch thread.
        device.switch_state(XenbusState::Closing);
        link.release();
    }

    fn restored(data: &Self::Data) {
        // The new domain's grant table is empty, and its events are unbound:
        // ending ours finds that out, and touches nobody else's.
        let mut link = data.link.lock();
        if let Some(tunnel) = link.tunnel.take() {
            tunnel.lose(Errno::ConnReset);
            tunnel.give_back();
        }
        link.phase = Phase::Down;
        drop(link);
        data.hub.restored();
    }
}

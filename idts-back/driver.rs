// SPDX-License-Identifier: GPL-2.0

//! The backend's life on xenbus: carries out what `idts_core::state` decides.

use idts_core::state::{back, BackStep, Phase, XenbusState};
use idts_kernel::errno::Errno;
use idts_kernel::hub::Hub;
use idts_kernel::tunnel::{self, Tunnel};
use idts_kernel::xenbus::{Device, Driver, End, Next};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The backend driver.
pub(crate) struct Back;

/// Set-ups and tunnels in a row that the front may spoil: after that the device
/// stays closed until the toolstack attaches it anew, so that a front cannot keep
/// dom0 and its log busy.
const FAILURES_MAX: u32 = 3;

struct Link {
    phase: Phase,
    tunnel: Option<Arc<Tunnel>>,
    failures: u32,
    /// The log has it that the front can offer nothing.
    refused: bool,
}

/// A bound device. The callbacks never overlap; the lock says so to Rust.
#[pin_data]
pub(crate) struct Bound {
    hub: Arc<Hub>,
    #[pin]
    link: Mutex<Link>,
}

/// Says what we can and waits for the front.
fn announce(device: &Device) -> Result {
    tunnel::announce(device)?;
    device.switch(XenbusState::InitWait);
    Ok(())
}

impl Link {
    /// Marks the tunnel dead and unmaps everything, newest first.
    fn unmap(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            self.failures = match tunnel.is_broken() {
                true => self.failures.saturating_add(1),
                false => 0,
            };
            tunnel.stop(Errno::ConnReset);
            tunnel.give_back();
        }
        self.phase = Phase::Down;
    }

    /// What to do about the front's state.
    fn decide(&self, device: &Device, state: XenbusState) -> BackStep {
        let offers = matches!(state, XenbusState::Initialised | XenbusState::Connected);
        if offers && self.tunnel.as_ref().is_some_and(|t| t.is_stale(device)) {
            return BackStep::Reset;
        }
        let online = device.is_online();
        let given_up = device.state() == XenbusState::Closed && self.failures >= FAILURES_MAX;
        if given_up && online && state != XenbusState::Unknown {
            return BackStep::Stay;
        }
        let waiting = device.state() == XenbusState::InitWait;
        back(self.phase, waiting, online, state)
    }

    fn step(
        &mut self,
        device: &Device,
        hub: &Arc<Hub>,
        (state, step): (XenbusState, BackStep),
    ) -> Result<Next> {
        match step {
            BackStep::Stay => {
                // Once: a front that closes again and again must not fill the log.
                let closed = state == XenbusState::Closed && self.phase == Phase::Down;
                self.refused = self.refused || closed && tunnel::was_refused(device);
            }
            BackStep::Announce => announce(device)?,
            BackStep::Map => {
                let tunnel = Tunnel::map(device, hub)?;
                self.tunnel = Some(tunnel.clone());
                self.phase = Phase::Up;
                self.refused = false;
                tunnel.start()?;
                device.switch(XenbusState::Connected);
                dev_info!(device.device(), "connected to domain {}\n", device.peer());
            }
            BackStep::Unmap => {
                // A front whose domain shuts down waits for this.
                device.switch(XenbusState::Closing);
                self.unmap();
                device.switch(XenbusState::Closed);
            }
            BackStep::Reset => {
                self.unmap();
                device.switch(XenbusState::Closed);
                if !device.is_online() {
                    return Ok(Next::Unregister);
                }
                if self.failures >= FAILURES_MAX {
                    dev_err!(device.device(), "closed until it is attached anew\n");
                } else {
                    announce(device)?;
                }
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
        let hub = Hub::current()?;
        announce(device)?;
        Arc::pin_init(
            pin_init!(Bound {
                hub,
                link <- new_mutex!(Link { phase: Phase::Down, tunnel: None, failures: 0, refused: false }),
            }),
            GFP_KERNEL,
        )
    }

    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next {
        let mut link = data.link.lock();
        let mut state = state;
        loop {
            let step = link.decide(device, state);
            match link.step(device, &data.hub, (state, step)) {
                Ok(Next::Unregister) => return Next::Unregister,
                // The front may have gone on while we unmapped.
                Ok(Next::Stay) if step == BackStep::Reset => state = device.peer_state(),
                Ok(Next::Stay) => return Next::Stay,
                Err(error) => {
                    dev_err!(device.device(), "{:?} failed: {:?}\n", step, error);
                    link.failures = link.failures.saturating_add(1);
                    link.unmap();
                    device.switch(XenbusState::Closing);
                    return Next::Stay;
                }
            }
        }
    }

    fn unbind(device: &Device, data: &Self::Data) {
        device.switch(XenbusState::Closing);
        data.link.lock().unmap();
    }

    fn restored(data: &Self::Data) {
        data.link.lock().unmap();
    }
}

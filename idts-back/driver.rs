// SPDX-License-Identifier: GPL-2.0

//! The backend's life on xenbus: carries out what `idts_core::state` decides.

use idts_core::nodes;
use idts_core::state::{back, BackStep, Phase, XenbusState};
use idts_kernel::errno::Errno;
use idts_kernel::hub::Hub;
use idts_kernel::tunnel::{Tunnel, VERSIONS};
use idts_kernel::xenbus::{Device, Driver, End, Next};
use kernel::prelude::*;
use kernel::sync::{new_mutex, Arc, Mutex};

/// The backend driver.
pub(crate) struct Back;

struct Link {
    phase: Phase,
    tunnel: Option<Arc<Tunnel>>,
}

/// A bound device. The callbacks never overlap; the lock says so to Rust.
#[pin_data]
pub(crate) struct Bound {
    hub: Arc<Hub>,
    #[pin]
    link: Mutex<Link>,
}

/// Announces the versions that we speak and waits for the front.
fn announce(device: &Device) -> Result {
    device.write(nodes::MIN_VERSION, VERSIONS.0)?;
    device.write(nodes::MAX_VERSION, VERSIONS.1)?;
    device.switch(XenbusState::InitWait);
    Ok(())
}

impl Link {
    /// Marks the tunnel dead and unmaps everything, newest first.
    fn unmap(&mut self) {
        if let Some(tunnel) = self.tunnel.take() {
            tunnel.stop(Errno::ConnReset);
            tunnel.give_back();
        }
        self.phase = Phase::Down;
    }

    fn step(&mut self, device: &Device, hub: &Arc<Hub>, step: BackStep) -> Result<Next> {
        match step {
            BackStep::Stay => {}
            BackStep::Announce => announce(device)?,
            BackStep::Map => {
                let tunnel = Tunnel::map(device, hub)?;
                self.tunnel = Some(tunnel.clone());
                self.phase = Phase::Up;
                tunnel.start()?;
                device.switch(XenbusState::Connected);
                dev_info!(device.device(), "connected to domain {}\n", device.peer());
            }
            BackStep::Unmap => {
                self.unmap();
                device.switch(XenbusState::Closed);
            }
            BackStep::Reset => {
                self.unmap();
                device.switch(XenbusState::Closed);
                if !device.is_online() {
                    return Ok(Next::Unregister);
                }
                announce(device)?;
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
                link <- new_mutex!(Link { phase: Phase::Down, tunnel: None }),
            }),
            GFP_KERNEL,
        )
    }

    fn peer_changed(device: &Device, data: &Self::Data, state: XenbusState) -> Next {
        let mut link = data.link.lock();
        let waiting = device.state() == XenbusState::InitWait;
        let step = back(link.phase, waiting, device.is_online(), state);
        match link.step(device, &data.hub, step) {
            Ok(next) => next,
            Err(error) => {
                dev_err!(device.device(), "{:?} failed: {:?}\n", step, error);
                link.unmap();
                device.switch(XenbusState::Closing);
                Next::Stay
            }
        }
    }

    fn unbind(device: &Device, data: &Self::Data) {
        device.switch(XenbusState::Closing);
        data.link.lock().unmap();
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The peer whose pages are mapped and whose port is bound.
//!
//! Xen asks for a domain id there, as it does where pages are granted and ports allocated. Linux
//! 7.2 asks for a `struct xenbus_device`, for reasons that stand at
//! [`MappedPages`](super::grant::MappedPages) and
//! [`EventChannel::bind_interdomain`](super::evtchn::EventChannel::bind_interdomain). This type
//! keeps that to this floor: a peer without such a device would be another form of it.

use crate::sys::bindings;
use crate::xen::xenbus::{Device, DeviceRef};

/// A peer domain, by the device that leads to it.
#[derive(Clone)]
pub(crate) struct Peer(DeviceRef);

impl From<&Device> for Peer {
    fn from(device: &Device) -> Self {
        Self(device.into())
    }
}

impl Peer {
    /// The C structure of the device, whose `otherend_id` is the peer's. Valid while `self` lives.
    pub(super) fn as_raw(&self) -> *mut bindings::xenbus_device {
        self.0.as_raw()
    }
}

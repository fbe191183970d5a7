// SPDX-License-Identifier: GPL-2.0

//! Information about an endpoint: `GET_INFO`, `GET_ERROR`, and the peer's address.

use idts_core::uapi;
use kernel::sync::atomic::Relaxed;

use super::endpoint::{Endpoint, State};

impl Endpoint {
    /// Returns the result of a nonblocking connect, then 0; of a connected endpoint the errno
    /// that broke the channel.
    pub(crate) fn take_error(&self) -> u32 {
        if let Some(channel) = self.channel.as_ref() {
            return channel.error();
        }
        let mut inner = self.inner.lock();
        inner.last.is_told();
        inner.error.take().map_or(0, |e| e as u32)
    }

    /// Returns the address of the other end.
    pub(crate) fn peer(&self) -> uapi::Addr {
        self.inner.lock().peer
    }

    /// Returns the content of `GET_INFO`.
    pub(crate) fn info(&self) -> uapi::Info {
        let mut info = uapi::Info::default();
        {
            let inner = self.inner.lock();
            info.local = uapi::Addr {
                domid: self.context.router.own_domid(),
                reserved: 0,
                port: inner.port,
            };
            info.peer = inner.peer;
            info.error = inner.error.map_or(0, |e| e as u32);
            info.state = match &inner.state {
                State::Idle => uapi::STATE_IDLE,
                State::Bound => uapi::STATE_BOUND,
                State::Listening { queue, refused, .. } => {
                    info.queued = queue.len() as u32;
                    info.refused = *refused;
                    uapi::STATE_LISTENING
                }
                State::Connecting { .. } => uapi::STATE_CONNECTING,
                State::Connected => uapi::STATE_CONNECTED,
            };
        }
        info.sleeps = self.sleeps.load(Relaxed).into();
        if let Some(channel) = self.channel.as_ref() {
            let ((tx_ring, tx_bytes), (rx_ring, rx_bytes)) = channel.totals();
            (info.tx_ring, info.tx_bytes) = (tx_ring, tx_bytes);
            (info.rx_ring, info.rx_bytes) = (rx_ring, rx_bytes);
            (info.rx_avail, info.tx_free) = channel.levels();
            info.events_sent = channel.events.load(Relaxed).into();
            info.truncated = channel.truncated();
            info.lag = channel.lag();
            info.flags = match channel.kind.has_records() {
                true => uapi::RECORD,
                false => 0,
            };
            info.error = channel.error();
            if info.error != 0 || !channel.link.is_open() {
                info.state = uapi::STATE_BROKEN;
            }
        }
        info
    }
}

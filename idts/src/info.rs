// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the driver knows of an endpoint, and of itself, as plain data.

use std::io;

use idts_core::{record, uapi};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::sys;

/// What an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Opened, nothing asked for yet.
    Idle,
    /// Has a port.
    Bound,
    /// Waits for connections.
    Listening,
    /// A nonblocking connect is under way.
    Connecting,
    /// An established channel.
    Connected,
    /// The channel broke; [`Info::error`] says why.
    Broken,
    /// What a newer driver calls by this number.
    Unknown(u32),
}

impl State {
    const fn from_raw(raw: u32) -> Self {
        match raw {
            uapi::STATE_IDLE => Self::Idle,
            uapi::STATE_BOUND => Self::Bound,
            uapi::STATE_LISTENING => Self::Listening,
            uapi::STATE_CONNECTING => Self::Connecting,
            uapi::STATE_CONNECTED => Self::Connected,
            uapi::STATE_BROKEN => Self::Broken,
            _ => Self::Unknown(raw),
        }
    }
}

/// All that the driver knows of an endpoint.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Info {
    /// What it is doing.
    pub state: State,
    /// The errno that broke the channel; reading it does not clear it.
    pub error: Option<i32>,
    /// This domain's id, where it knows it.
    pub local_domain: Option<u16>,
    /// This end's port, once it has one.
    pub local_port: Option<u32>,
    /// The other end, once there is one; none if this domain does not know it by
    /// its id, as behind an alias.
    pub peer: Option<Address>,
    /// Size in bytes of the ring that this end writes.
    pub tx_ring: u32,
    /// Size in bytes of the ring that this end reads.
    pub rx_ring: u32,
    /// Bytes that a write would take now.
    pub tx_free: u32,
    /// Bytes that a read would give now.
    pub rx_avail: u32,
    /// Bytes written since the channel was opened.
    pub tx_bytes: u64,
    /// Bytes read since the channel was opened.
    pub rx_bytes: u64,
    /// Notifications sent for this channel.
    pub events_sent: u64,
    /// Times that a read, a write or an accept went to sleep.
    pub sleeps: u64,
    /// Connections that wait for accept.
    pub queued: u32,
    /// Connections refused because the backlog was full.
    pub refused: u32,
    /// It moves records, not bytes.
    pub records: bool,
    /// Records that a read got only the beginning of.
    pub truncated: u64,
    /// Records of a group that this subscriber missed.
    pub lag: u32,
}

impl Info {
    pub(crate) fn from_raw(raw: sys::Info) -> Self {
        let connected = raw.peer.port != 0;
        Self {
            state: State::from_raw(raw.state),
            error: (raw.error != 0).then(|| raw.error.cast_signed()),
            local_domain: (raw.local.domid != sys::DOMID_ANY).then_some(raw.local.domid),
            local_port: (raw.local.port != 0).then_some(raw.local.port),
            peer: (connected && raw.peer.domid != sys::DOMID_ANY)
                .then(|| Address::new(raw.peer.domid, raw.peer.port)),
            tx_ring: raw.tx_ring,
            rx_ring: raw.rx_ring,
            tx_free: raw.tx_free,
            rx_avail: raw.rx_avail,
            tx_bytes: raw.tx_bytes,
            rx_bytes: raw.rx_bytes,
            events_sent: raw.events_sent,
            sleeps: raw.sleeps,
            queued: raw.queued,
            refused: raw.refused,
            records: raw.flags & uapi::RECORD != 0,
            truncated: raw.truncated,
            lag: raw.lag,
        }
    }

    /// Bytes of the longest record that this end can send.
    pub const fn longest_tx_record(&self) -> usize {
        record::longest(self.tx_ring) as usize
    }

    /// Bytes of the longest record that can come to this end.
    pub const fn longest_rx_record(&self) -> usize {
        record::longest(self.rx_ring) as usize
    }
}

/// Which of the two drivers serves [`crate::DEVICE`] here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// idts_front: this is a guest.
    Front,
    /// idts_back: this is dom0.
    Back,
    /// What a newer driver calls by this number.
    Unknown(u32),
}

/// What the driver here is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Driver {
    /// Version of the interface that it speaks.
    pub version: u32,
    /// Which of the two it is.
    pub role: Role,
    /// Feature bits of the interface.
    pub features: u64,
}

impl Driver {
    /// Asks the driver.
    ///
    /// # Errors
    /// [`Error::Open`] when there is none, or it may not be opened.
    pub fn query() -> Result<Self> {
        let open = |errno| Error::Open {
            cause: io::Error::from(errno),
        };
        let raw = sys::version(sys::open().map_err(open)?).map_err(open)?;
        let role = match raw.role {
            uapi::ROLE_FRONT => Role::Front,
            uapi::ROLE_BACK => Role::Back,
            other => Role::Unknown(other),
        };
        Ok(Self {
            version: raw.uapi,
            role,
            features: raw.features,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_things_are_none() {
        let raw = sys::Info {
            local: sys::Addr {
                domid: sys::DOMID_ANY,
                reserved: 0,
                port: 0,
            },
            ..sys::Info::default()
        };
        let info = Info::from_raw(raw);
        assert_eq!(info.state, State::Idle);
        assert_eq!(
            (info.error, info.local_domain, info.local_port),
            (None, None, None)
        );
        assert_eq!(info.peer, None);
    }

    #[test]
    fn an_unknown_state_hides_nothing_else() {
        let raw = sys::Info {
            state: 6,
            rx_bytes: 7,
            ..sys::Info::default()
        };
        let info = Info::from_raw(raw);
        assert_eq!((info.state, info.rx_bytes), (State::Unknown(6), 7));
    }
}

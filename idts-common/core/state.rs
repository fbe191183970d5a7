// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Xenbus states of a tunnel: what a side does when the state of the other side changes.
//!
//! Owns the two tables of PROTOCOL.md section 4; the drivers carry the steps out. Every entry is
//! idempotent, because the same event can come twice: xenbus reports the peer's state after
//! probe, and again when the watch fires.

/// `enum xenbus_state` (xen/include/public/io/xenbus.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum XenbusState {
    /// The node is missing: the peer's side of the device is gone.
    Unknown = 0,
    /// The side starts, or starts over.
    Initialising = 1,
    /// Back: it has announced its capabilities, and waits for an offer.
    InitWait = 2,
    /// Front: it has published an offer.
    Initialised = 3,
    /// The side has set the tunnel up.
    Connected = 4,
    /// The side ends the tunnel.
    Closing = 5,
    /// The side uses nothing of the other any more.
    Closed = 6,
    /// Not used by this protocol.
    Reconfiguring = 7,
    /// Not used by this protocol.
    Reconfigured = 8,
}

impl XenbusState {
    /// The state of the number in xenstore. A number that Xen does not define is `Unknown`.
    pub const fn from_wire(value: u32) -> Self {
        match value {
            1 => Self::Initialising,
            2 => Self::InitWait,
            3 => Self::Initialised,
            4 => Self::Connected,
            5 => Self::Closing,
            6 => Self::Closed,
            7 => Self::Reconfiguring,
            8 => Self::Reconfigured,
            _ => Self::Unknown,
        }
    }
}

/// Progress of one side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is shared: before the set-up, or after everything was given back.
    Down,
    /// Front: memory is granted, and the offer published. Back: not used.
    Offered,
    /// The tunnel can be used.
    Up,
    /// Front: the tunnel is dead, its grants are held until the back has unmapped. Back: not used.
    Draining,
}

/// A step of the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontStep {
    /// Do nothing.
    Stay,
    /// Allocate, grant, publish; switch to Initialised; phase Offered.
    Offer,
    /// Start the tunnel; switch to Connected; phase Up.
    Connect,
    /// Mark the tunnel dead, wake all waiters; switch to Closing; phase Draining.
    Drain,
    /// End the grants, which the back no longer maps; switch to Closed; phase Down. If the phase
    /// was another before, read the back's state again and go on with it: the back may wait
    /// for this side already.
    Release,
    /// Mark the tunnel dead, and try to end the grants, which the back may still map; otherwise
    /// as `Release`.
    Abandon,
}

/// A step of the back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackStep {
    /// Do nothing.
    Stay,
    /// Announce the capabilities; switch to InitWait.
    Announce,
    /// Read, check, map; switch to Connected; phase Up.
    Map,
    /// Mark the tunnel dead, unmap newest first; switch to Closed; phase Down.
    Unmap,
    /// As `Unmap`. Then, if `online` is 1, go on with `Announce`, read the front's state again and
    /// go on with it; otherwise unregister the device.
    Reset,
    /// Mark the tunnel dead, unmap; unregister the device.
    Unregister,
}

/// The front's step when the back's state is `peer`. PROTOCOL.md section 4.2.
pub const fn front(phase: Phase, peer: XenbusState) -> FrontStep {
    use FrontStep::*;
    use XenbusState as X;
    match (phase, peer) {
        (Phase::Down, X::InitWait) => Offer,
        (Phase::Offered, X::Connected) => Connect,
        (Phase::Offered | Phase::Up, X::Closing) => Drain,
        // The back has unmapped everything.
        (Phase::Offered | Phase::Up, X::Closed) => Abandon,
        (Phase::Draining, X::Closed) => Release,
        // The back's side of the device is gone, perhaps with our grants still mapped.
        (Phase::Offered | Phase::Up | Phase::Draining, X::Unknown) => Abandon,
        // A back that starts over has lost its mappings, or is making them just now from an
        // offer of ours that it read before.
        (Phase::Up | Phase::Draining, X::Initialising | X::InitWait) => Abandon,
        (Phase::Down, X::Closing) => Release,
        _ => Stay,
    }
}

/// The back's step when the front's state is `peer`. PROTOCOL.md section 4.3.
///
/// `waiting`: the own state is InitWait, so that the set-up may begin. `online`: the toolstack
/// wants the device to stay.
///
/// The table does not know *which* offer is mapped. Therefore a back that is Up and finds the
/// front Initialised or Connected with another control page than the mapped one does a `Reset`.
pub const fn back(phase: Phase, waiting: bool, online: bool, peer: XenbusState) -> BackStep {
    use BackStep::*;
    use XenbusState as X;
    match (phase, peer) {
        // A Connected front still holds its offer to a former back. It abandons it and makes
        // another when it reads our InitWait.
        (Phase::Down, X::Initialised) if waiting => Map,
        // A front that starts over has forgotten its grants.
        (Phase::Up, X::Initialising) => Reset,
        (Phase::Down, X::Initialising) if !waiting => Announce,
        (_, X::Closing) => Unmap,
        // This side waits already, and the front was there before.
        (Phase::Down, X::Closed) if waiting && online => Stay,
        (_, X::Closed) => Reset,
        (_, X::Unknown) => Unregister,
        _ => Stay,
    }
}

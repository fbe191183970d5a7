// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Life of a tunnel as xenbus shows it: what a side does when the other's
//! state changes.
//!
//! Owns the two tables of PROTOCOL.md section 4 and nothing else: the drivers
//! carry the actions out. The same event may come twice (xenbus reports the
//! peer's state once after probe, and again when the watch fires), so every
//! entry is idempotent.

/// `enum xenbus_state` (xen/include/public/io/xenbus.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum XenbusState {
    /// The node is missing: the peer's side of the device is gone.
    Unknown = 0,
    Initialising = 1,
    InitWait = 2,
    Initialised = 3,
    Connected = 4,
    Closing = 5,
    Closed = 6,
    Reconfiguring = 7,
    Reconfigured = 8,
}

impl XenbusState {
    /// Every state, by its number.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// The state of a number; one that Xen does not define is `Unknown`.
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

/// How far a side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is shared: before set-up, or after everything was given back.
    Down,
    /// Front: granted and published. Back: not used.
    Offered,
    /// The tunnel works.
    Up,
    /// Front: dead, its grants wait for the back to unmap. Back: not used.
    Draining,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 4] = [Self::Down, Self::Offered, Self::Up, Self::Draining];
}

/// What the front does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontStep {
    /// Nothing.
    Stay,
    /// Allocate, grant, publish; switch to Initialised; phase Offered.
    Offer,
    /// Start the tunnel; switch to Connected; phase Up.
    Connect,
    /// Mark the tunnel dead, wake everyone; switch to Closing; phase Draining.
    Drain,
    /// End the grants, which the back no longer maps; switch to Closed; phase
    /// Down; then, if the phase was another before, read the back's state again
    /// and go on with that: it may wait for us already.
    Release,
    /// Mark dead and end by try the grants, which the back may still map;
    /// otherwise as `Release`.
    Abandon,
}

/// What the back does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackStep {
    /// Nothing.
    Stay,
    /// Announce versions; switch to InitWait.
    Announce,
    /// Read, check, map; switch to Connected; phase Up.
    Map,
    /// Mark dead, unmap newest first; switch to Closed; phase Down.
    Unmap,
    /// As `Unmap`; then, while `online` is 1, go on with `Announce`, read the
    /// front's state again and go on with that; otherwise unregister the
    /// device.
    Reset,
    /// Mark dead, unmap; unregister the device.
    Unregister,
}

/// What the front does when the back's state is `peer`.
pub const fn front(phase: Phase, peer: XenbusState) -> FrontStep {
    use FrontStep::*;
    use XenbusState as X;
    match (phase, peer) {
        (Phase::Down, X::InitWait) => Offer,
        (Phase::Offered, X::Connected) => Connect,
        (Phase::Offered | Phase::Up, X::Closing) => Drain,
        // The back unmapped everything.
        (Phase::Offered | Phase::Up, X::Closed) => Abandon,
        (Phase::Draining, X::Closed) => Release,
        // Its side of the device is gone, perhaps with our grants mapped.
        (Phase::Offered | Phase::Up | Phase::Draining, X::Unknown) => Abandon,
        // A back that starts anew has lost its mappings, unless it is just
        // making them from an offer of ours that it read before.
        (Phase::Up | Phase::Draining, X::Initialising | X::InitWait) => Abandon,
        (Phase::Down, X::Closing) => Release,
        _ => Stay,
    }
}

/// What the back does when the front's state is `peer`.
///
/// `waiting`: our own state is InitWait, so that set-up may begin. `online`: the
/// toolstack wants the device to stay.
///
/// The table cannot see *which* offer is mapped. So a back that is Up and finds
/// the front Initialised or Connected with another control page than the one it
/// mapped does a `Reset`.
pub const fn back(phase: Phase, waiting: bool, online: bool, peer: XenbusState) -> BackStep {
    use BackStep::*;
    use XenbusState as X;
    match (phase, peer) {
        // A front that is Connected holds an offer to a back that is gone; it
        // abandons that one and makes another when it sees our InitWait.
        (Phase::Down, X::Initialised) if waiting => Map,
        // A front that starts anew has forgotten its grants.
        (Phase::Up, X::Initialising) => Reset,
        (Phase::Down, X::Initialising) if !waiting => Announce,
        (_, X::Closing) => Unmap,
        // We wait already, for a front that was there before us.
        (Phase::Down, X::Closed) if waiting && online => Stay,
        (_, X::Closed) => Reset,
        (_, X::Unknown) => Unregister,
        _ => Stay,
    }
}

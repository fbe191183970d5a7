// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! The two sides of a tunnel, and which parts of the control page each writes.
//!
//! PROTOCOL.md sections 2 and 5.1.

use super::doorbell::Doorbell;
use super::ring::Lines;
use super::wire::page;

/// A side of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The frontend, which allocates the tunnel's memory and grants it.
    Front,
    /// The backend, which checks and maps what it was granted.
    Back,
}

impl Role {
    /// The lines of the control ring.
    pub const fn control_lines(self) -> Lines {
        match self {
            Self::Front => Lines {
                own: page::FRONT_LINE,
                peer: page::BACK_LINE,
            },
            Self::Back => Lines {
                own: page::BACK_LINE,
                peer: page::FRONT_LINE,
            },
        }
    }

    /// The doorbells of a queue that this side sets.
    pub const fn tx_doorbell(self, queue: u32) -> Doorbell {
        let (summaries, words) = match self {
            Self::Front => (page::FRONT_SUMMARY, page::FRONT_DOORBELLS),
            Self::Back => (page::BACK_SUMMARY, page::BACK_DOORBELLS),
        };
        Doorbell {
            summary: summaries.wrapping_add(queue.wrapping_mul(page::SUMMARY)),
            words,
        }
    }

    /// The doorbells of a queue that the peer sets.
    pub const fn rx_doorbell(self, queue: u32) -> Doorbell {
        self.peer().tx_doorbell(queue)
    }

    /// The other side.
    pub const fn peer(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }

    /// Offset of the slots of the control ring that this side writes.
    pub const fn slots(self) -> u32 {
        match self {
            Self::Front => page::FRONT_SLOTS,
            Self::Back => page::BACK_SLOTS,
        }
    }
}

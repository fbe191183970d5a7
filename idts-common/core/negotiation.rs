// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Negotiation of a tunnel: version, features and number of queues.
//!
//! The back announces its capabilities, the front answers with the intersection of both, the
//! back validates the answer. Which nodes carry them is in [`super::nodes`]. PROTOCOL.md
//! section 8.5.

use super::nodes::common_version;
use super::queues::Queues;
use super::wire::{QUEUES, VERSION};

/// Feature bits. None of them depends on another.
pub mod feature {
    /// The tunnel may have more than one queue.
    pub const QUEUES: u32 = 1;
    /// All features of this implementation.
    pub const KNOWN: u32 = QUEUES;
}

/// Capabilities of one side.
///
/// ```
/// use idts_core::negotiation::{feature, Capabilities, NegotiationError};
///
/// let front = Capabilities { versions: (1, 2), features: feature::QUEUES, queues: 8 };
/// let back = Capabilities { versions: (1, 1), features: feature::QUEUES, queues: 2 };
/// let answer = front.intersect(&back)?;
/// assert_eq!((answer.version, answer.queues.count()), (1, 2));
/// // The back checks what it is answered with.
/// assert_eq!(back.validate(1, feature::QUEUES, 2), Ok(answer));
/// assert_eq!(back.validate(2, 0, 1), Err(NegotiationError::Version));
/// # Ok::<(), NegotiationError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Lowest and highest protocol version.
    pub versions: (u32, u32),
    /// Features, a bit for each ([`feature`]).
    pub features: u32,
    /// Largest number of queues.
    pub queues: u32,
}

/// Result of a negotiation, which holds as long as the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Protocol version.
    pub version: u32,
    /// Features, a bit for each ([`feature`]).
    pub features: u32,
    /// Queues.
    pub queues: Queues,
}

/// Reason why a negotiation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationError {
    /// The sides have no version in common, or the front picked one that the back lacks.
    Version,
    /// The front answered with a feature that the back did not announce.
    Features,
    /// The front answered with no queue, with too many, or with several but without
    /// [`feature::QUEUES`].
    Queues,
}

impl Negotiated {
    /// The loopback tunnel's: it has no other side to negotiate with.
    pub const LOOPBACK: Self = Self {
        version: VERSION,
        features: 0,
        queues: Queues::ONE,
    };
}

impl Capabilities {
    /// Front: the highest version and all features that this side and `back` have in common.
    ///
    /// # Errors
    /// [`NegotiationError::Version`]: there is no such version.
    pub fn intersect(&self, back: &Self) -> Result<Negotiated, NegotiationError> {
        let features = self.features & back.features;
        let count = match features & feature::QUEUES {
            0 => 1,
            // The reader of the nodes refuses 0.
            _ => self.queues.min(back.queues).clamp(1, QUEUES),
        };
        let version = common_version(self.versions, back.versions);
        Ok(Negotiated {
            version: version.ok_or(NegotiationError::Version)?,
            features,
            queues: Queues::new(count).ok_or(NegotiationError::Queues)?,
        })
    }

    /// Back: checks a front's answer against what this side announced.
    ///
    /// # Errors
    /// The first part of the answer that was not announced.
    pub fn validate(
        &self,
        version: u32,
        features: u32,
        queues: u32,
    ) -> Result<Negotiated, NegotiationError> {
        common_version(self.versions, (version, version)).ok_or(NegotiationError::Version)?;
        if features & !self.features != 0 {
            return Err(NegotiationError::Features);
        }
        let most = match features & feature::QUEUES {
            0 => 1,
            _ => self.queues,
        };
        let queues = Queues::new(queues).filter(|q| q.count() <= most);
        Ok(Negotiated {
            version,
            features,
            queues: queues.ok_or(NegotiationError::Queues)?,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Terms of a tunnel: the version, the features and the number of queues that
//! its two sides agree on.
//!
//! The back says what it can, the front answers with what both can, the back
//! judges the answer. Which nodes carry it is in [`super::nodes`]. PROTOCOL.md
//! section 8.5.

use super::nodes::common_version;
use super::queues::Queues;
use super::wire::{QUEUES, VERSION};

/// Feature bits. None of them needs another.
pub mod feature {
    /// The tunnel may have more than one queue.
    pub const QUEUES: u32 = 1;
    /// All that this code has.
    pub const KNOWN: u32 = QUEUES;
}

/// What a side can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Lowest and highest version that it speaks.
    pub versions: (u32, u32),
    /// Features, a bit for each.
    pub features: u32,
    /// Queues at most.
    pub queues: u32,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The version.
    pub version: u32,
    /// The features.
    pub features: u32,
    /// The queues.
    pub queues: Queues,
}

/// Why a back refuses what a front answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A version that the back does not speak.
    Version,
    /// A feature that the back did not offer.
    Features,
    /// No queue, too many, or several without the feature.
    Queues,
}

impl Terms {
    /// Of a tunnel that crosses no border.
    pub const LOCAL: Self = Self {
        version: VERSION,
        features: 0,
        queues: Queues::ONE,
    };
}

impl Abilities {
    /// The highest version and all features that this front and `back` have in
    /// common; nothing if they have no version in common.
    pub fn meet(&self, back: &Self) -> Option<Terms> {
        let features = self.features & back.features;
        let queues = match features & feature::QUEUES {
            0 => Queues::ONE,
            // At least one: 0 is nobody's, nodes are judged before.
            _ => Queues::new(self.queues.min(back.queues).clamp(1, QUEUES))?,
        };
        Some(Terms {
            version: common_version(self.versions, back.versions)?,
            features,
            queues,
        })
    }

    /// The terms that a front answered this back with, if they keep to what it
    /// offered.
    pub fn judge(&self, version: u32, features: u32, queues: u32) -> Result<Terms, Unfit> {
        common_version(self.versions, (version, version)).ok_or(Unfit::Version)?;
        if features & !self.features != 0 {
            return Err(Unfit::Features);
        }
        let most = match features & feature::QUEUES {
            0 => 1,
            _ => self.queues,
        };
        let queues = Queues::new(queues).filter(|q| q.count() <= most);
        Ok(Terms {
            version,
            features,
            queues: queues.ok_or(Unfit::Queues)?,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The systems and their settings, and how the load is told of them.

use anyhow::Result;

use crate::bed::Bed;
use crate::figure::Name;

/// A system in one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Bytes of both rings; 0: the driver's default.
    Idts {
        ring: u32,
    },
    Tcp {
        nodelay: bool,
    },
    /// Bytes of both rings.
    Vchan {
        ring: u32,
    },
}

impl System {
    /// Whose system it is.
    pub fn name(&self) -> Name {
        match self {
            System::Idts { .. } => Name::Idts,
            System::Tcp { .. } => Name::Tcp,
            System::Vchan { .. } => Name::Vchan,
        }
    }

    /// The setting, as a word of a variant.
    pub fn setting(&self) -> String {
        match self {
            System::Idts { ring: 0 } => "ring-default".into(),
            System::Idts { ring } | System::Vchan { ring } => format!("ring-{}", short(*ring)),
            System::Tcp { nodelay: true } => "nodelay".into(),
            System::Tcp { nodelay: false } => "nagle".into(),
        }
    }

    /// What the load is told to offer service `number` in `server`, and to call it from `client`.
    pub fn addresses(
        &self,
        bed: &Bed,
        server: &str,
        client: &str,
        number: u32,
    ) -> Result<(String, String)> {
        Ok(match self {
            System::Idts { ring } => {
                let domid = bed.domid(server)?;
                (number.to_string(), format!("{domid}:{number}:{ring}"))
            }
            System::Tcp { nodelay } => {
                let option = if *nodelay { ":nodelay" } else { "" };
                let offer = format!("{number}{option}");
                (offer.clone(), format!("{}:{offer}", address(server)))
            }
            System::Vchan { ring } => (
                format!("{}:b{number}:{ring}", bed.domid(client)?),
                format!("{}:b{number}", bed.domid(server)?),
            ),
        })
    }
}

/// A domain's address in the network of the testbed.
pub fn address(domain: &str) -> String {
    let number = domain.strip_prefix('u').and_then(|n| n.parse::<u32>().ok());
    format!("10.99.0.{}", number.map_or(1, |n| n + 10))
}

/// A power of two in few letters.
pub fn short(bytes: u32) -> String {
    match bytes {
        n if n >= 1 << 20 => format!("{}M", n >> 20),
        n if n >= 1 << 10 => format!("{}K", n >> 10),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_words() {
        assert_eq!(System::Idts { ring: 1 << 20 }.setting(), "ring-1M");
        assert_eq!(System::Idts { ring: 0 }.setting(), "ring-default");
        assert_eq!(System::Vchan { ring: 64 << 10 }.setting(), "ring-64K");
    }

    #[test]
    fn addresses_of_domains() {
        assert_eq!(address("dom0"), "10.99.0.1");
        assert_eq!(address("u2"), "10.99.0.12");
    }
}

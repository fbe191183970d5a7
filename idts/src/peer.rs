// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom a channel is with: a domain by its id, or by the alias that dom0 gave it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use idts_core::{uapi, wire};

use crate::address::{parse_port, Address, AddressError};
use crate::sys;

/// A name that dom0 gave a domain, by `tunnel-mgr set DOM alias=NAME`; `dom0` is
/// dom0 itself.
///
/// ```
/// let alias: idts::Alias = "web".parse()?;
/// assert_eq!(alias.to_string(), "web");
/// assert!("Web".parse::<idts::Alias>().is_err());
/// # Ok::<(), idts::AliasError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alias(wire::Name);

impl Hash for Alias {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_raw().hash(state);
    }
}

/// The text is no alias.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no alias: a lower-case letter, then letters, digits and hyphens, {max} in all at most",
    max = uapi::NAME_MAX
)]
pub struct AliasError(String);

impl Alias {
    pub(crate) const fn to_raw(self) -> [u8; uapi::NAME_MAX] {
        self.0 .0
    }
}

impl FromStr for Alias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, AliasError> {
        let mut name = wire::Name([0; uapi::NAME_MAX]);
        match name.0.get_mut(..text.len()) {
            Some(place) if wire::is_name(text.as_bytes()) => place.copy_from_slice(text.as_bytes()),
            _ => return Err(AliasError(text.into())),
        }
        Ok(Self(name))
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0.text()))
    }
}

impl fmt::Debug for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alias({self})")
    }
}

/// The other end of a channel, as it was named.
///
/// ```
/// let peer: idts::Peer = "web:7000".parse()?;
/// assert_eq!(peer.to_string(), "web:7000");
/// assert_eq!("3:7000".parse(), Ok(idts::Peer::from(idts::Address::new(3, 7000))));
/// # Ok::<(), idts::PeerError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// By the domain's id.
    Address(Address),
    /// By an alias and a port; a guest never learns which domain that is.
    Alias(Alias, u32),
    /// Nothing is known of it: the channel came from a descriptor, and the driver does not
    /// name the other end, as behind an alias.
    Unknown,
}

/// What is wrong with a text that should be a [`Peer`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It begins with a digit, or has no port.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What stands before the colon is neither a domain's id nor an alias.
    #[error(transparent)]
    Alias(#[from] AliasError),
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        match text.rsplit_once(':') {
            Some((name, port)) if !name.starts_with(|first: char| first.is_ascii_digit()) => {
                Ok(Self::Alias(name.parse()?, parse_port(port)?))
            }
            _ => Ok(Self::Address(text.parse()?)),
        }
    }
}

impl Peer {
    pub(crate) fn to_raw(self) -> (sys::Addr, [u8; uapi::NAME_MAX]) {
        let (domid, port, alias) = match self {
            Self::Address(Address { domain, port }) => (domain, port, [0; uapi::NAME_MAX]),
            Self::Alias(alias, port) => (sys::DOMID_ANY, port, alias.to_raw()),
            Self::Unknown => (sys::DOMID_ANY, 0, [0; uapi::NAME_MAX]),
        };
        let addr = sys::Addr {
            domid,
            reserved: 0,
            port,
        };
        (addr, alias)
    }
}

impl From<Address> for Peer {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Alias(alias, port) => write!(f, "{alias}:{port}"),
            Self::Unknown => f.write_str("an unknown peer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_alias_goes_without_an_id() {
        let alias: Alias = "db-2".parse().unwrap();
        let (addr, raw) = Peer::Alias(alias, 7).to_raw();
        assert_eq!((addr.domid, addr.port), (sys::DOMID_ANY, 7));
        assert!(raw.starts_with(b"db-2\0") && raw.ends_with(b"\0"));
        let (addr, raw) = Peer::from(Address::new(3, 7)).to_raw();
        assert_eq!((addr.domid, addr.port, raw), (3, 7, [0; uapi::NAME_MAX]));
        assert_eq!(Peer::Alias(alias, 7).to_string(), "db-2:7");
    }

    #[test]
    fn a_peer_is_an_address_or_an_alias_with_a_port() {
        let alias = Peer::Alias("db-2".parse().unwrap(), 7);
        assert_eq!("db-2:7".parse(), Ok(alias));
        let address = Peer::from(Address::new(3, 7));
        assert_eq!("3:7".parse(), Ok(address));
        let set = HashSet::from([alias, address, alias]);
        assert!(set.len() == 2 && set.contains(&address));
        for text in [
            "", "7", "a", ":7", "a:", "a:0", "a:+7", "A:7", "32752:7", "a:b:7", "3a:7",
        ] {
            assert!(text.parse::<Peer>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_no_alias() {
        for text in ["", "3", "Web", "a b", "a_b", "-a", &"a".repeat(57)] {
            assert!(text.parse::<Alias>().is_err(), "{text}");
        }
        for text in ["dom0", "a", &"a".repeat(56)] {
            assert_eq!(text.parse::<Alias>().unwrap().to_string(), text);
        }
    }
}

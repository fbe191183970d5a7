// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom a channel is with: a domain by its id, or by the alias that dom0 gave it.

use std::fmt;
use std::str::FromStr;

use idts_core::{uapi, wire};

use crate::address::Address;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// By the domain's id.
    Address(Address),
    /// By an alias and a port; a guest never learns which domain that is.
    Alias(Alias, u32),
}

impl Peer {
    pub(crate) fn to_raw(self) -> (sys::Addr, [u8; uapi::NAME_MAX]) {
        let (domid, port, alias) = match self {
            Self::Address(Address { domain, port }) => (domain, port, [0; uapi::NAME_MAX]),
            Self::Alias(alias, port) => (sys::DOMID_ANY, port, alias.to_raw()),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_no_name_is_no_alias() {
        for text in ["", "3", "Web", "a b", "a_b", "-a", &"a".repeat(57)] {
            assert!(text.parse::<Alias>().is_err(), "{text}");
        }
        for text in ["dom0", "a", &"a".repeat(56)] {
            assert_eq!(text.parse::<Alias>().unwrap().to_string(), text);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The address of an endpoint: a domain and a port in it, written `DOM:PORT`.
//! Domains are ids here; names are the business of tools that see xenstore.

use std::fmt;
use std::str::FromStr;

/// The first domain id that Xen keeps for itself (`DOMID_FIRST_RESERVED`).
pub(crate) const FIRST_RESERVED: u16 = 0x7ff0;

/// A domain and a port in it.
///
/// ```
/// let address: idts::Address = "3:7000".parse()?;
/// assert_eq!((address.domain, address.port), (3, 7000));
/// assert_eq!(address.to_string(), "3:7000");
/// # Ok::<(), idts::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Xen domain id; dom0 is 0.
    pub domain: u16,
    /// Port in that domain; 1 and up.
    pub port: u32,
}

impl Address {
    /// The endpoint at `port` in the domain with the id `domain`.
    pub const fn new(domain: u16, port: u32) -> Self {
        Self { domain, port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.domain, self.port)
    }
}

/// What is wrong with a text that should be an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no colon.
    #[error("`{0}` is not DOM:PORT")]
    Form(String),
    /// What stands before the colon is no domain id.
    #[error("`{0}` is not a domain id (0 to {max})", max = FIRST_RESERVED - 1)]
    Domain(String),
    /// What stands after the colon is no port.
    #[error("`{0}` is not a port (1 to {max})", max = u32::MAX)]
    Port(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (domain, port) = text
            .rsplit_once(':')
            .ok_or_else(|| AddressError::Form(text.into()))?;
        Ok(Self {
            domain: parse_domain(domain)?,
            port: parse_port(port)?,
        })
    }
}

fn parse_domain(text: &str) -> Result<u16, AddressError> {
    match digits(text).and_then(|text| text.parse().ok()) {
        Some(domain) if domain < FIRST_RESERVED => Ok(domain),
        _ => Err(AddressError::Domain(text.into())),
    }
}

pub(crate) fn parse_port(text: &str) -> Result<u32, AddressError> {
    match digits(text).and_then(|text| text.parse().ok()) {
        Some(port) if port > 0 => Ok(port),
        _ => Err(AddressError::Port(text.into())),
    }
}

/// Rust's integers parse `+5` too; an address does not.
fn digits(text: &str) -> Option<&str> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_address() {
        let form = |text: &str| AddressError::Form(text.into());
        let domain = |text: &str| AddressError::Domain(text.into());
        let port = |text: &str| AddressError::Port(text.into());
        for (text, error) in [
            ("", form("")),
            ("5", form("5")),
            (":5", domain("")),
            ("u1:5", domain("u1")),
            ("-1:5", domain("-1")),
            ("+1:5", domain("+1")),
            ("32752:5", domain("32752")),
            ("65536:5", domain("65536")),
            ("1:2:5", domain("1:2")),
            ("1:", port("")),
            ("1:0", port("0")),
            ("1:+5", port("+5")),
            ("1:4294967296", port("4294967296")),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(domain in 0..FIRST_RESERVED, port in 1..=u32::MAX) {
            let address = Address::new(domain, port);
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = text.parse::<Address>();
        }
    }
}

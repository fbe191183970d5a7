// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values on the command line: addresses, times, sizes.

use std::str::FromStr;
use std::time::Duration;

use idts::{figure, Address};
use idts_core::uapi::{RING_MAX, RING_MIN};

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A ring's size.
pub fn ring(text: &str) -> Result<u32, String> {
    let size = figure::parse(text).and_then(|size| u32::try_from(size).ok());
    match size {
        Some(size) if size.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&size) => Ok(size),
        _ => {
            let (least, most) = (figure::show(RING_MIN.into()), figure::show(RING_MAX.into()));
            let allowed = figure::ALLOWED;
            Err(format!(
                "not a power of two from {least} to {most}; {allowed}"
            ))
        }
    }
}

/// Seconds of waiting, of which there are some.
pub fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("more than 0 seconds are needed".into()),
        some => Ok(some),
    }
}

/// A number of bytes.
pub fn size(text: &str) -> Result<u64, String> {
    figure::parse(text).ok_or_else(|| format!("not a number of bytes; {}", figure::ALLOWED))
}

/// A file's mode, octal: what its owner, its group and all others may.
pub fn mode(text: &str) -> Result<u32, String> {
    let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => Err("not an octal mode from 0 to 777".into()),
    }
}

/// A domain that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    Id(u16),
    Name(String),
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_name(text) {
            return Ok(Self::Name(text.into()));
        }
        // As in an address, which knows what ids there are.
        let address: Address = format!("{text}:1")
            .parse()
            .map_err(|error: idts::AddressError| error.to_string())?;
        Ok(Self::Id(address.domain))
    }
}

/// An address whose domain may still be a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(Address),
    Name(String, u32),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = match text.parse() {
            Ok(address) => return Ok(Self::Id(address)),
            Err(error) => error,
        };
        match text.rsplit_once(':') {
            Some((name, port)) if is_name(name) => {
                let port = Address::from_str(&format!("0:{port}"))
                    .map_err(|e| e.to_string())?
                    .port;
                Ok(Self::Name(name.into(), port))
            }
            _ => Err(error.to_string()),
        }
    }
}

/// Names as xl takes them; one of digits alone is an id.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+:".contains(c);
    text.chars().all(allowed) && text.chars().any(|c| !c.is_ascii_digit()) && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_id_or_a_name() {
        assert_eq!("0:7".parse(), Ok(Target::Id(Address::new(0, 7))));
        assert_eq!("u1:7".parse(), Ok(Target::Name("u1".into(), 7)));
        assert_eq!("Domain-0:7".parse(), Ok(Target::Name("Domain-0".into(), 7)));
        for text in [
            "",
            "u1",
            "u1:",
            "u1:0",
            "u/1:7",
            ":7",
            "99999:7",
            "u1:4294967296",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_domain_is_an_id_that_can_be_or_a_name() {
        assert_eq!("3".parse(), Ok(Domain::Id(3)));
        assert_eq!("32751".parse(), Ok(Domain::Id(32751)));
        assert_eq!("dom0".parse(), Ok(Domain::Name("dom0".into())));
        for text in ["", "-1", "32752", "65535", "65536", "a/b", "3 "] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_modes_are_exact() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("17M"), Ok(17 << 20));
        assert_eq!(size("1T"), Ok(1 << 40));
        for text in ["", "K", "-1", "+1", "1KB", "1.5M", "16777216T"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!((mode("600"), mode("0644")), (Ok(0o600), Ok(0o644)));
        for text in ["", "8", "+7", "4755", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_not_negative() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("-1").is_err());
        assert!(seconds("inf").is_err());
        assert!(some_seconds("0").is_err() && some_seconds("0.001").is_ok());
    }

    #[test]
    fn rings_are_powers_of_two_in_their_range() {
        assert_eq!(ring("4096"), Ok(4096));
        assert_eq!(ring("64k"), Ok(65536));
        assert_eq!(ring("4M"), Ok(RING_MAX));
        for text in ["", "K", "0", "2048", "5000", "8M", "-4K", "4G", "4194304K"] {
            assert!(ring(text).is_err(), "{text}");
        }
    }
}

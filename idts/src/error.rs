// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of everything but reads and writes: what was tried, with whom, and
//! what the driver's errno means there.

use std::io;

use rustix::io::Errno;

use crate::peer::Peer;
use crate::sys::DEVICE;

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// What failed and with whom; [`Error::raw_os_error`] has the errno.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be opened.
    #[error("cannot open {DEVICE}: {}", explain_open(.cause))]
    #[non_exhaustive]
    Open {
        /// The errno.
        #[source]
        cause: io::Error,
    },
    /// A port could not be bound or listened on.
    #[error("cannot listen on port {port}: {}", explain_listen(.cause))]
    #[non_exhaustive]
    Listen {
        /// The port that was asked for.
        port: u32,
        /// The errno.
        #[source]
        cause: io::Error,
    },
    /// A listening endpoint gave no connection.
    #[error("cannot accept on port {port}: {}", explain_accept(.cause))]
    #[non_exhaustive]
    Accept {
        /// The port that was listened on.
        port: u32,
        /// The errno.
        #[source]
        cause: io::Error,
    },
    /// No channel came about.
    #[error("cannot connect to {peer}: {}", explain_connect(.cause))]
    #[non_exhaustive]
    Connect {
        /// Whom it was meant to reach.
        peer: Peer,
        /// The errno.
        #[source]
        cause: io::Error,
    },
    /// A call on an established channel failed.
    #[error("{call} on the channel with {peer}: {}", explain(.cause))]
    #[non_exhaustive]
    Channel {
        /// The other end.
        peer: Peer,
        /// Which call.
        call: &'static str,
        /// The errno.
        #[source]
        cause: io::Error,
    },
    /// A group could not be joined, or a call on one of its endpoints failed.
    #[error("cannot {call} the group {group}: {}", explain_group(.cause))]
    #[non_exhaustive]
    Group {
        /// The group's name.
        group: String,
        /// What was tried.
        call: &'static str,
        /// The errno, or what is wrong with the name.
        #[source]
        cause: io::Error,
    },
    /// The driver answered what this crate does not understand. Nothing gives this any more:
    /// numbers of a newer driver are values, as [`State::Unknown`](crate::State::Unknown).
    #[error("the driver of {DEVICE} says {what}, which this program does not know")]
    #[non_exhaustive]
    Driver {
        /// What it said.
        what: String,
    },
}

impl Error {
    /// The io error below, with the kind and errno that the driver gave.
    pub fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Open { cause }
            | Self::Listen { cause, .. }
            | Self::Accept { cause, .. }
            | Self::Connect { cause, .. }
            | Self::Channel { cause, .. }
            | Self::Group { cause, .. } => Some(cause),
            Self::Driver { .. } => None,
        }
    }

    /// The errno, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause()?.raw_os_error()
    }

    /// The kind, as [`io::Error::kind`] has it.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause().map_or(io::ErrorKind::Other, io::Error::kind)
    }

    /// True for what may pass by itself: nobody listens yet, the tunnel or
    /// the domain is not there yet, the peer was slow, the driver is not
    /// loaded yet. From a guest "no such domain" is EACCES, so that counts
    /// for a connect.
    pub fn is_transient(&self) -> bool {
        let errno = self.cause().and_then(Errno::from_io_error);
        match self {
            Self::Open { .. } => matches!(errno, Some(Errno::NOENT | Errno::NODEV | Errno::NXIO)),
            Self::Connect { .. } => matches!(
                errno,
                Some(
                    Errno::CONNREFUSED
                        | Errno::NETDOWN
                        | Errno::HOSTUNREACH
                        | Errno::ACCESS
                        | Errno::TIMEDOUT
                        | Errno::CONNRESET
                        | Errno::NOTCONN
                        | Errno::AGAIN
                )
            ),
            Self::Group { .. } => matches!(
                errno,
                Some(
                    Errno::NETDOWN
                        | Errno::TIMEDOUT
                        | Errno::CONNRESET
                        | Errno::NOTCONN
                        | Errno::AGAIN
                )
            ),
            _ => false,
        }
    }
}

/// Of an error with an errno, the errno: what decides by it goes on to do so, but hears no more
/// which call it was and with whom. A program that tells people returns the [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::from_raw_os_error(errno),
            None => Self::new(error.kind(), error),
        }
    }
}

fn explain(cause: &io::Error) -> String {
    cause.to_string()
}

/// The errno's text, with what it means in this place.
fn with_hint(cause: &io::Error, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{hint} ({cause})"),
        None => cause.to_string(),
    }
}

fn explain_open(cause: &io::Error) -> String {
    let hint = match Errno::from_io_error(cause) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            Some("the driver (idts_front, or idts_back in dom0) is not loaded")
        }
        Some(Errno::ACCESS | Errno::PERM) => Some("only root and the group idts may"),
        _ => None,
    };
    with_hint(cause, hint)
}

fn explain_listen(cause: &io::Error) -> String {
    let hint = match Errno::from_io_error(cause) {
        Some(Errno::ADDRINUSE) => Some("the port is taken"),
        Some(Errno::ACCESS | Errno::PERM) => Some("ports below 1024 need CAP_NET_BIND_SERVICE"),
        _ => None,
    };
    with_hint(cause, hint)
}

fn explain_accept(cause: &io::Error) -> String {
    let hint = match Errno::from_io_error(cause) {
        Some(Errno::INVAL) => Some("the listener was shut down"),
        _ => None,
    };
    with_hint(cause, hint)
}

fn explain_connect(cause: &io::Error) -> String {
    let hint = match Errno::from_io_error(cause) {
        Some(Errno::CONNREFUSED) => Some("nobody listens there, or its backlog is full"),
        Some(Errno::ACCESS) => Some("forbidden, or no such domain or alias"),
        Some(Errno::HOSTUNREACH) => Some("no such domain or alias"),
        Some(Errno::NETDOWN) => Some("no tunnel is connected"),
        Some(Errno::TIMEDOUT) => Some("the peer domain did not answer in time"),
        Some(Errno::NOSPC) => Some("no room for the channel's rings"),
        _ => None,
    };
    with_hint(cause, hint)
}

fn explain_group(cause: &io::Error) -> String {
    let hint = match Errno::from_io_error(cause) {
        Some(Errno::ADDRINUSE) => Some("it has a publisher"),
        Some(Errno::ACCESS) => Some("forbidden"),
        Some(Errno::NETDOWN) => Some("no tunnel is connected"),
        Some(Errno::TIMEDOUT) => Some("dom0 did not answer in time"),
        Some(Errno::NOSPC) => Some("no room for the ring"),
        Some(Errno::NOTTY) => Some("the driver here knows no groups"),
        _ => None,
    };
    with_hint(cause, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(errno: Errno) -> Error {
        Error::Connect {
            peer: crate::Address::new(3, 7000).into(),
            cause: errno.into(),
        }
    }

    #[test]
    fn says_what_happened_and_to_whom() {
        let error = connect(Errno::CONNREFUSED);
        assert_eq!(
            error.to_string(),
            "cannot connect to 3:7000: nobody listens there, or its backlog is full \
             (Connection refused (os error 111))"
        );
        assert_eq!(error.raw_os_error(), Some(111));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_errno_stays_whatever_becomes_of_the_error() {
        let source = connect(Errno::NETDOWN);
        let source = std::error::Error::source(&source).unwrap();
        let source: &io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.raw_os_error(), Some(Errno::NETDOWN.raw_os_error()));
        let plain = io::Error::from(connect(Errno::NETDOWN));
        assert_eq!(plain.raw_os_error(), Some(Errno::NETDOWN.raw_os_error()));
    }

    #[test]
    fn waits_only_for_what_may_pass() {
        assert!(connect(Errno::NETDOWN).is_transient());
        assert!(!connect(Errno::NOSPC).is_transient());
        assert!(!Error::Open {
            cause: Errno::ACCESS.into()
        }
        .is_transient());
        assert!(Error::Open {
            cause: Errno::NOENT.into()
        }
        .is_transient());
    }

    #[test]
    fn a_group_with_a_publisher_is_not_waited_for() {
        let error = Error::Group {
            group: "news".into(),
            call: "publish to",
            cause: Errno::ADDRINUSE.into(),
        };
        assert!(!error.is_transient());
        assert_eq!(
            error.to_string(),
            "cannot publish to the group news: it has a publisher \
             (Address already in use (os error 98))"
        );
    }
}

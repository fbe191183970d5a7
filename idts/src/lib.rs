// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels between Xen domains over memory that they share.
//!
//! The driver's `/dev/idts` gives endpoints that read like sockets: a
//! [`Listener`] waits on a port, a [`Channel`] is one connection, an
//! [`Address`] names a domain and a port in it. dom0 is domain 0. The same
//! calls serve in dom0 and in guests.
//!
//! A server that sends back what it gets, and a client of it:
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//! use idts::{Address, Channel, Listener};
//!
//! fn serve() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = Listener::bind(7000)?;
//!     for incoming in listener.incoming() {
//!         let (channel, peer) = incoming?;
//!         let bytes = std::io::copy(&mut &channel, &mut &channel)?;
//!         println!("{bytes} bytes from {peer}");
//!     }
//!     Ok(())
//! }
//!
//! fn ask() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut channel = Channel::connect("0:7000".parse::<Address>()?)?;
//!     channel.write_all(b"hello")?;
//!     channel.shutdown(Shutdown::Write)?;
//!     let mut answer = Vec::new();
//!     channel.read_to_end(&mut answer)?;
//!     assert_eq!(answer, b"hello");
//!     Ok(())
//! }
//! ```
//!
//! Channels carry bytes, or records that keep their bounds ([`Connect::records`],
//! [`Channel::send`], [`Channel::recv`]). One to many is a group with a name: a
//! [`Publisher`] sends records to all the [`Subscriber`]s, in any domains.
//!
//! Errors name the operation and the peer, see [`Error`]; what moves
//! data gives plain [`std::io::Error`]s with the driver's errno.
//!
//! The parts: [`Channel`] and [`Connect`] (channel, connect), [`Listener`] and
//! [`Bind`] (listener), [`Publisher`] and [`Publish`] (publisher), [`Subscriber`]
//! and [`Subscribe`] (subscriber; both over group), how all of them wait
//! (endpoint, bell), their descriptors (descriptor), [`Address`] (address), [`Peer`] and [`Alias`] (peer), [`Info`] (info), [`Error`] (error); `sys`
//! alone speaks ioctl and has the crate's only `unsafe`.

mod address;
mod bell;
mod channel;
mod connect;
mod descriptor;
mod endpoint;
mod error;
#[cfg(feature = "output")]
#[doc(hidden)]
pub mod figure;
mod group;
mod info;
mod listener;
#[cfg(feature = "output")]
#[doc(hidden)]
pub mod output;
mod peer;
mod publisher;
#[cfg(feature = "output")]
#[doc(hidden)]
pub mod seldom;
mod subscriber;
#[cfg_attr(feature = "sockets", path = "sys_sockets.rs")]
mod sys;

pub use address::{Address, AddressError};
pub use channel::Channel;
pub use connect::Connect;
pub use endpoint::Received;
pub use error::{Error, Result};
pub use info::{Driver, Info, Role, State};
pub use listener::{Bind, Incoming, Listener};
pub use peer::{Alias, AliasError, Peer, PeerError};
pub use publisher::{Publish, Publisher};
pub use subscriber::{OnLag, Subscribe, Subscriber};
pub use sys::DEVICE;

/// A good size for one read or write of bulk data.
pub const BUFFER_SIZE: usize = 256 * 1024;

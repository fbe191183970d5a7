// SPDX-License-Identifier: GPL-2.0

//! An endpoint: an open file of `/dev/idts`, and its waiting.
//!
//! Owns the states idle, bound, listening, connecting, connected, and all
//! sleeping of applications. Nothing is held while it sleeps or takes a page
//! fault: no lock, no mapping. Called by [`crate::dev`]; tunnels call it as an opener and
//! as an acceptor.

mod attempt;
mod caps;
mod connect;
#[allow(clippy::module_inception)]
mod endpoint;
mod info;
mod io;
mod listen;
mod poll;

pub(crate) use self::endpoint::Endpoint;

// SPDX-License-Identifier: GPL-2.0

//! An endpoint: an open file of `/dev/idts`.
//!
//! It owns the states idle, bound, listening, connecting and connected, and all sleeping of
//! applications. It sleeps and takes page faults without a lock and outside the gate.
//! [`crate::dev`] calls it; tunnels call it as an opener and as an acceptor.

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

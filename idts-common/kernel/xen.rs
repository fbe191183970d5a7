// SPDX-License-Identifier: GPL-2.0

//! Xen: devices on xenbus, xenstore, grants, event channels.
//!
//! Nothing here says what the messages or nodes mean; `idts_core` does. No domain id has a
//! meaning of its own: a peer is whatever domain xenbus says is at the other end.

#![deny(clippy::missing_docs_in_private_items)]

pub(crate) mod closer;
pub(crate) mod evtchn;
pub(crate) mod grant;
pub(crate) mod peer;
pub(crate) mod reclaim;
pub mod xenbus;
pub mod xenstore;

// SPDX-License-Identifier: GPL-2.0

//! Xen: devices on xenbus, xenstore, grants, event channels.

pub(crate) mod evtchn;
pub(crate) mod grant;
pub mod xenbus;
pub(crate) mod xenstore;

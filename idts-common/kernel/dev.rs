// SPDX-License-Identifier: GPL-2.0

//! The device `/dev/idts`, the interface to applications.

pub(crate) mod chardev;

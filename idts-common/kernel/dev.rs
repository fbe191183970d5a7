// SPDX-License-Identifier: GPL-2.0

//! What applications see: `/dev/idts`.

pub(crate) mod chardev;

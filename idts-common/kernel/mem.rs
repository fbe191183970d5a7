// SPDX-License-Identifier: GPL-2.0

//! Memory of rings and index words: when it may be accessed, and the only code that
//! accesses what a peer can write.

pub(crate) mod local;
pub(crate) mod revocable;
pub(crate) mod shared;

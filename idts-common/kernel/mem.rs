// SPDX-License-Identifier: GPL-2.0

//! Memory of rings and index words: until when it may be accessed, and the only code that
//! accesses memory that a peer can write.
//!
//! Rules of PROTOCOL.md section 2 hold here: no Rust reference to such memory exists, each word
//! is read by one access into private memory, and checks look at that copy.

#![deny(clippy::missing_docs_in_private_items)]

pub(crate) mod local;
pub(crate) mod revocable;
pub(crate) mod shared;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small client of xenstore, for tools: look up, write, watch, transact.
//!
//! [`Client`] is a connection, [`Tree`] what of it can be made up for a test.
//! Values are bytes, for any domain may have written them; names and paths are
//! text, of which xenstored takes ASCII alone. What nodes mean is the caller's
//! business.

mod client;
mod tree;
mod wire;

pub use client::Client;
pub use tree::{domain_by_name, Tree, DOMAINS};

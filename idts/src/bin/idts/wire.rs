// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a file crosses, whatever it is made of.

use std::io::{Read, Write};

/// The channel that a file crosses.
pub trait Wire: Read + Write {
    /// Takes no more from the other end: its writes fail from now on.
    fn refuse(&mut self);

    /// What is read from now on comes soon, or not at all.
    fn hurry(&mut self);

    /// What is written from now on is the last; it has a time of its own.
    fn come_to_the_end(&mut self);
}

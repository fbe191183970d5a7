// SPDX-License-Identifier: GPL-2.0
//! What is said to people and scripts. A full disk or a reader that has gone is
//! no panic: a result that could not be written is an error of its own, and a
//! remark that could not is left out.

use std::fmt;
use std::io::{self, Write};

/// A result that could not be written, and why.
#[derive(Debug)]
pub struct Unsaid(io::Error);

impl Unsaid {
    /// Whoever read it wants no more.
    pub fn nobody_reads(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for Unsaid {}

impl From<io::Error> for Unsaid {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

/// Writes a result, all of it, to standard output.
pub fn result(text: &str) -> Result<(), Unsaid> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Unsaid)
}

/// Writes a remark, one line, to standard error.
pub fn remark(text: &str) {
    let _ = io::stderr().write_all(format!("tunnel-mgr: {text}\n").as_bytes());
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crate as a program uses it, on unix sockets in place of the driver: how waiting ends, and
//! what a descriptor goes through.

mod descriptors;
mod ends;

use std::env;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use idts::{Error, Listener};
use tempfile::TempDir;

/// The folder of the sockets, for all tests of this program.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    env::set_var("IDTS_SOCKETS", folder.path());
    folder
});

/// Listens on `port`, each test on its own.
fn listen(port: u32) -> Listener {
    assert!(FOLDER.path().is_dir());
    Listener::bind(port).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

const SOON: Duration = Duration::from_millis(20);

// SPDX-License-Identifier: GPL-2.0
//! Signals as something that can be waited for. What whoever started this program
//! had ignored stays ignored.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Those that have come.
pub struct Signals {
    wake: UnixStream,
    caught: Vec<(i32, Arc<AtomicBool>)>,
}

impl Signals {
    /// Catches SIGHUP, SIGINT and SIGTERM from now on.
    pub fn catch() -> Result<Self> {
        let (wake, other) = UnixStream::pair().context("cannot make a pair of sockets")?;
        wake.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let ignored = ignored();
        let mut caught = Vec::new();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            if ignored & (1 << (signal - 1)) != 0 {
                continue;
            }
            let flag = Arc::new(AtomicBool::new(false));
            flag::register(signal, flag.clone()).context("cannot catch signals")?;
            low_level::pipe::register(signal, other.try_clone()?)
                .context("cannot catch signals")?;
            caught.push((signal, flag));
        }
        Ok(Self { wake, caught })
    }

    /// Readable once one has come.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Those that have come since this was last asked.
    pub fn take(&mut self) -> Vec<i32> {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|count| count > 0) {}
        let come = |(_, flag): &&(i32, Arc<AtomicBool>)| flag.swap(false, Ordering::SeqCst);
        self.caught
            .iter()
            .filter(come)
            .map(|(signal, _)| *signal)
            .collect()
    }
}

/// Ends this program as the signal would have.
pub fn die(signal: i32) {
    let _ = low_level::emulate_default_handler(signal);
}

/// The set of ignored signals, as the kernel tells it; none where it does not.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

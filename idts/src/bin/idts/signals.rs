// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that end the program: something is done first, and then they end it, so that
//! whoever waits for it sees by what. Those that were ignored at the start, by nohup or
//! a shell that put it into the background, stay ignored.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// A file that may not grow any more (`ulimit -f`) is an error like that of a full disk, and
/// no death.
pub fn survive_files_that_are_too_large() {
    // Without it the program only dies as others do.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// From here on `last` is called before such a signal ends the program; it gets the
/// signal's name. What it returns is kept until the end: a lock, say. A second signal does
/// not wait for what the first one has begun.
pub fn before_the_end<T>(last: impl FnOnce(&str) -> T + Send + 'static) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let heeded: Vec<_> = ENDING
        .into_iter()
        .filter(|signal| !is_ignored(&status, *signal))
        .collect();
    if heeded.is_empty() {
        return Ok(());
    }
    let begun = Arc::new(AtomicBool::new(false));
    for signal in &heeded {
        flag::register_conditional_default(*signal, Arc::clone(&begun))?;
    }
    let mut signals = Signals::new(heeded)?;
    thread::Builder::new().spawn(move || {
        if let Some(signal) = signals.forever().next() {
            begun.store(true, Ordering::Relaxed);
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            let _kept = last(name);
            // It does not return, as these signals end a program.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Whether `signal` is ignored, by what /proc says of a process.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tidts\nSigIgn:\t0000000000001003\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored(status, SIGHUP) && is_ignored(status, SIGINT));
        assert!(!is_ignored(status, SIGTERM));
        assert!(!is_ignored("", SIGHUP) && !is_ignored("SigIgn:\tx\n", SIGHUP));
    }
}

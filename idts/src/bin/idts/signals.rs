// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that end the program: something is done first, and then they end it, so that
//! whoever waits for it sees by what. Those that were ignored at the start, by nohup or
//! a shell that put it into the background, stay ignored.

use std::fs;
use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// From here on `last` is called before such a signal ends the program; it gets the
/// signal's name. What it returns is kept until the end: a lock, say.
pub fn before_the_end<T>(last: impl FnOnce(&str) -> T + Send + 'static) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let heeded: Vec<_> = ENDING
        .into_iter()
        .filter(|signal| !is_ignored(&status, *signal))
        .collect();
    if heeded.is_empty() {
        return Ok(());
    }
    let mut signals = Signals::new(heeded)?;
    thread::Builder::new().spawn(move || {
        if let Some(signal) = signals.forever().next() {
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

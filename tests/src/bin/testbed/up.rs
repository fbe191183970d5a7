// SPDX-License-Identifier: GPL-2.0
//! `up`: tells each step with the time since the start, and leaves nothing behind when interrupted.

use std::thread;
use std::time::Instant;

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use testbed::place::Place;
use testbed::{Config, Testbed};

/// Brings a testbed up.
pub fn up(config: &Config) -> Result<()> {
    let start = Instant::now();
    let tell = |text: &str| eprintln!("testbed: [{:5.1} s] {text}", start.elapsed().as_secs_f32());
    end_on_signal()?;
    let testbed = Testbed::up(config, &tell)?;
    let names = std::iter::once("dom0".to_string()).chain(testbed.guests());
    tell(&format!("up: {}", names.collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Ctrl-C ends what was started so far.
fn end_on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mine = Place::from_env();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // A state that is kept is of this very run, or of none: the lock is ours.
            if let Err(error) = Testbed::interrupt(&mine) {
                eprintln!("testbed: {error:#}");
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

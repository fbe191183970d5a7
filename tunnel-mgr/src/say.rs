// SPDX-License-Identifier: GPL-2.0
//! What is said to people and scripts. A full disk or a reader that has gone is
//! no panic: a result that could not be written is an error of its own, and a
//! remark that could not is left out.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use idts::output::{self, Unwritten};
use rustix::event::{poll, PollFd, PollFlags, Timespec};

/// Writes a result, all of it, to standard output.
pub fn result(text: &str) -> Result<(), Unwritten> {
    output::write(format_args!("{text}"))
}

/// Whether this program serves, and must not wait for who reads what it says.
static SERVES: AtomicBool = AtomicBool::new(false);
/// Lines that could not be written by one that serves.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Longest line that a pipe takes as a whole, or not at all.
const LINE_MAX: usize = 4096;

/// From now on a line that cannot be written at once is left out, and counted.
pub fn serve() {
    SERVES.store(true, Ordering::Relaxed);
}

/// Whether it is so.
pub fn serves() -> bool {
    SERVES.load(Ordering::Relaxed)
}

/// Writes a remark, one line, to standard error.
pub fn remark(text: &str) {
    let line = format!("tunnel-mgr: {text}");
    if serves() {
        log(&io::stderr(), line);
    } else {
        output::say(line);
    }
}

/// Writes what a program that serves has done, one line, to standard output.
pub fn event(text: &str) {
    log(&io::stdout(), text.into());
}

fn log(to: &impl AsFd, mut line: String) {
    let lost = LOST.load(Ordering::Relaxed);
    if lost > 0 {
        line += &format!(" ({lost} lines before it could not be written)");
    }
    let mut line = line.into_bytes();
    line.truncate(LINE_MAX - 1);
    line.push(b'\n');
    if try_write(to, &line) {
        LOST.fetch_sub(lost, Ordering::Relaxed);
    } else {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes if that does not wait.
fn try_write(to: &impl AsFd, line: &[u8]) -> bool {
    let mut fds = [PollFd::new(to, PollFlags::OUT)];
    // A pipe is writable while it has room for a whole page.
    let ready = poll(&mut fds, Some(&Timespec::default()));
    if !ready.is_ok_and(|count| count > 0) || !fds[0].revents().contains(PollFlags::OUT) {
        return false;
    }
    rustix::io::write(to, line).is_ok_and(|written| written == line.len())
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts echo` with more peers than it can serve.

use std::fs::File;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use crate::bed::{Bed, Run, HUNG};

fn ping(bed: &Bed) -> Run {
    Run::piped(&mut bed.line("ping 0:7 --wait 60 -c 3"))
}

/// A peer that ping is and that stays.
fn stay(bed: &Bed) -> Run {
    let mut stay = bed.line("ping 0:7 --wait 60 -c 2 -i 9999");
    Run::piped(&mut stay)
}

/// Out of descriptors it says so once and serves those that it has, and others when it can.
#[test]
fn descriptors_that_run_out_end_nobody() {
    let bed = Bed::new();
    let args = ["echo", "7"].map(String::from);
    let mut limited: Command = bed.idts_after("ulimit -n 12", &args);
    let log = bed.path("log");
    let echo = Run::start(limited.stderr(File::create(&log).unwrap()));
    let complaints = || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.matches("Too many open files").count()
    };
    bed.wait_for("0-7-0");
    let mut crowd: Vec<_> = (0..20).map(|_| stay(&bed)).collect();
    let started = Instant::now();
    while complaints() == 0 {
        assert!(started.elapsed() < HUNG, "it says nothing");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // It tries again some times.
    std::thread::sleep(std::time::Duration::from_millis(500));
    crowd.clear();
    ping(&bed).end().with(0);
    drop(echo);
    assert_eq!(complaints(), 1);
}

/// More peers than seats wait; each thread and its buffers are some peer's.
#[test]
fn peers_are_served_a_few_at_a_time() {
    let bed = Bed::new();
    let echo = Run::piped(&mut bed.line("echo 7 --peers 2"));
    bed.wait_for("0-7-0");
    let mut crowd: Vec<_> = (0..2).map(|_| stay(&bed)).collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut third = ping(&bed);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", echo.id())).unwrap();
    assert!(tasks.count() <= 3);
    assert!(third.is_running());
    crowd.pop();
    third.end().with(0);
}

/// Peers that come and break off do not flood the log.
#[test]
fn peers_that_break_off_are_told_of_once() {
    let bed = Bed::new();
    let echo = Run::piped(&mut bed.line("echo 7"));
    bed.wait_for("0-7-0");
    for _ in 0..10 {
        // It sends what it does not wait to get back.
        let mut ping = bed.line("ping 0:7 --wait 60 -c 999999 -s 60000");
        let mut ping = Run::piped(&mut ping);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(ping.is_running());
        ping.signal(Signal::KILL);
        ping.end();
    }
    echo.signal(Signal::TERM);
    let ended = echo.end();
    assert!(ended.stderr.lines().count() <= 2, "{}", ended.stderr);
}

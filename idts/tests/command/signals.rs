// SPDX-License-Identifier: MIT OR Apache-2.0
//! What commands do before a signal ends them; that it does, `table` shows of all.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::Signal;

use crate::bed::{names, pattern, Bed, Run, HUNG};

/// What was measured until then is told.
#[test]
fn an_interrupted_ping_sums_up() {
    let bed = Bed::new();
    let echo = Run::piped(&mut bed.line("echo 7"));
    bed.wait_for("0-7-0");
    let mut ping = Run::piped(&mut bed.line("ping 0:7 -c 999999999 -i 0.001 --json"));
    // Any time will do, once it has begun.
    thread::sleep(Duration::from_millis(500));
    assert!(ping.is_running());
    ping.signal(Signal::INT);
    let ended = ping.end();
    assert_eq!(ended.status.signal(), Some(Signal::INT.as_raw()));
    let told: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(told["count"].as_u64() > Some(0), "{told}");
    drop(echo);
}

/// Who subscribes for good ends no other way.
#[test]
fn interrupted_publishers_and_subscribers_tell_their_counts() {
    let bed = Bed::new();
    let subscribe = Run::piped(&mut bed.line("subscribe news --json -o file"));
    bed.wait_for("group-news");
    let publish = "publish news --count 999999 --interval 9999 --json";
    let publish = Run::piped(&mut bed.line(publish));
    let started = Instant::now();
    while !std::fs::read(bed.path("file")).is_ok_and(|records| records.len() == 64) {
        assert!(started.elapsed() < HUNG, "no record comes");
        thread::sleep(Duration::from_millis(2));
    }
    // The publisher last, whose end would be the subscriber's.
    for (run, ended) in [(subscribe, Some("signal")), (publish, None)] {
        run.signal(Signal::INT);
        let over = run.end();
        assert_eq!(over.status.signal(), Some(Signal::INT.as_raw()));
        let told: serde_json::Value = serde_json::from_slice(&over.stdout).unwrap();
        // The publisher may not have counted its one yet.
        let least = u64::from(ended.is_some());
        assert!(told["records"].as_u64() >= Some(least), "{told}");
        assert_eq!(told["ended"].as_str(), ended, "{told}");
    }
}

/// A pipe that nobody reads and nothing fits into.
fn stalled() -> (io::PipeReader, File) {
    let (reader, mut writer) = io::pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[7; 4096]).is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    (reader, OwnedFd::from(writer).into())
}

/// Nobody reads what it has to tell: whoever insists need not kill it.
#[test]
fn a_second_signal_ends_what_the_first_one_began() {
    let bed = Bed::new();
    let _echo = Run::piped(&mut bed.line("echo 7"));
    bed.wait_for("0-7-0");
    let (_reader, output) = stalled();
    let mut ping = bed.line("ping 0:7 -c 999999999 -i 0.001");
    let mut ping = Run::start(ping.stdout(output));
    // Any time will do, once it has begun.
    thread::sleep(Duration::from_millis(500));
    assert!(ping.is_running());
    let started = Instant::now();
    while ping.is_running() {
        assert!(started.elapsed() < HUNG, "it goes on");
        ping.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(20));
    }
    let by = ping.end().status.signal();
    assert_eq!(by, Some(Signal::TERM.as_raw()));
}

/// As a service manager or a shell limits files; the sender hears it too.
#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let bed = Bed::new();
    bed.file("out", &pattern(100_000));
    std::fs::create_dir(bed.path("folder")).unwrap();
    let args = ["recv", "7", "folder/in"].map(String::from);
    let recv = Run::piped(&mut bed.idts_after("ulimit -f 8", &args));
    let send = Run::piped(&mut bed.line("send out 0:7 --wait 60"));
    send.end().with(1).says("File too large");
    recv.end().with(1).says("File too large");
    assert!(names(&bed.path("folder")).is_empty());
}

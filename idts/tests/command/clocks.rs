// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that are silent or trickle: nobody else waits for them, and what is limited ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{pattern, Bed, Run, HUNG};
use crate::transfers::{connect, header, reply};

/// Slow enough to take for ever, and never silent for long.
const TRICKLE: Duration = Duration::from_millis(20);

/// Writes a byte now and then for as long as somebody is there.
fn trickle(mut to: impl Write + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while to.write_all(&[7]).is_ok() {
            thread::sleep(TRICKLE);
        }
    })
}

/// Strangers who have connected; every second one says something.
fn crowd(bed: &Arc<Bed>, size: u32) -> Vec<UnixStream> {
    let bed = Arc::clone(bed);
    let coming = thread::spawn(move || {
        let come = |number: u32| {
            let mut stranger = connect(&bed, number);
            if number.is_multiple_of(2) {
                // It may have been sent away already.
                let _ = stranger.write_all(&header(3)[..20]);
            }
            stranger
        };
        (0..size).map(come).collect()
    });
    let started = Instant::now();
    while !coming.is_finished() {
        assert!(started.elapsed() < HUNG, "they are not accepted");
        thread::sleep(Duration::from_millis(2));
    }
    coming.join().unwrap()
}

/// Each stranger may take half a minute: one after the other they would take an hour.
#[test]
fn a_sender_does_not_wait_for_strangers() {
    let bed = Arc::new(Bed::new());
    bed.file("out", &pattern(5000));
    let recv = Run::piped(&mut bed.line("recv 7 in"));
    let _strangers = crowd(&bed, 130);
    bed.receive(recv).says("is passed over");
    assert_eq!(std::fs::read(bed.path("in")).unwrap(), pattern(5000));
}

/// Strangers that use all descriptors up end nobody.
#[test]
fn strangers_that_use_all_descriptors_up_make_room() {
    let bed = Arc::new(Bed::new());
    bed.file("out", &pattern(5000));
    let args = ["recv", "7", "in"].map(String::from);
    let recv = Run::piped(&mut bed.idts_after("ulimit -n 14", &args));
    let _strangers = crowd(&bed, 14);
    bed.receive(recv).says("Too many open files");
}

/// A sender that has said its header in pieces is one.
#[test]
fn a_header_may_come_in_pieces() {
    let bed = Bed::new();
    let recv = Run::piped(&mut bed.line("recv 7 in --max 1"));
    let mut peer = connect(&bed, 1);
    for byte in header(2) {
        peer.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(reply(&mut peer).contains("more than is taken"));
    drop(peer);
    recv.end().with(1);
}

/// A limit on each wait is none on a peer that moves a byte now and then.
#[test]
fn a_peer_that_trickles_ends_by_the_clock() {
    let bed = Bed::new();
    let recv = Run::piped(&mut bed.line("recv 7 in --timeout 60 --max-time 0.5"));
    let mut peer = connect(&bed, 1);
    peer.write_all(&header(1 << 20)).unwrap();
    let trickling = trickle(peer.try_clone().unwrap());
    assert!(reply(&mut peer).contains("longer than it may"));
    drop(peer);
    recv.end().with(1).says("longer than it may");
    trickling.join().unwrap();

    for more in ["", " --record"] {
        let bed = Bed::new();
        let echo = bed.line(&format!("echo 7 --once --timeout 60 --max-time 0.5{more}"));
        let echo = Run::piped(&mut { echo });
        let mut cat = bed.line(&format!("cat 0:7 --wait 60{more}"));
        let mut cat = Run::piped(cat.stdin(Stdio::piped()));
        let trickling = trickle(cat.child().stdin.take().unwrap());
        echo.end().with(1).says("longer than it may");
        trickling.join().unwrap();
    }
}

/// The same where the peer is slow to take.
#[test]
fn a_listener_that_trickles_ends_by_the_clock() {
    let bed = Bed::new();
    bed.file("out", &pattern(64 << 20));
    let (mut from, output) = std::io::pipe().unwrap();
    let mut idle = bed.line("cat -l 8");
    let idle = Run::start(idle.stdin(Stdio::piped()).stdout(output));
    thread::spawn(move || {
        while matches!(from.read(&mut [0; 4096]), Ok(1..)) {
            thread::sleep(TRICKLE);
        }
    });
    bed.wait_for("0-8-0");
    let send = Run::piped(&mut bed.line("send out 0:8 --timeout 60 --max-time 0.5"));
    send.end().with(1).says("longer than it may");
    drop(idle);
}

/// What comes back is right, and takes for ever.
#[test]
fn a_round_trip_that_trickles_ends_by_the_clock() {
    let bed = Bed::new();
    let mut slow = bed.line("cat -l 8");
    slow.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut slow = Run::start(&mut slow);
    let mut stdin = slow.child().stdin.take().unwrap();
    thread::spawn(move || {
        for byte in 0..100_000 {
            if stdin.write_all(&[byte as u8]).is_err() {
                return;
            }
            thread::sleep(TRICKLE);
        }
    });
    bed.wait_for("0-8-0");
    let ping = Run::piped(&mut bed.line("ping 0:8 -s 100000 -W 0.5"));
    ping.end().with(1).says("longer than it may");
}

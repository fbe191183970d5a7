// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts send` and `idts recv` with peers that lie, stall and know no end, and disks that fill.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::bed::{names, pattern, Bed, Run};

/// A peer of the command's listener at port 7, by hand. The command wants to know where a
/// connection is from by the name of its socket.
pub fn connect(bed: &Bed, number: u32) -> UnixStream {
    use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    bed.wait_for("0-7-0");
    let kind = SocketType::STREAM;
    let socket = net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let at = |name: &str| SocketAddrUnix::new(bed.sockets().join(name)).unwrap();
    net::bind(&socket, &at(&format!("test-{number}.from-3"))).unwrap();
    net::connect(&socket, &at("0-7-0")).unwrap();
    socket.into()
}

pub fn header(length: u64) -> Vec<u8> {
    let mut header = b"IDTSFILE\x01\0\0\0\x04\0\0\0".to_vec();
    header.extend(length.to_le_bytes());
    header.extend(b"name");
    header
}

/// What the receiver answers.
pub fn reply(peer: &mut UnixStream) -> String {
    let mut start = [0; 12];
    peer.read_exact(&mut start).unwrap();
    assert!(start.starts_with(b"IDTR\x01\0\0\0"), "{start:?}");
    let mut reason = vec![0; start[8].into()];
    peer.read_exact(&mut reason).unwrap();
    String::from_utf8(reason).unwrap()
}

/// Who sends endless bytes hears why they are not wanted, and the receiver ends at once
/// although the sender still has its end open.
#[test]
fn a_receiver_that_fails_says_why_and_ends() {
    for (args, length, reason) in [
        ("recv 7 in --max 1K", 1025, "more than is taken"),
        ("recv 7 in --max 0", 1, "more than is taken"),
        // More than any disk has.
        ("recv 7 in", 1 << 60, "no space for"),
        ("recv 7 /dev/full", 1 << 60, "No space left"),
    ] {
        let bed = Bed::new();
        let recv = Run::piped(&mut bed.line(args));
        let mut peer = connect(&bed, 1);
        peer.write_all(&header(length)).unwrap();
        let mut writer = peer.try_clone().unwrap();
        let writing = std::thread::spawn(move || while writer.write_all(&[7; 4096]).is_ok() {});
        let text = reply(&mut peer);
        assert!(text.contains(reason), "{args}: {text}");
        writing.join().unwrap();
        drop(peer);
        recv.end().with(1).says(reason);
        assert!(!bed.path("in").exists());
    }
}

#[test]
fn a_sender_tells_the_receivers_reason() {
    let bed = Bed::new();
    bed.file("out", &pattern(8 << 20));
    let recv = Run::piped(&mut bed.line("recv 7 /dev/full"));
    let send = Run::piped(&mut bed.line("send out 0:7 --wait 60"));
    send.end()
        .with(1)
        .says("the receiver failed: writing the file: No space left");
    recv.end().with(1).says("No space left");
}

#[test]
fn what_fits_is_taken() {
    let bed = Bed::new();
    bed.file("out", &pattern(1024));
    let recv = Run::piped(&mut bed.line("recv 7 in --max 1K --mode 640"));
    bed.receive(recv);
    assert_eq!(std::fs::read(bed.path("in")).unwrap(), pattern(1024));
    let mode = std::fs::metadata(bed.path("in"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o640);
}

/// Strangers do not use a receiver up: one that says nonsense, one that goes, and one that
/// says nothing.
#[test]
fn a_receiver_waits_for_a_sender() {
    let bed = Bed::new();
    bed.file("out", &pattern(5000));
    let recv = Run::piped(&mut bed.line("recv 7 in --timeout 0.5"));
    let mut nonsense = connect(&bed, 1);
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(connect(&bed, 2));
    let _silent = connect(&bed, 3);
    let mut slow = connect(&bed, 4);
    slow.write_all(b"IDTS").unwrap();
    bed.receive(recv).says("is passed over");
    assert_eq!(std::fs::read(bed.path("in")).unwrap(), pattern(5000));
}

/// One of another version hears so.
#[test]
fn a_sender_of_another_version_is_told() {
    let bed = Bed::new();
    let _recv = Run::piped(&mut bed.line("recv 7 in"));
    let mut peer = connect(&bed, 1);
    let mut other = header(0);
    other[8] = 9;
    peer.write_all(&other).unwrap();
    assert!(reply(&mut peer).contains("version 9"));
}

/// A limit on waiting holds at any point of a transfer, at both ends.
#[test]
fn nobody_waits_longer_than_asked_for() {
    let bed = Bed::new();
    bed.file("out", &pattern(5000));
    let recv = Run::piped(&mut bed.line("recv 7 in --timeout 0.3"));
    let mut peer = connect(&bed, 1);
    peer.write_all(&header(100)).unwrap();
    peer.write_all(&[7; 50]).unwrap();
    recv.end()
        .with(1)
        .says("silent for too long after 50 of 100 bytes");
    assert_eq!(names(&bed.sockets()).len(), 2);
    // A listener that takes nothing and says nothing.
    for args in ["send out 0:8 --timeout 0.3", "ping 0:8 -W 0.3"] {
        let bed = Bed::new();
        bed.file("out", &pattern(5 << 20));
        let mut idle = bed.line("cat -l 8");
        idle.stderr(std::process::Stdio::null());
        // It reads nothing once its output is full.
        let (_reader, output) = std::io::pipe().unwrap();
        let _idle = Run::start(idle.stdin(std::process::Stdio::piped()).stdout(output));
        bed.wait_for("0-8-0");
        Run::piped(&mut bed.line(args)).end().with(1);
    }
    let bed = Bed::new();
    let echo = Run::piped(&mut bed.line("echo 7 --once --timeout 0.3"));
    let _peer = connect(&bed, 1);
    echo.end().with(1).says("timed out");
}

/// Once the sender hears that it failed, nothing of the file is left, though the sender stays.
#[test]
fn a_failed_transfer_holds_no_space() {
    let bed = Bed::new();
    let recv = Run::piped(&mut bed.line("recv 7 in"));
    let mut peer = connect(&bed, 1);
    peer.write_all(&header(100)).unwrap();
    peer.write_all(&[7; 100]).unwrap();
    // A checksum that does not fit, and then the peer lies low.
    peer.write_all(&[0; 4]).unwrap();
    reply(&mut peer);
    let open = format!("/proc/{}/fd", recv.id());
    let held = std::fs::read_dir(open).unwrap().any(|entry| {
        let target = entry.and_then(|entry| std::fs::read_link(entry.path()));
        target.is_ok_and(|target| target.to_string_lossy().contains("deleted"))
    });
    assert!(!held, "the file is still open");
    drop(peer);
    recv.end().with(1).says("checksum");
}

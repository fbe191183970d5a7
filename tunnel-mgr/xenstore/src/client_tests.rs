// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of client.rs against a made-up xenstored that knows its part.

use super::*;
use crate::wire::PAYLOAD_MAX;
use std::thread::{spawn, JoinHandle};

/// A message as xenstored would send it, which may be too long.
fn raw(kind: Kind, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let words = [kind as u32, 0, transaction, payload.len() as u32];
    let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    message.extend(payload);
    message
}

fn said(kind: Kind, payload: &[u8]) -> Vec<u8> {
    raw(kind, 0, payload)
}

/// A xenstored that expects each request and gives the answer beside it.
fn scripted(script: Vec<(Vec<u8>, Vec<u8>)>) -> (Client, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = spawn(move || {
        for (request, answer) in script {
            let mut got = vec![0; request.len()];
            theirs.read_exact(&mut got).unwrap();
            assert_eq!(got, request);
            theirs.write_all(&answer).unwrap();
        }
    });
    (Client::over(ours), server)
}

#[test]
fn reads_lists_and_takes_absence_for_an_answer() {
    let (mut client, server) = scripted(vec![
        (said(Kind::Read, b"/a\0"), said(Kind::Read, b"value")),
        (said(Kind::Read, b"/n\0"), said(Kind::Read, b"\xff\n\0")),
        (said(Kind::Read, b"/b\0"), said(Kind::Error, b"ENOENT\0")),
        (
            said(Kind::Directory, b"/a\0"),
            said(Kind::Directory, b"x\0y\0"),
        ),
        (said(Kind::Directory, b"/e\0"), said(Kind::Directory, b"")),
        (said(Kind::Read, b"/c\0"), said(Kind::Error, b"EACCES\0")),
    ]);
    assert_eq!(client.read("/a").unwrap().unwrap(), b"value");
    assert_eq!(client.read("/n").unwrap().unwrap(), b"\xff\n\0");
    assert_eq!(client.read("/b").unwrap(), None);
    assert_eq!(client.list("/a").unwrap(), ["x", "y"]);
    assert!(client.list("/e").unwrap().is_empty());
    let error = client.read("/c").unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::ACCESS));
    server.join().unwrap();
}

#[test]
fn long_lists_come_in_parts_of_one_generation() {
    let part = |offset: &str| said(Kind::DirectoryPart, format!("/a\0{offset}\0").as_bytes());
    let (mut client, server) = scripted(vec![
        (
            said(Kind::Directory, b"/a\0"),
            said(Kind::Error, b"E2BIG\0"),
        ),
        (part("0"), said(Kind::DirectoryPart, b"7\0x\0yy\0")),
        // One was added before `x`: what was read is worth nothing.
        (part("5"), said(Kind::DirectoryPart, b"8\0yy\0\0")),
        (part("0"), said(Kind::DirectoryPart, b"8\0new\0x\0")),
        (part("6"), said(Kind::DirectoryPart, b"8\0yy\0\0")),
    ]);
    assert_eq!(client.list("/a").unwrap(), ["new", "x", "yy"]);
    server.join().unwrap();
}

#[test]
fn a_transaction_carries_its_id_and_may_have_to_be_repeated() {
    let (mut client, server) = scripted(vec![
        (
            said(Kind::TransactionStart, b"\0"),
            said(Kind::TransactionStart, b"7\0"),
        ),
        (raw(Kind::Write, 7, b"/a\0v"), raw(Kind::Write, 7, b"OK\0")),
        (
            raw(Kind::SetPerms, 7, b"/a\0n3\0r0\0"),
            raw(Kind::SetPerms, 7, b"OK\0"),
        ),
        (
            raw(Kind::TransactionEnd, 7, b"T\0"),
            raw(Kind::Error, 7, b"EAGAIN\0"),
        ),
        (said(Kind::Read, b"/a\0"), said(Kind::Read, b"")),
    ]);
    client.begin().unwrap();
    assert!(client.begin().is_err());
    client.write("/a", b"v").unwrap();
    client
        .set_permissions("/a", &["n3".into(), "r0".into()])
        .unwrap();
    assert!(!client.end(true).unwrap());
    assert_eq!(client.read("/a").unwrap().unwrap(), b"");
    server.join().unwrap();
}

/// A client that watches `/a`, and the other end of its link.
fn watching() -> (Client, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Client::over(ours);
    let mut server = theirs.try_clone().unwrap();
    let request = said(Kind::Watch, b"/a\0/a\0");
    server.write_all(&event("/a/b", "/a")).unwrap();
    server.write_all(&said(Kind::Watch, b"OK\0")).unwrap();
    client.watch("/a").unwrap();
    let mut got = vec![0; request.len()];
    server.read_exact(&mut got).unwrap();
    assert_eq!(got, request);
    (client, theirs)
}

fn event(path: &str, token: &str) -> Vec<u8> {
    said(Kind::WatchEvent, format!("{path}\0{token}\0").as_bytes())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

#[test]
fn events_before_an_answer_are_kept() {
    let (mut client, _server) = watching();
    assert!(client.wait(soon()).unwrap());
    assert_eq!(client.changes().unwrap(), ["/a".into()].into());
    assert!(client.changes().unwrap().is_empty());
}

#[test]
fn events_take_no_more_room_than_the_watches() {
    let (mut client, mut server) = watching();
    let flood = spawn(move || {
        for number in 0..20000 {
            server
                .write_all(&event(&format!("/a/{number}"), "/a"))
                .unwrap();
        }
        server.write_all(&event("/other", "/other")).unwrap();
        server.write_all(&said(Kind::Read, b"value")).unwrap();
        server
    });
    assert_eq!(client.read("/a").unwrap().unwrap(), b"value");
    assert_eq!(client.changed, ["/a".into()].into());
    drop(flood.join().unwrap());
}

#[test]
fn waiting_ends_at_the_deadline() {
    let (mut client, mut server) = watching();
    // There is an event, and half of another one, and none of it counts.
    server.write_all(&event("/a", "/a")[..10]).unwrap();
    assert!(!client.wait(Instant::now()).unwrap());
    assert_eq!(client.changes().unwrap().len(), 1);
    let deadline = Instant::now() + Duration::from_millis(10);
    assert!(!client.wait(deadline).unwrap());
    assert!(Instant::now() >= deadline);
}

#[test]
fn waiting_can_be_ended() {
    let (mut client, _server) = watching();
    client.changes().unwrap();
    let (wake, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"x").unwrap();
    assert!(client.wait_or(soon(), Some(wake.as_fd())).unwrap());
    assert!(client.changes().unwrap().is_empty());
}

#[test]
fn a_broken_connection_gives_errors_alone() {
    let long = raw(Kind::Read, 0, &[b'x'; PAYLOAD_MAX + 1]);
    for (answer, kind) in [
        (said(Kind::Write, b"OK\0"), io::ErrorKind::InvalidData),
        (long, io::ErrorKind::InvalidData),
        (
            said(Kind::Read, b"whole")[..18].to_vec(),
            io::ErrorKind::UnexpectedEof,
        ),
    ] {
        let (mut client, server) = scripted(vec![(said(Kind::Read, b"/a\0"), answer)]);
        assert_eq!(client.read("/a").unwrap_err().kind(), kind);
        server.join().unwrap();
        let broken = io::ErrorKind::NotConnected;
        assert_eq!(client.read("/a").unwrap_err().kind(), broken);
        assert_eq!(client.wait(soon()).unwrap_err().kind(), broken);
        assert_eq!(client.changes().unwrap_err().kind(), broken);
    }
}

/// An xenstored from which the same comes for ever.
struct Endless {
    always_readable: File,
    bytes: Vec<u8>,
    reads: usize,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        assert!(self.reads < 10_000_000, "it is read for ever");
        into[..self.bytes.len()].copy_from_slice(&self.bytes);
        Ok(self.bytes.len())
    }
}

impl Write for Endless {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Endless {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.always_readable.as_fd()
    }
}

#[test]
fn no_answer_in_time_breaks_the_connection() {
    let silent = |part: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(part).unwrap();
        (Client::over(ours), Some(theirs))
    };
    let endless = Endless {
        always_readable: File::open("/dev/zero").unwrap(),
        bytes: event("/a", "/a"),
        reads: 0,
    };
    for (mut client, _other_end) in [
        silent(b""),
        silent(&said(Kind::Read, b"whole")[..18]),
        (Client::over(endless), None),
    ] {
        client.limit = Duration::from_millis(20);
        let error = client.read("/a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = client.read("/a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let (mut client, server) = scripted(Vec::new());
    let error = client.write("/a", &[b'x'; PAYLOAD_MAX]).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::TOOBIG));
    server.join().unwrap();
}

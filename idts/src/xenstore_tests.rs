// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of xenstore.rs against a made-up xenstored that knows its part.

use super::*;
use std::thread::{spawn, JoinHandle};
use std::time::Duration;

/// A message as xenstored would send it.
fn message(kind: Kind, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let words = [kind as u32, 0, transaction, payload.len() as u32];
    let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    message.extend(payload);
    message
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
        (
            message(Kind::Read, 0, b"/a\0"),
            message(Kind::Read, 0, b"value"),
        ),
        (
            message(Kind::Read, 0, b"/b\0"),
            message(Kind::Error, 0, b"ENOENT\0"),
        ),
        (
            message(Kind::Directory, 0, b"/a\0"),
            message(Kind::Directory, 0, b"x\0y\0"),
        ),
        (
            message(Kind::Directory, 0, b"/e\0"),
            message(Kind::Directory, 0, b""),
        ),
        (
            message(Kind::Read, 0, b"/c\0"),
            message(Kind::Error, 0, b"EACCES\0"),
        ),
    ]);
    assert_eq!(client.read("/a").unwrap().as_deref(), Some("value"));
    assert_eq!(client.read("/b").unwrap(), None);
    assert_eq!(client.list("/a").unwrap(), ["x", "y"]);
    assert!(client.list("/e").unwrap().is_empty());
    let error = client.read("/c").unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::ACCESS));
    server.join().unwrap();
}

#[test]
fn a_transaction_carries_its_id_and_may_have_to_be_repeated() {
    let (mut client, server) = scripted(vec![
        (
            message(Kind::TransactionStart, 0, b"\0"),
            message(Kind::TransactionStart, 0, b"7\0"),
        ),
        (
            message(Kind::Write, 7, b"/a\0v"),
            message(Kind::Write, 7, b"OK\0"),
        ),
        (
            message(Kind::SetPerms, 7, b"/a\0n3\0r0\0"),
            message(Kind::SetPerms, 7, b"OK\0"),
        ),
        (
            message(Kind::TransactionEnd, 7, b"T\0"),
            message(Kind::Error, 7, b"EAGAIN\0"),
        ),
        (message(Kind::Read, 0, b"/a\0"), message(Kind::Read, 0, b"")),
    ]);
    client.begin().unwrap();
    assert!(client.begin().is_err());
    client.write("/a", "v").unwrap();
    client
        .set_permissions("/a", &["n3".into(), "r0".into()])
        .unwrap();
    assert!(!client.end(true).unwrap());
    assert_eq!(client.read("/a").unwrap().as_deref(), Some(""));
    server.join().unwrap();
}

#[test]
fn events_before_an_answer_are_kept() {
    let mut answer = message(Kind::WatchEvent, 0, b"/a/b\0/a\0");
    answer.extend(message(Kind::Watch, 0, b"OK\0"));
    let (mut client, server) = scripted(vec![(message(Kind::Watch, 0, b"/a\0/a\0"), answer)]);
    client.watch("/a").unwrap();
    assert_eq!(
        client.wait(Instant::now()).unwrap().as_deref(),
        Some("/a/b")
    );
    server.join().unwrap();
}

#[test]
fn waiting_ends_at_the_deadline() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let deadline = Instant::now() + Duration::from_millis(10);
    assert_eq!(Client::over(ours).wait(deadline).unwrap(), None);
}

#[test]
fn refuses_nonsense() {
    for answer in [
        message(Kind::Write, 0, b"OK\0"),
        message(Kind::Read, 0, b"\xff"),
        message(Kind::Read, 0, &[b'x'; PAYLOAD_MAX + 1]),
    ] {
        let (mut client, server) = scripted(vec![(message(Kind::Read, 0, b"/a\0"), answer)]);
        let error = client.read("/a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let (mut client, server) = scripted(Vec::new());
    let error = client.write("/a", &"x".repeat(PAYLOAD_MAX)).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::TOOBIG));
    server.join().unwrap();
}

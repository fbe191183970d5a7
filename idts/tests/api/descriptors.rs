// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors lent, taken out and put in.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::process::{Command, Stdio};

use idts::{Address, Bind, Channel, Connect, Listener, Peer, Publisher, Subscriber};
use rustix::fs::{fcntl_getfl, OFlags};

use crate::{kind, listen, FOLDER, SOON};

fn blocks(fd: impl AsFd) -> bool {
    !fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

#[test]
fn a_child_has_a_channel_for_its_output() {
    let listener = listen(7101);
    let client = Channel::connect(Address::new(0, 7101)).unwrap();
    // The child knows nothing of this program's limits.
    client.set_write_timeout(Some(SOON)).unwrap();
    let fd = OwnedFd::from(client);
    assert!(blocks(&fd));
    // By one expression, which keeps nothing of the descriptor open.
    let ended = Command::new("echo")
        .arg("hello")
        .stdout(Stdio::from(fd))
        .status();
    assert!(ended.unwrap().success());
    let mut heard = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut heard)
        .unwrap();
    assert_eq!(heard, "hello\n");
}

#[test]
fn a_channel_comes_from_a_descriptor() {
    let listener = listen(7102);
    let client = Channel::connect(Address::new(0, 7102)).unwrap();
    let mut client = Channel::from(OwnedFd::from(client));
    assert_eq!(client.peer(), Peer::Unknown);
    assert!(!client.has_records());
    client.write_all(b"a").unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut server = Channel::from(OwnedFd::from(server));
    server.set_read_timeout(Some(SOON)).unwrap();
    server.read_exact(&mut [0]).unwrap();
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::WouldBlock,
        "it did not block before"
    );
    server.set_nonblocking(false).unwrap();
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_listener_comes_from_a_descriptor() {
    assert!(FOLDER.path().is_dir());
    let listener = Bind::new(7103).records().listen().unwrap();
    let fd = OwnedFd::from(listener);
    assert!(blocks(&fd));
    let listener = Listener::from(fd);
    let client = Connect::to(Address::new(0, 7103)).records().open().unwrap();
    client.send(b"a").unwrap();
    let (server, _) = listener.accept().unwrap();
    assert!(server.has_records());
    assert_eq!(server.recv(&mut [0; 8]).unwrap().len, 1);
    listener.set_timeout(Some(SOON)).unwrap();
    assert_eq!(kind(listener.accept()), ErrorKind::TimedOut);
}

#[test]
fn all_four_have_a_descriptor() {
    assert!(FOLDER.path().is_dir());
    let number = |fd: &dyn AsRawFd| fd.as_raw_fd();
    let subscriber = Subscriber::from(OwnedFd::from(Subscriber::subscribe("prices").unwrap()));
    let publisher = Publisher::from(OwnedFd::from(Publisher::publish("prices").unwrap()));
    publisher.send(b"tea 3").unwrap();
    assert_eq!(subscriber.recv(&mut [0; 8]).unwrap().len, 5);
    assert_eq!((publisher.group(), subscriber.group()), ("", ""));
    for fd in [
        number(&publisher),
        number(&subscriber),
        number(&listen(7104)),
    ] {
        assert!(fd >= 0);
    }
    let before = number(&publisher);
    assert_eq!(publisher.into_raw_fd(), before);
}

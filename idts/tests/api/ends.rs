// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a waiting ends: by its limit, and from another thread.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;

use idts::{Address, Channel, Publisher, Subscriber};

use crate::{kind, listen, FOLDER, SOON};

#[test]
fn an_accept_ends_by_its_limit() {
    let listener = listen(7001);
    listener.set_timeout(Some(SOON)).unwrap();
    assert_eq!(kind(listener.accept()), ErrorKind::TimedOut);
    let _client = Channel::connect(Address::new(0, 7001)).unwrap();
    listener.accept().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(kind(listener.accept()), ErrorKind::WouldBlock);
}

#[test]
fn a_server_of_threads_ends_in_order() {
    let listener = listen(7002);
    thread::scope(|scope| {
        let (served, serving) = mpsc::channel();
        let servers: Vec<_> = (0..4)
            .map(|_| {
                let served = served.clone();
                scope.spawn(|| {
                    for channel in listener.incoming() {
                        served.send(channel.unwrap().1).unwrap();
                    }
                    drop(served);
                })
            })
            .collect();
        let _client = Channel::connect(Address::new(0, 7002)).unwrap();
        serving.recv().unwrap();
        listener.shutdown();
        for server in servers {
            server.join().unwrap();
        }
    });
    let error = listener.accept().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert!(error.to_string().contains("shut down"), "{error}");
    assert!(listener.incoming().next().is_none());
}

#[test]
fn a_waiting_read_ends() {
    let listener = listen(7003);
    let client = Channel::connect(Address::new(0, 7003)).unwrap();
    let _server = listener.accept().unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&client).read(&mut [0]));
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_member_of_a_group_ends() {
    assert!(FOLDER.path().is_dir());
    let subscriber = Subscriber::subscribe("news").unwrap();
    let publisher = Publisher::publish("news").unwrap();
    publisher.send(b"one").unwrap();
    assert_eq!(subscriber.recv(&mut [0; 8]).unwrap().len, 3);
    publisher.shutdown().unwrap();
    assert_eq!(
        publisher.send(b"two").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| subscriber.recv(&mut [0; 8]));
        subscriber.shutdown().unwrap();
        assert!(waiting.join().unwrap().unwrap().is_end());
    });
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of transfer.rs over socket pairs, and with peers that break off or
//! lie at any byte.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;

/// A file in memory that becomes visible with commit.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    full_at: Option<usize>,
    committed: Rc<Cell<Option<usize>>>,
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self
            .full_at
            .is_some_and(|limit| self.bytes.len() + bytes.len() > limit)
        {
            return Err(io::Error::other("disk full"));
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Memory {
    fn commit(self) -> io::Result<()> {
        self.committed.set(Some(self.bytes.len()));
        Ok(())
    }
}

/// A byte that depends on where it stands.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

fn header(length: usize) -> Header {
    Header {
        length: length as u64,
        name: "name".into(),
    }
}

/// What a sender writes for a file with this content.
fn stream(content: &[u8]) -> Vec<u8> {
    let mut stream = header(content.len()).encode();
    stream.extend(content);
    stream.extend(crc32fast::hash(content).to_le_bytes());
    stream
}

/// A peer that sends `input` and takes everything.
struct Script<'a>(&'a [u8], Vec<u8>);

impl Read for Script<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives `input`; gives the result, what was committed, and the reply.
fn receive_from(input: &[u8]) -> (Result<Outcome, Failure>, Option<usize>, Vec<u8>) {
    let committed = Rc::new(Cell::new(None));
    let sink = Memory {
        committed: committed.clone(),
        ..Memory::default()
    };
    let mut peer = Script(input, Vec::new());
    let result = receive(&mut peer, |_| Ok(sink), |_| {});
    (result, committed.get(), peer.1)
}

#[test]
fn files_of_any_size_arrive() {
    for length in [0, 1, 4095, 4096, 4097, BUFFER_SIZE, 3 * BUFFER_SIZE + 1] {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let content = pattern(length);
        let sent = content.clone();
        let sender =
            thread::spawn(move || send(&mut &sent[..], &mut ours, &header(length), |_| {}));
        let committed = Rc::new(Cell::new(None));
        let sink = Memory {
            committed: committed.clone(),
            ..Memory::default()
        };
        let told = Cell::new(0);
        let received = receive(
            &mut theirs,
            |header| {
                assert_eq!(
                    (header.length, header.name.as_str()),
                    (length as u64, "name")
                );
                Ok(sink)
            },
            |done| told.set(done),
        )
        .unwrap();
        assert_eq!(sender.join().unwrap().unwrap(), received);
        assert_eq!(received.crc32, crc32fast::hash(&content));
        assert_eq!(committed.get(), Some(length));
        assert_eq!(told.get(), length as u64);
    }
}

#[test]
fn a_receiver_that_fails_tells_why() {
    type Open = fn() -> io::Result<Memory>;
    let cases: [(Open, &str); 2] = [
        (
            || {
                Ok(Memory {
                    full_at: Some(BUFFER_SIZE),
                    ..Memory::default()
                })
            },
            "disk full",
        ),
        (|| Err(io::Error::other("no such folder")), "no such folder"),
    ];
    for (open, reason) in cases {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let length = 3 * BUFFER_SIZE;
        let sender =
            thread::spawn(move || send(&mut io::repeat(7), &mut ours, &header(length), |_| {}));
        let failure = receive(&mut theirs, |_| open(), |_| {}).unwrap_err();
        assert!(matches!(failure, Failure::Sink(_)), "{failure}");
        match sender.join().unwrap() {
            Err(Failure::Receiver(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wrong_byte_is_found() {
    let mut input = stream(&pattern(5000));
    input[100] ^= 1;
    let (result, committed, reply) = receive_from(&input);
    assert!(matches!(result, Err(Failure::Checksum { .. })));
    assert_eq!(committed, None);
    assert!(matches!(
        read_reply(&mut &reply[..]),
        Err(Failure::Receiver(_))
    ));
}

#[test]
fn a_stream_that_ends_early_leaves_nothing() {
    let input = stream(&pattern(300));
    for end in 0..input.len() {
        let (result, committed, _) = receive_from(&input[..end]);
        assert!(
            matches!(result, Err(Failure::Closed { .. })),
            "{end}: {result:?}"
        );
        assert_eq!(committed, None);
    }
}

#[test]
fn a_file_that_shrinks_is_not_sent_short() {
    let mut peer = Script(&[], Vec::new());
    let failure = send(&mut &pattern(99)[..], &mut peer, &header(100), |_| {}).unwrap_err();
    assert!(matches!(failure, Failure::Shrank { missing: 1 }));
    let (result, committed, _) = receive_from(&peer.1);
    assert!(result.is_err());
    assert_eq!(committed, None);
}

#[test]
fn a_sender_believes_nothing_but_the_reply() {
    for (reply, expected) in [
        (&b""[..], "closed"),
        (&b"IDTR\0\0\0\0"[..], "closed"),
        (&b"HTTP/1.1 400"[..], "not `idts recv`"),
        (&b"IDTR\x01\0\0\0\x04\0\0\0why\x1b"[..], "why?"),
        (&b"IDTR\x00\0\0\0\xff\xff\xff\xff"[..], "not `idts recv`"),
    ] {
        let mut peer = Script(reply, Vec::new());
        let failure = send(&mut &b"x"[..], &mut peer, &header(1), |_| {}).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[test]
fn strangers_and_other_versions_are_told_apart() {
    let (result, ..) = receive_from(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(result, Err(Failure::Stranger("send"))));
    let mut input = stream(b"");
    input[8] = 2;
    let (result, ..) = receive_from(&input);
    assert!(matches!(result, Err(Failure::Version(2))));
}

#[test]
fn long_names_are_cut_between_characters() {
    let name = "ä".repeat(TEXT_MAX);
    let encoded = Header { length: 0, name }.encode();
    let read = Header::read(&mut &encoded[..]).unwrap();
    assert_eq!(read.name.len(), TEXT_MAX);
}

proptest! {
    /// Whatever a peer sends: no panic, and a commit only with success.
    #[test]
    fn a_lying_sender_gets_nothing_committed(
        mut input in proptest::collection::vec(any::<u8>(), 0..64),
        honest in any::<bool>(),
    ) {
        if honest {
            input.splice(0..0, header(20).encode());
        }
        let (result, committed, _) = receive_from(&input);
        prop_assert_eq!(result.is_ok(), committed.is_some());
    }
}

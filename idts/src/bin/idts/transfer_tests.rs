// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of transfer.rs over socket pairs, and with peers that break off or
//! lie at any byte.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

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

impl Wire for UnixStream {
    fn refuse(&mut self) {
        self.shutdown(Shutdown::Read).unwrap();
    }

    fn hurry(&mut self) {
        self.set_read_timeout(Some(Duration::from_secs(600)))
            .unwrap();
    }

    fn come_to_the_end(&mut self) {}
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

impl Wire for Script<'_> {
    fn refuse(&mut self) {}

    fn hurry(&mut self) {}

    fn come_to_the_end(&mut self) {}
}

/// Receives what a peer sends into `sink`.
fn take(peer: &mut impl Wire, sink: Memory, limits: [Option<u64>; 2]) -> Result<Outcome, Failure> {
    let header = read_header(peer)?;
    let [limit, room] = limits;
    receive(peer, &header, sink, limit, room, |_| {})
}

/// Receives `input`; gives the result, what was committed, and the reply.
fn receive_from(input: &[u8]) -> (Result<Outcome, Failure>, Option<usize>, Vec<u8>) {
    let committed = Rc::new(Cell::new(None));
    let sink = Memory {
        committed: committed.clone(),
        ..Memory::default()
    };
    let mut peer = Script(input, Vec::new());
    let result = take(&mut peer, sink, [None; 2]);
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
        let header = read_header(&mut theirs).unwrap();
        assert_eq!(
            (header.length, header.name.as_str()),
            (length as u64, "name")
        );
        let told_of = |done| told.set(done);
        let received = receive(&mut theirs, &header, sink, None, None, told_of).unwrap();
        assert_eq!(sender.join().unwrap().unwrap(), received);
        assert_eq!(received.crc32, crc32fast::hash(&content));
        assert_eq!(committed.get(), Some(length));
        assert_eq!(told.get(), length as u64);
    }
}

/// The sender has endless bytes: it hears the reason before it has sent them.
#[test]
fn a_receiver_that_fails_tells_why_and_soon() {
    const ENDLESS: usize = 1 << 50;
    let full = || Memory {
        full_at: Some(BUFFER_SIZE),
        ..Memory::default()
    };
    let cases = [
        (full(), [None; 2], "disk full"),
        (Memory::default(), [Some(7), None], "more than is taken"),
        (Memory::default(), [None, Some(7)], "no space"),
    ];
    for (sink, limits, reason) in cases {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let endless = header(ENDLESS);
        let sender = thread::spawn(move || send(&mut io::repeat(7), &mut ours, &endless, |_| {}));
        let failure = take(&mut theirs, sink, limits).unwrap_err();
        assert!(failure.to_string().contains(reason), "{failure}");
        match sender.join().unwrap() {
            Err(Failure::Receiver(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A sender of version 0.1.0, or one that lies low: the receiver's own failure is what it tells.
#[test]
fn a_local_failure_wins_and_takes_no_room() {
    let sink = Memory {
        full_at: Some(10),
        ..Memory::default()
    };
    let mut input = header(100).encode();
    input.extend([7; 20]);
    let mut peer = Script(&input, Vec::new());
    let failure = take(&mut peer, sink, [None; 2]).unwrap_err();
    assert!(matches!(failure, Failure::Sink(_)), "{failure}");
    assert!(matches!(
        read_reply(&mut &peer.1[..]),
        Err(Failure::Receiver(_))
    ));
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
fn a_file_that_grows_is_not_sent_cut() {
    for length in [0, 100] {
        let mut peer = Script(&[], Vec::new());
        let content = pattern(length + 1);
        let failure = send(&mut &content[..], &mut peer, &header(length), |_| {}).unwrap_err();
        assert!(matches!(failure, Failure::Grew { .. }), "{failure}");
        let (result, committed, _) = receive_from(&peer.1);
        assert!(result.is_err());
        assert_eq!(committed, None);
    }
}

#[test]
fn a_text_of_the_peer_cannot_play_with_the_terminal() {
    for (text, shown) in [
        ("no space", "no space"),
        (
            "\u{fc}ber \"\u{4e2d}\" it's\\",
            "\u{fc}ber \"\u{4e2d}\" it's\\",
        ),
        ("a\x1b[2Jb\n", "a?[2Jb?"),
        ("txt.\u{202e}exe", "txt.?exe"),
        ("\u{9b}\u{200b}\u{feff}\u{2066}", "????"),
    ] {
        assert_eq!(printable(text), shown);
    }
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

/// Nothing of the body is read with the header, and no more than is needed to know a stranger.
#[test]
fn a_header_is_read_to_its_end_and_no_further() {
    let read = |stream: &[u8]| {
        let mut read = 0;
        while read < stream.len() && missing(&stream[..read]) > 0 {
            read += 1;
        }
        read
    };
    let honest = header(5).encode();
    assert_eq!(read(&stream(b"12345")), honest.len());
    assert_eq!(missing(&honest[..20]), 4);
    assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), 12);
    let (mut other, mut long) = (honest.clone(), honest);
    other[8] = 2;
    assert_eq!(read(&other), 12);
    long[14] = 1;
    assert_eq!(read(&long), 24);
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

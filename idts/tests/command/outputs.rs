// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every command against outputs that are full, closed, without a reader, or do not block;
//! and without a driver, or the right to use it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::io::ioctl_fionbio;

use crate::bed::{full, pattern, Bed, Run};

/// Longer than what pipes and sockets hold.
const LONG: usize = 3 << 20;

/// A command as it is tried.
struct Row {
    args: &'static str,
    input: bool,
    /// Whether something goes to standard output.
    prints: bool,
    /// The other end, if it needs one.
    peer: Peer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    None,
    /// Its arguments, and whether it gets input.
    Is(&'static str, bool),
    /// The same, once somebody has subscribed.
    Publishes(&'static str),
}

const fn row(args: &'static str, prints: bool, peer: Peer) -> Row {
    let input = false;
    Row {
        args,
        input,
        prints,
        peer,
    }
}

const fn fed(args: &'static str, prints: bool, peer: Peer) -> Row {
    let input = true;
    Row {
        args,
        input,
        prints,
        peer,
    }
}

/// Every command, and every way in which it uses its outputs.
const ROWS: [Row; 20] = [
    row("--help", true, Peer::None),
    row("--version", true, Peer::None),
    row("ping --help", true, Peer::None),
    row("info", true, Peer::None),
    row("info --json", true, Peer::None),
    row(
        "send out 0:7 --wait 60",
        false,
        Peer::Is("recv 7 in", false),
    ),
    row(
        "send out 0:7 --wait 60 --json",
        true,
        Peer::Is("recv 7 in", false),
    ),
    row(
        "recv 7 in",
        false,
        Peer::Is("send out 0:7 --wait 60", false),
    ),
    row(
        "recv 7 in --json",
        true,
        Peer::Is("send out 0:7 --wait 60", false),
    ),
    fed("cat 0:7 --wait 60", true, Peer::Is("cat -l 7", true)),
    fed("cat -l 7", true, Peer::Is("cat 0:7 --wait 60", true)),
    fed(
        "cat 0:7 --wait 60 --record",
        true,
        Peer::Is("cat -l 7 --record", true),
    ),
    row(
        "echo 7 --once",
        false,
        Peer::Is("ping 0:7 --wait 60", false),
    ),
    row("ping 0:7 --wait 60", true, Peer::Is("echo 7 --once", false)),
    row(
        "ping 0:7 --wait 60 --json",
        true,
        Peer::Is("echo 7 --once", false),
    ),
    fed("publish news", false, Peer::None),
    row("publish news --count 9", false, Peer::None),
    row("publish news --count 9 --json", true, Peer::None),
    row(
        "subscribe news",
        true,
        Peer::Publishes("publish news --count 99 --size 60000"),
    ),
    row(
        "subscribe news --json",
        true,
        Peer::Publishes("publish news --count 99"),
    ),
];

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Full,
    Unread,
    Closed,
    Nonblocking,
}

impl Kind {
    /// Whether what is written there gets lost, and nobody but us knows.
    fn fails(self) -> bool {
        matches!(self, Self::Full | Self::Unread)
    }
}

/// An output, and what comes out of it at the other end.
fn output(kind: Kind) -> (Stdio, Option<thread::JoinHandle<Vec<u8>>>) {
    let (mut reader, writer) = io::pipe().unwrap();
    match kind {
        Kind::Full => return (full().into(), None),
        // A shell closes it.
        Kind::Closed => return (Stdio::null(), None),
        Kind::Unread => return (writer.into(), None),
        Kind::Nonblocking => ioctl_fionbio(&writer, true).unwrap(),
        Kind::Read => {}
    }
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    (
        Stdio::from(File::from(OwnedFd::from(writer))),
        Some(reading),
    )
}

/// Starts the command so that its standard outputs are of these kinds.
fn start(
    bed: &Bed,
    row: &Row,
    kinds: [Kind; 2],
) -> (Run, [Option<thread::JoinHandle<Vec<u8>>>; 2]) {
    let closing = |at: usize| match kinds[at] {
        Kind::Closed => format!("exec {}>&-", at + 1),
        _ => ":".into(),
    };
    let args: Vec<_> = row.args.split(' ').map(String::from).collect();
    let before = format!("{}; {}", closing(0), closing(1));
    let mut command = bed.idts_after(&before, &args);
    let [(stdout, out), (stderr, err)] = kinds.map(output);
    command
        .stdout(stdout)
        .stderr(stderr)
        .stdin(input(bed, row.input));
    (Run::start(&mut command), [out, err])
}

fn input(bed: &Bed, some: bool) -> Stdio {
    if some {
        File::open(bed.path("out")).unwrap().into()
    } else {
        Stdio::null()
    }
}

fn start_peer(bed: &Bed, peer: Peer) -> Option<Run> {
    let quiet = |args: &str, some: bool| {
        let mut command: Command = bed.line(args);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(input(bed, some));
        Some(Run::start(&mut command))
    };
    match peer {
        Peer::None => None,
        Peer::Is(args, some) => quiet(args, some),
        Peer::Publishes(args) => {
            bed.wait_for("group-news");
            quiet(args, false)
        }
    }
}

fn try_one(row: &Row, kinds: [Kind; 2]) {
    let what = format!("idts {} with {kinds:?}", row.args);
    let bed = Bed::new();
    let content = pattern(LONG);
    bed.file("out", &content);
    let (run, outputs) = start(&bed, row, kinds);
    let peer = start_peer(&bed, row.peer);
    let ended = run.end();
    let lost = row.prints && kinds[0].fails();
    // Who asked for a report alone, and went away, has had enough.
    let is_report = ["--help", "--version", "info", "ping"];
    let is_report = is_report.iter().any(|start| row.args.starts_with(start));
    let fails = lost && !(is_report && kinds[0] == Kind::Unread);
    let code = ended.status.code();
    assert_eq!(code, Some(i32::from(fails)), "{what}: {:?}", ended.status);

    let [stdout, stderr] = outputs.map(|thread| thread.map(|thread| thread.join().unwrap()));
    if let Some(text) = stderr.map(|bytes| String::from_utf8(bytes).unwrap()) {
        let complaints = text
            .lines()
            .filter(|line| line.contains("standard output"))
            .count();
        // Who went away on purpose hears nothing; a full disk is told of, in one line.
        assert_eq!(
            complaints,
            usize::from(lost && kinds[0] == Kind::Full),
            "{what}: {text}"
        );
        assert!(!text.contains("panicked"), "{what}: {text}");
    }
    if let Some(bytes) = stdout {
        assert_eq!(bytes.is_empty(), !row.prints, "{what}");
        if row.args.starts_with("cat") {
            assert!(bytes == content, "{what}: other bytes came");
        }
        if row.args == "subscribe news" {
            assert_eq!(bytes.len(), 99 * 60000, "{what}");
        }
    }
    if row.args.starts_with("send") || row.args.starts_with("recv") {
        if let Some(peer) = peer {
            peer.end().with(0);
        }
        assert!(
            std::fs::read(bed.path("in")).unwrap() == content,
            "{what}: lost"
        );
    }
}

fn try_all(stdout: Kind, stderr: Kind) {
    for row in &ROWS {
        try_one(row, [stdout, stderr]);
    }
}

#[test]
fn outputs_that_are_read() {
    try_all(Kind::Read, Kind::Read);
}

#[test]
fn outputs_that_are_full() {
    try_all(Kind::Full, Kind::Read);
    try_all(Kind::Read, Kind::Full);
    try_all(Kind::Full, Kind::Full);
}

#[test]
fn outputs_that_nobody_reads() {
    try_all(Kind::Unread, Kind::Read);
    try_all(Kind::Read, Kind::Unread);
    try_all(Kind::Unread, Kind::Unread);
}

#[test]
fn outputs_that_are_closed() {
    try_all(Kind::Closed, Kind::Read);
    try_all(Kind::Read, Kind::Closed);
    try_all(Kind::Closed, Kind::Closed);
}

#[test]
fn outputs_that_do_not_block() {
    try_all(Kind::Nonblocking, Kind::Nonblocking);
}

/// All commands that open the device.
fn all_that_need_the_driver() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
        .filter(|row| !row.args.contains("--help") && row.args != "--version")
}

#[test]
fn without_a_driver_or_a_right() {
    for row in all_that_need_the_driver() {
        let bed = Bed::new();
        bed.file("out", b"content");
        let args = row.args.replace(" --wait 60", "");
        let mut absent = bed.line(&args);
        Run::piped(absent.env_remove("IDTS_SOCKETS"))
            .end()
            .with(1)
            .says("is not loaded");
        std::fs::write(bed.sockets().join("forbidden"), "").unwrap();
        Run::piped(&mut bed.line(&args))
            .end()
            .with(1)
            .says("only root and the group idts may");
        assert!(!bed.path("in").exists());
    }
}

#[test]
fn wrong_usage_is_told_with_any_outputs() {
    for kind in [Kind::Read, Kind::Full, Kind::Unread, Kind::Closed] {
        let bed = Bed::new();
        let wrong = row("ping", false, Peer::None);
        let (run, _outputs) = start(&bed, &wrong, [kind, kind]);
        run.end().with(2);
    }
}

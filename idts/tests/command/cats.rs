// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts cat`: inputs that do not block, and who ends first.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::io::ioctl_fionbio;

use crate::bed::{pattern, read_all, Bed, Run};

/// Nothing is lost, as a stream and in records, though neither end waits in its calls.
#[test]
fn standard_streams_that_do_not_block_lose_nothing() {
    for more in ["", " --record"] {
        let bed = Bed::new();
        let (from, mut to) = io::pipe().unwrap();
        let (out, writer) = io::pipe().unwrap();
        ioctl_fionbio(&from, true).unwrap();
        ioctl_fionbio(&writer, true).unwrap();
        let echo = Run::piped(&mut bed.line(&format!("echo 7 --once{more}")));
        let mut cat = bed.line(&format!("cat 0:7 --wait 60{more}"));
        cat.stdin(File::from(OwnedFd::from(from)))
            .stdout(File::from(OwnedFd::from(writer)))
            .stderr(Stdio::piped());
        let run = Run::start(&mut cat);
        // Its copy of the pipe would keep it open.
        drop(cat);
        let content = pattern(2 << 20);
        let sent = content.clone();
        let writing = std::thread::spawn(move || {
            for piece in sent.chunks(50_000) {
                to.write_all(piece).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let got = read_all(out);
        writing.join().unwrap();
        assert!(got == content, "{} of {} bytes", got.len(), content.len());
        run.end().with(0);
        echo.end().with(0);
    }
}

/// What reads the output sees its end when the peer has ended its half, while ours still
/// sends.
#[test]
fn the_output_ends_when_the_peer_ends_its_half() {
    for more in ["", " --record"] {
        let bed = Bed::new();
        let peer = Run::fed(&mut bed.line(&format!("cat -l 7{more}")), b"question");
        let mut cat = bed.line(&format!("cat 0:7 --wait 60{more}"));
        let (out, writer) = io::pipe().unwrap();
        cat.stdin(Stdio::piped())
            .stdout(File::from(OwnedFd::from(writer)))
            .stderr(Stdio::piped());
        let mut run = Run::start(&mut cat);
        drop(cat);
        let mut stdin = run.child().stdin.take().unwrap();
        assert_eq!(read_all(out), b"question");
        // Only a program that knows that the question is over answers.
        stdin.write_all(b"answer").unwrap();
        drop(stdin);
        run.end().with(0);
        assert_eq!(peer.end().with(0).stdout, b"answer");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are no plain files: pipes, /proc, such that change, folders of others.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::process::CommandExt;

use rustix::fs::{mknodat, FileType, Mode, CWD};

use crate::bed::{is_root, names, pattern, Bed, Run};

/// A user who is nobody here.
pub const OTHER: u32 = 65534;

fn fifo(bed: &Bed, name: &str) {
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, bed.path(name), FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn what_has_no_length_is_refused_at_once() {
    let bed = Bed::new();
    fifo(&bed, "fifo");
    symlink("fifo", bed.path("link")).unwrap();
    for file in ["fifo", "link", "/dev/zero", "/dev/tty", "sockets"] {
        let send = Run::piped(&mut bed.idts(["send", file, "0:7"]));
        send.end().with(1).says("not a regular file");
    }
    Run::piped(&mut bed.line("send absent 0:7"))
        .end()
        .with(1)
        .says("No such file");
}

/// A file of /proc is none of its length, and one that grows is none of the length told.
#[test]
fn a_file_of_another_length_than_told_does_not_arrive() {
    let bed = Bed::new();
    let recv = Run::piped(&mut bed.line("recv 7 in"));
    let send = Run::piped(&mut bed.line("send /proc/version 0:7 --wait 60"));
    send.end().with(1).says("the file grew");
    recv.end().with(1);
    assert!(!bed.path("in").exists());
    for grows in [true, false] {
        let bed = Bed::new();
        let path = bed.file("out", &pattern(100));
        // It is looked at before the receiver is there.
        let send = Run::piped(&mut bed.line("send out 0:7 --wait 60"));
        send.wait_until_it_has(&path);
        // It may not have asked for the length yet; then nothing is wrong and all arrives.
        let mut file = File::options().append(true).open(&path).unwrap();
        if grows {
            file.write_all(b"more").unwrap();
        } else {
            file.set_len(99).unwrap();
        }
        let recv = Run::piped(&mut bed.line("recv 7 in"));
        let (sent, received) = (send.end(), recv.end());
        assert_eq!(sent.status, received.status);
        let whole = fs::read(bed.path("in")).ok() == fs::read(&path).ok();
        assert_eq!(sent.status.success(), whole, "{}", sent.stderr);
        assert!(whole || names(&bed.path(".")) == ["out", "sockets"]);
    }
}

#[test]
fn the_longest_name_arrives() {
    let bed = Bed::new();
    bed.file("out", b"content");
    let long = "n".repeat(255);
    let recv = Run::piped(&mut bed.idts(["recv", "7", &long]));
    bed.receive(recv);
    assert_eq!(fs::read(bed.path(&long)).unwrap(), b"content");
}

/// A drop box, into which others may put files that they do not see.
#[test]
fn a_folder_that_may_not_be_read_takes_a_file() {
    let bed = Bed::new();
    bed.file("out", b"content");
    fs::create_dir(bed.path("box")).unwrap();
    fs::set_permissions(bed.path("box"), Permissions::from_mode(0o333)).unwrap();
    for path in [bed.path("."), bed.sockets()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let mut recv = bed.line("recv 7 box/in");
    if is_root() {
        recv.uid(OTHER).gid(OTHER);
    }
    let recv = Run::piped(&mut recv);
    bed.receive(recv);
    fs::set_permissions(bed.path("box"), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read(bed.path("box/in")).unwrap(), b"content");
}

/// Whoever may write above the folder puts a link in its place while the receiver waits.
#[test]
fn a_folder_is_looked_up_once() {
    let bed = Bed::new();
    bed.file("out", b"content");
    for folder in ["in", "etc"] {
        fs::create_dir(bed.path(folder)).unwrap();
    }
    let recv = Run::piped(&mut bed.line("recv 7 in/file"));
    bed.wait_for("0-7-0");
    fs::rename(bed.path("in"), bed.path("moved")).unwrap();
    symlink("etc", bed.path("in")).unwrap();
    bed.receive(recv);
    assert!(names(&bed.path("etc")).is_empty());
    assert_eq!(names(&bed.path("moved")), ["file"]);
}

/// Needs root, as the build root's tests have it: another user's pipe gets nothing.
#[test]
fn a_pipe_of_somebody_else_gets_nothing() {
    let bed = Bed::new();
    fifo(&bed, "pipe");
    bed.file("out", b"content");
    let reader = File::options()
        .read(true)
        .write(true)
        .open(bed.path("pipe"))
        .unwrap();
    let recv = Run::piped(&mut bed.line("recv 7 pipe"));
    bed.receive(recv);
    if is_root() {
        std::os::unix::fs::chown(bed.path("pipe"), Some(OTHER), None).unwrap();
        let refused = Run::piped(&mut bed.line("recv 7 pipe")).end();
        refused.with(1).says("--device");
        let recv = Run::piped(&mut bed.line("recv 7 pipe --device"));
        bed.receive(recv);
    }
    drop(reader);
}

/// Who started the command has opened it, whosever it is.
#[test]
fn standard_output_is_a_file_like_others() {
    let bed = Bed::new();
    bed.file("out", b"content");
    for path in ["/dev/stdout", "/proc/self/fd/1"] {
        let recv = Run::piped(&mut bed.line(&format!("recv 7 {path}")));
        assert_eq!(bed.receive(recv).stdout, b"content");
    }
}

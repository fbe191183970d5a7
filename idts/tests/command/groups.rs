// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts publish` and `idts subscribe`: files that are kept, lines that are lines.

use crate::bed::{is_root, Bed, Run};

/// A user who is nobody here.
const OTHER: u32 = 65534;

/// Whatever fails before records come, a file that is there loses nothing.
#[test]
fn a_file_is_emptied_only_when_the_group_is_joined() {
    let bed = Bed::new();
    bed.file("keep", b"precious");
    let kept = |bed: &Bed| std::fs::read(bed.path("keep")).unwrap() == b"precious";
    let subscribe = ["subscribe", "NEWS", "-o", "keep"];
    Run::piped(&mut bed.idts(subscribe)).end().with(1);
    assert!(kept(&bed));
    let mut absent = bed.line("subscribe news -o keep");
    Run::piped(absent.env_remove("IDTS_SOCKETS")).end().with(1);
    assert!(kept(&bed));
    Run::piped(&mut bed.line("subscribe other -o /nowhere/file"))
        .end()
        .with(1);

    let taken = Run::piped(&mut bed.line("subscribe news -o keep"));
    bed.wait_for("group-news");
    Run::fed(&mut bed.line("publish news"), b"new")
        .end()
        .with(0);
    taken.end().with(0);
    assert_eq!(std::fs::read(bed.path("keep")).unwrap(), b"new");
}

/// Whoever may write above the folder, or in it (which needs root to try), puts a link there
/// while the group is waited for.
#[test]
fn an_output_is_looked_up_once() {
    for trap in ["in", "in/file"] {
        if trap == "in/file" && !is_root() {
            continue;
        }
        let bed = Bed::new();
        for folder in ["in", "etc", "etc/deep"] {
            std::fs::create_dir(bed.path(folder)).unwrap();
        }
        bed.file("etc/shadow", b"precious");
        // The driver is not loaded yet.
        let hidden = bed.path("hidden");
        std::fs::rename(bed.sockets(), &hidden).unwrap();
        let mut subscribe = bed.line("subscribe news -o in/file --wait 60");
        let subscribe = Run::piped(&mut subscribe);
        subscribe.wait_until_it_has(&bed.path("in"));
        if trap == "in" {
            std::fs::rename(bed.path("in"), bed.path("moved")).unwrap();
            std::os::unix::fs::symlink("etc", bed.path("in")).unwrap();
            std::fs::write(bed.path("etc/file"), "precious").unwrap();
        } else {
            // It may not have looked for the file yet, so it must be another user's link.
            std::os::unix::fs::symlink("../etc/shadow", bed.path("link")).unwrap();
            std::os::unix::fs::lchown(bed.path("link"), Some(OTHER), None).unwrap();
            std::fs::rename(bed.path("link"), bed.path(trap)).unwrap();
        }
        std::fs::rename(&hidden, bed.sockets()).unwrap();
        if trap == "in" {
            bed.wait_for("group-news");
            let publish = Run::fed(&mut bed.line("publish news"), b"new");
            publish.end().with(0);
            subscribe.end().with(0);
            assert_eq!(std::fs::read(bed.path("etc/file")).unwrap(), b"precious");
            assert_eq!(std::fs::read(bed.path("moved/file")).unwrap(), b"new");
        } else {
            subscribe.end().with(1).says("cannot write in/file");
        }
        assert_eq!(std::fs::read(bed.path("etc/shadow")).unwrap(), b"precious");
    }
}

/// A publisher cannot make one record look like two.
#[test]
fn a_record_is_one_line() {
    for args in ["subscribe news --lines", "subscribe news --lines -o file"] {
        let bed = Bed::new();
        let subscribe = Run::piped(&mut bed.line(args));
        bed.wait_for("group-news");
        let publish = Run::fed(&mut bed.line("publish news"), b"one\nroot logged in\n");
        publish.end().with(0);
        let shown = subscribe.end().with(0).stdout;
        let shown = if args.ends_with("file") {
            std::fs::read(bed.path("file")).unwrap()
        } else {
            shown
        };
        assert_eq!(shown, b"one\\nroot logged in\\n\n");
    }
}

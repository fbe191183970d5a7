// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts publish` and `idts subscribe`: files that are kept, lines that are lines.

use crate::bed::{Bed, Run};

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

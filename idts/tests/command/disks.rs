// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk that takes what it is given, and fails when that is to be on it: only who syncs
//! hears so. A loop device on a file of holes, for which there is no room, is such a disk.

use std::path::Path;
use std::process::Command;

use crate::bed::{is_root, pattern, Bed, Run};

/// Makes the disk, in a shell with mounts of its own, and receives onto it. Where / is no
/// mount, as in the build root, none of its mounts is seen elsewhere anyway.
const SCRIPT: &str = "mount --make-rprivate / 2>&-
    mount -t tmpfs -o size=64k tmpfs small && truncate -s 1M small/disk || exit 99
    head -c 64k /dev/zero >small/rest
    disk=$(losetup --find --show small/disk) || exit 99
    trap 'losetup -d $disk' EXIT
    \"$0\" recv 7 $disk";

/// Needs root and a loop device, as the build root's tests have them.
#[test]
fn a_disk_that_fails_late_holds_no_file() {
    if !is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("not tested: there is no loop device to use");
        return;
    }
    let bed = Bed::new();
    bed.file("out", &pattern(500_000));
    std::fs::create_dir(bed.path("small")).unwrap();
    let mut recv = Command::new("unshare");
    bed.equip(&mut recv);
    recv.args(["--mount", "--propagation", "unchanged", "sh", "-c", SCRIPT]);
    recv.arg(env!("CARGO_BIN_EXE_idts"));
    let recv = Run::piped(&mut recv);
    let send = Run::piped(&mut bed.line("send out 0:7 --wait 60"));
    send.end().with(1).says("Input/output error");
    recv.end().with(1).says("Input/output error");
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! `idts` and the table of all that every command is tried against.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Result};
use idts_host::outputs::{open, Kind};
use idts_host::table::{Column, Ends, Peer, Row, IDTS};
use idts_host::walk::{walk, Ended, Program};

use crate::bed::{is_root, pattern, Bed, Run};
use crate::files::OTHER;

/// Longer than what pipes and sockets hold.
const LONG: usize = 3 << 20;

struct Idts;

struct Scene {
    bed: Bed,
    peer: Option<Run>,
}

impl Program for Idts {
    type Scene = Scene;

    const NAME: &'static str = "idts";

    fn scene(&self, _: &Row) -> Result<Scene> {
        let bed = Bed::new();
        bed.file("out", &pattern(LONG));
        Ok(Scene { bed, peer: None })
    }

    fn command(&self, scene: &Scene, args: &str) -> Command {
        scene.bed.line(args)
    }

    fn input(&self, scene: &Scene) -> Result<Stdio> {
        Ok(File::open(scene.bed.path("out"))?.into())
    }

    fn start_peer(&self, scene: &mut Scene, peer: Peer) -> Result<()> {
        let bed = &scene.bed;
        let (args, input) = match peer {
            Peer::None => return Ok(()),
            Peer::Is(args, true) => (args, self.input(scene)?),
            // Whose input does not end, so that it stays.
            Peer::Is(args, false) => (args, Stdio::piped()),
            Peer::Publishes(args) => {
                bed.wait_for("group-news");
                (args, Stdio::null())
            }
        };
        let mut command = bed.line(args);
        command.stdin(input).stdout(Stdio::null());
        scene.peer = Some(Run::start(command.stderr(Stdio::null())));
        if args == "cat -l 8" {
            bed.wait_for("0-8-0");
        }
        Ok(())
    }

    fn take_away(
        &self,
        scene: &mut Scene,
        command: &mut Command,
        column: Column,
    ) -> Result<&'static str> {
        match column {
            Column::Driverless => {
                command.env_remove("IDTS_SOCKETS");
                Ok("is not loaded")
            }
            Column::Forbidden => {
                std::fs::write(scene.bed.sockets().join("forbidden"), "")?;
                Ok("only root and the group idts may")
            }
            // There is none here.
            _ => Ok("xenstore"),
        }
    }

    fn check(&self, scene: Scene, row: &Row, column: Column, ended: &Ended) -> Result<()> {
        let arrived = std::fs::read(scene.bed.path("in")).ok();
        let moves = ["send", "recv"].contains(&row.verb());
        if !matches!(column, Column::Outputs(_)) || !moves {
            ensure!(arrived.is_none(), "something arrived");
        } else {
            if let Some(peer) = scene.peer {
                peer.end().with(0);
            }
            ensure!(arrived == Some(pattern(LONG)), "the file is lost");
        }
        if let (Some(bytes), true) = (&ended.stdout, row.ends == Ends::WithPeer) {
            if matches!(column, Column::Outputs(_)) {
                check_data(row, bytes)?;
            }
        }
        Ok(())
    }
}

/// Nothing gets lost on the way to standard output.
fn check_data(row: &Row, bytes: &[u8]) -> Result<()> {
    if row.verb() == "cat" {
        ensure!(bytes == pattern(LONG), "other bytes came");
    }
    if row.args == "subscribe news" {
        ensure!(bytes.len() == 99 * 60000, "{} bytes came", bytes.len());
    }
    Ok(())
}

#[test]
fn every_command() {
    walk(&Idts, &IDTS, 4).unwrap();
}

#[test]
fn wrong_usage_is_told_with_any_outputs() {
    for kind in [Kind::Read, Kind::Full, Kind::Unread, Kind::Stalled] {
        let bed = Bed::new();
        let (stdout, _other) = open(kind).unwrap();
        let mut ping = bed.line("ping");
        ping.stdout(stdout);
        if kind != Kind::Stalled {
            ping.stderr(open(kind).unwrap().0);
        }
        Run::start(&mut ping).end().with(2);
    }
    for closing in ["exec >&-", "exec 2>&-", "exec >&- 2>&-"] {
        let ping = Run::piped(&mut Bed::new().idts_after(closing, &["ping".into()]));
        ping.end().with(2);
    }
}

/// A transfer whose file goes to a full disk tells both ends.
#[test]
fn a_full_disk_is_told_to_both_ends() {
    let bed = Bed::new();
    bed.file("out", &pattern(LONG));
    let recv = Run::piped(&mut bed.line("recv 7 /dev/full"));
    let send = Run::piped(&mut bed.line("send out 0:7 --wait 60"));
    send.end().with(1).says("No space left");
    recv.end().with(1).says("No space left");
}

/// Where its user may have no more threads, a command does its work, or says why not. Needs
/// root, whom no such limit binds, to be somebody else.
#[test]
fn without_threads_no_command_panics() {
    if !is_root() {
        return;
    }
    for row in IDTS.iter().filter(|row| row.ends != Ends::Signalled) {
        let mut scene = Idts.scene(row).unwrap();
        for folder in [scene.bed.path("."), scene.bed.sockets()] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }
        let mut limited = Command::new("prlimit");
        limited.args(["--nproc=0", env!("CARGO_BIN_EXE_idts")]);
        limited.args(row.args.replace("--wait 60", "--wait 2").split(' '));
        limited.uid(OTHER).gid(OTHER);
        scene.bed.equip(&mut limited);
        limited.stdin(match row.input {
            true => Idts.input(&scene).unwrap(),
            false => Stdio::null(),
        });
        let mut run = Run::piped(&mut limited);
        // Peers of its own user, whom it may connect to.
        start_others(&mut scene, row.peer, &mut run);
        let ended = run.end();
        let said = &ended.stderr;
        assert!(!said.contains("panicked"), "{}: {said}", row.args);
        let code = ended.status.code();
        assert!(matches!(code, Some(0 | 1)), "{}: {code:?} {said}", row.args);
    }
}

/// Starts the peer as the other user, unless the command has ended by then.
fn start_others(scene: &mut Scene, peer: Peer, run: &mut Run) {
    let args = match peer {
        Peer::None => return,
        Peer::Is(args, _) => args,
        Peer::Publishes(args) => {
            while run.is_running() && !scene.bed.sockets().join("group-news").exists() {
                sleep(Duration::from_millis(2));
            }
            args
        }
    };
    let mut other = scene.bed.line(args);
    other.uid(OTHER).gid(OTHER);
    other.stdout(Stdio::null()).stderr(Stdio::null());
    scene.peer = Some(Run::start(&mut other));
}

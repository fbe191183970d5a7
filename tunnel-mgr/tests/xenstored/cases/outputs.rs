// SPDX-License-Identifier: GPL-2.0
//! `tunnel-mgr` and the table of all that every command is tried against.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{bail, ensure, Context, Result};
use idts_host::table::{Column, Ends, Peer, Row, TUNNEL_MGR};
use idts_host::walk::{walk, Ended, Program};

use super::{back, front};
use crate::bed::{done, program, Bed, SOCKET};

/// The program where everybody may run it.
const COPY: &str = "/run/tunnel-mgr";
/// Where the socket is while there is none.
const AWAY: &str = "/run/xenstored/away";
const COUNTERS: &str = "kernel/debug/idts/3";

/// The host of the last command, for the next one.
struct TunnelMgr(Mutex<Option<Bed>>);

impl TunnelMgr {
    fn host(&self) -> Result<Bed> {
        let last = self.0.lock().ok().and_then(|mut last| last.take());
        if let Some(bed) = last {
            return Ok(bed);
        }
        let mut bed = Bed::new()?;
        for id in [3, 4] {
            bed.dom0.domain(id, format!("u{id}"))?;
        }
        fs::write("/run/settings", "[default]\nweight = 2\n")?;
        fs::copy(program(&[]).get_program(), COPY)?;
        Ok(bed)
    }
}

impl Program for TunnelMgr {
    type Scene = Bed;

    const NAME: &'static str = "tunnel-mgr";

    fn scene(&self, row: &Row) -> Result<Bed> {
        let mut bed = self.host()?;
        bed.sys(COUNTERS, "tx_bytes 1\n")?;
        bed.dom0.remove("/local/domain/0/idts");
        for id in [3, 4] {
            bed.dom0.remove(&front(id));
            bed.dom0
                .remove(&format!("/local/domain/0/backend/idts/{id}"));
        }
        done(&["attach", "u4", "--wait", "0"])?;
        if row.verb() != "attach" || row.args.contains("--if-absent") {
            done(&["attach", "u3", "--wait", "0"])?;
        }
        // Both ends are connected, and never close.
        for end in [front(4), back(4)] {
            bed.dom0.write(&format!("{end}/state"), "4")?;
        }
        Ok(bed)
    }

    fn command(&self, _: &Bed, args: &str) -> Command {
        let args: Vec<_> = args.split(' ').collect();
        let mut command = program(&args);
        command.current_dir("/run");
        command
    }

    fn input(&self, _: &Bed) -> Result<Stdio> {
        bail!("no command reads anything");
    }

    fn start_peer(&self, _: &mut Bed, peer: Peer) -> Result<()> {
        ensure!(peer == Peer::None, "there are no peers");
        Ok(())
    }

    fn take_away(
        &self,
        _: &mut Bed,
        command: &mut Command,
        column: Column,
    ) -> Result<&'static str> {
        match column {
            Column::Driverless => {
                fs::remove_file(Path::new("/sys").join(COUNTERS))?;
                return Ok("the driver shows nothing");
            }
            Column::Forbidden => {
                let mut theirs = Command::new("setpriv");
                theirs.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
                theirs.arg(COPY).args(command.get_args());
                *command = theirs;
            }
            _ => fs::rename(SOCKET, AWAY)?,
        }
        Ok("cannot reach xenstore")
    }

    fn check(&self, mut bed: Bed, row: &Row, column: Column, ended: &Ended) -> Result<()> {
        if column == Column::Storeless {
            fs::rename(AWAY, SOCKET)?;
        }
        let works = matches!(column, Column::Outputs(_) | Column::Driverless);
        if works && row.ends == Ends::Itself {
            // Done whatever became of the output.
            let attached = bed.dom0.read(&front(3)).is_some();
            ensure!(attached == (row.verb() != "detach"), "it was not done");
            if row.args == "set u3 weight=2" {
                ensure!(done(&["set", "u3"])?.contains("weight=2"), "it is not set");
            }
            let asks = ["list", "set", "scheduler", "stats"].contains(&row.verb());
            if let (Some(text), true, true) = (&ended.stdout, asks, column != Column::Driverless) {
                let args: Vec<_> = row.args.split(' ').collect();
                let expected = done(&args)?;
                ensure!(*text == expected.as_bytes(), "not {expected}");
            }
        }
        let mut last = self.0.lock().ok().context("another cell panicked")?;
        *last = Some(bed);
        Ok(())
    }
}

pub fn every_command() -> Result<()> {
    walk(&TunnelMgr(Mutex::new(None)), &TUNNEL_MGR, 1)
}

// SPDX-License-Identifier: GPL-2.0
//! The C program on the header alone, against itself, both ways.

use anyhow::{ensure, Result};

use crate::lab::{built, Guest, Lab};
use crate::transfer::ways;

const THERE: &str = "/tmp/idts_c";

pub fn both_ways(lab: &Lab, guest: &Guest) -> Result<()> {
    for domain in ["dom0", guest.name] {
        lab.tb.push(&built("tests/idts_c")?, domain, THERE)?;
    }
    between(lab, guest, THERE)
}

/// One that is in both domains already.
pub fn between(lab: &Lab, guest: &Guest, program: &str) -> Result<()> {
    for (client, server) in ways(guest) {
        let port = lab.port().to_string();
        let serving = lab.start(server, &[program, "server", &port, "--once"])?;
        serving.wait_line("listening on")?;
        let id = lab.id(server)?.to_string();
        let asked = lab
            .start(client, &[program, "client", &id, &port, "3000001"])?
            .end()?;
        let served = serving.end()?;
        ensure!(asked.code == 0, "{client}: {}", asked.stderr);
        ensure!(served.code == 0, "{server}: {}", served.stderr);
        ensure!(
            asked.stdout == b"3000001 bytes each way\n",
            "{client} says something else"
        );
    }
    Ok(())
}

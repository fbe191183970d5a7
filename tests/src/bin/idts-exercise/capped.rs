// SPDX-License-Identifier: GPL-2.0
//! Reads without blocking while a cap lets little through: a read that has to wait for its turn
//! says so at once, though there are bytes, and poll tells when there is a turn. A turn that is not
//! told is a hang.

use std::io::{ErrorKind, Read};

use anyhow::{ensure, Context, Result};
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;
use serde_json::{json, Value};

use crate::polling::Polled;
use crate::{cli, probe};

/// More than a turn gives.
const CHUNK: usize = 256 << 10;

pub fn serve(args: &cli::Capped) -> Result<Value> {
    let channel = probe::accept_one(args.port)?;
    let mut polled = Polled::new(channel, args.edge)?;
    let mut buffer = vec![0; CHUNK];
    let (mut taken, mut denied, mut lied, mut told) = (0, 0u64, 0u64, false);
    while taken < args.bytes {
        let there = ioctl_fionread(&polled.channel)?;
        match (&polled.channel).read(&mut buffer) {
            Ok(count) => {
                ensure!(count > 0, "the stream ended");
                taken += count as u64;
                told = false;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                denied += u64::from(there > 0);
                lied += u64::from(told);
                polled.wait(PollFlags::IN)?;
                // An edge is about room as well.
                told = !args.edge;
            }
            Err(error) => return Err(error).context("read"),
        }
    }
    Ok(json!({ "taken": taken, "denied": denied, "lied": lied }))
}

// SPDX-License-Identifier: GPL-2.0
//! What the honest side's kernel counts of the tunnel, set-up by set-up, and what it says of it
//! in all: `/dev/kmsg`, from now on.
//!
//! The hostile side asks for the counters over a node of the guest's: `mark N` when set-up N is
//! over. The kernel counts before it acts, so what belongs to N is there by then. `attach`, asked
//! of dom0's witness, has the device attached anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use idts_xenstore::{Client, Tree};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_setfl, OFlags};
use serde_json::{json, Value};

use crate::cli;

/// What the kernel counts of a domain, by name; what is not there is 0.
const COUNTERS: &str = "/sys/kernel/debug/idts/violations";
type Counters = BTreeMap<String, u64>;

/// How often the end of our input and the log are looked at.
const LOOK: Duration = Duration::from_millis(100);

struct Witness {
    log: File,
    peer: u32,
    client: Client,
    /// The node of the guest's wishes.
    path: String,
    guest: u32,
    /// What was said, and when, in microseconds of the kernel's own clock.
    said: Vec<(u64, String)>,
    /// The counters at the last mark, and what they grew by until each.
    counted: Counters,
    setups: BTreeMap<u64, Counters>,
    /// The log went faster than we read it.
    lost: bool,
}

pub fn run(args: &cli::Witness) -> Result<Value> {
    let mut log = File::open("/dev/kmsg").context("/dev/kmsg")?;
    log.seek(SeekFrom::End(0))?;
    fcntl_setfl(&log, OFlags::NONBLOCK)?;
    let mut witness = Witness {
        log,
        peer: args.peer,
        client: Client::open().context("xenstore")?,
        path: format!("/local/domain/{}/data/hostile", args.guest),
        guest: args.guest,
        said: Vec::new(),
        counted: counters(args.peer)?,
        setups: BTreeMap::new(),
        lost: false,
    };
    eprintln!("ready");
    let wish = witness.path.clone();
    witness.client.watch(&wish)?;
    while !input_ended()? {
        witness.read_log();
        if witness.client.wait(Instant::now() + LOOK)? {
            witness.client.changes()?;
            witness.obey()?;
        }
    }
    Ok(json!({ "setups": witness.setups, "said": witness.said, "lost": witness.lost }))
}

/// The counters of a domain.
fn counters(domid: u32) -> Result<Counters> {
    let text = std::fs::read_to_string(COUNTERS).context(COUNTERS)?;
    let domid = domid.to_string();
    let counter = |line: &str| {
        let mut words = line.split(' ');
        let of_it = words.next()? == domid;
        let (name, value) = (words.next()?, words.next()?.parse().ok()?);
        of_it.then(|| (name.to_string(), value))
    };
    Ok(text.lines().filter_map(counter).collect())
}

/// Whether somebody closed our standard input.
fn input_ended() -> Result<bool> {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

impl Witness {
    /// Does what is asked for, if anything is.
    fn obey(&mut self) -> Result<()> {
        let wish = self.client.read(&self.path).ok().flatten();
        let wish = wish.and_then(|wish| String::from_utf8(wish).ok());
        let Some(wish) = wish.filter(|wish| wish != "done") else {
            return Ok(());
        };
        self.read_log();
        if let Some(number) = wish.strip_prefix("mark ").and_then(|n| n.parse().ok()) {
            let now = counters(self.peer)?;
            let grown = |(name, value): (&String, &u64)| {
                let before = self.counted.get(name).copied().unwrap_or(0);
                let by = value.checked_sub(before).filter(|by| *by > 0)?;
                Some((name.clone(), by))
            };
            let grown = now.iter().filter_map(grown).collect();
            self.setups.insert(number, grown);
            self.counted = now;
        } else {
            let id = self.guest.to_string();
            for verb in [
                vec!["detach", "--force", &id],
                vec!["attach", &id, "--wait", "0"],
            ] {
                Command::new("tunnel-mgr").args(verb).output()?;
            }
        }
        self.client.write(&self.path, b"done").context("answering")
    }

    /// Keeps the lines about the tunnel.
    fn read_log(&mut self) {
        let mut record = [0; 8192];
        loop {
            let count = match self.log.read(&mut record) {
                Ok(count) => count,
                // Records were lost; the next read goes on with the oldest.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.lost = true;
                    continue;
                }
                Err(_) => return,
            };
            let text = String::from_utf8_lossy(&record[..count]);
            let line = text.lines().next().and_then(|line| line.split_once(';'));
            let Some((head, line)) = line else { continue };
            let time = head.split(',').nth(2).and_then(|time| time.parse().ok());
            if let Some(word) = line.split(&format!("domain {}: ", self.peer)).nth(1) {
                self.said.push((time.unwrap_or(0), word.into()));
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The machine that is measured: a testbed that counts instructions, the load in its domains, and
//! the modules loaded as a case wants them.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use serde::Deserialize;
use testbed::{Child, GuestType, Testbed};

use crate::system::System;

/// Where the load is in a domain.
const LOAD: &str = "/tmp/load";
/// Where the measuring module is there.
const LIMIT: &str = "/tmp/idts_limit.ko";

/// A machine with guests of one type.
pub struct Bed {
    pub tb: Testbed,
    pub kind: GuestType,
    /// Every service has a port, or a name, of its own.
    next: Cell<u32>,
}

/// What the load says of a case.
#[derive(Deserialize)]
struct Timed {
    ns: u64,
}

/// A service that runs in a domain; it ends when this is dropped.
pub struct Service {
    _child: Child,
    /// What a caller says to reach it.
    pub to: String,
}

impl Bed {
    /// Boots a machine with so many guests, without modules.
    pub fn up(kind: GuestType, guests: u32) -> Result<Bed> {
        let script = top().join("scripts/testbed");
        let (kind_text, guests) = (kind.to_string(), guests.to_string());
        let status = Command::new(&script)
            .args(["up", "--no-build", "--bare", "--icount", "--net"])
            .args(["--type", &kind_text, "--guests", &guests])
            .status()
            .with_context(|| script.display().to_string())?;
        ensure!(status.success(), "scripts/testbed up: {status}");
        Bed::on(Testbed::attach()?, kind)
    }

    /// The machine that an earlier run left up, if it is of this kind.
    pub fn find(kind: GuestType, guests: u32) -> Result<Option<Bed>> {
        let fits = |tb: &Testbed| {
            let config = tb.config();
            config.icount && config.net && config.guests == guests && config.types == [kind]
        };
        let found = Testbed::find()?.filter(fits);
        found.map(|tb| Bed::on(tb, kind)).transpose()
    }

    fn on(tb: Testbed, kind: GuestType) -> Result<Bed> {
        let bed = Bed {
            tb,
            kind,
            next: Cell::new(5000),
        };
        for domain in bed.domains() {
            bed.equip(&domain)?;
            bed.tb.unload_module(&domain)?;
        }
        Ok(bed)
    }

    /// Ends it.
    pub fn down(self) -> Result<()> {
        self.tb.down()
    }

    /// dom0 and all guests.
    pub fn domains(&self) -> impl Iterator<Item = String> {
        std::iter::once("dom0".into()).chain(self.tb.guests())
    }

    fn equip(&self, domain: &str) -> Result<()> {
        self.tb.push(&built("bench/load")?, domain, LOAD)?;
        self.tb.push(&built("bench/idts_limit.ko")?, domain, LIMIT)
    }

    /// The number of a domain.
    pub fn domid(&self, domain: &str) -> Result<u32> {
        if domain == "dom0" {
            return Ok(0);
        }
        let domains = self.tb.domains()?;
        let found = domains.iter().find(|found| found.name == domain);
        Ok(found.with_context(|| format!("there is no {domain}"))?.id)
    }

    /// A number that no service had before.
    pub fn fresh(&self) -> u32 {
        self.next.replace(self.next.get() + 1)
    }

    /// Loads the modules with this time of looking, and connects the tunnels.
    pub fn load_modules(&self, poll_us: u32) -> Result<()> {
        for domain in self.domains() {
            let module = testbed::product::module_of(&domain);
            let command = format!("insmod /usr/lib/idts/{module}.ko poll_us={poll_us}");
            self.tb.sh(&domain, &command)?;
        }
        for guest in self.tb.guests() {
            self.tb.attach_tunnel(&guest)?;
        }
        Ok(())
    }

    /// The other way round.
    pub fn unload_modules(&self) -> Result<()> {
        for guest in self.tb.guests() {
            self.tb.detach_tunnel(&guest)?;
        }
        for domain in self.domains() {
            self.tb.unload_module(&domain)?;
        }
        Ok(())
    }

    /// Copies without anything else in a domain; nanoseconds of each case.
    pub fn limit(&self, domain: &str, cases: &[String]) -> Result<Vec<u64>> {
        self.tb.sh(domain, &format!("insmod {LIMIT}"))?;
        let times = self.load(domain, &["limit", "/dev/idts-limit"], cases);
        self.tb.sh(domain, "rmmod idts_limit")?;
        times
    }

    /// Starts a service in one domain for callers in another.
    pub fn serve(&self, how: &str, system: &System, server: &str, client: &str) -> Result<Service> {
        let number = self.fresh();
        let (offer, to) = system.addresses(self, server, client, number)?;
        let name = system.name().to_string();
        let mut child = self.tb.spawn(server, &[LOAD, how, &name, &offer])?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut line = String::new();
        BufReader::new(stdout.context("no output")?).read_line(&mut line)?;
        if line.trim() != "ready" {
            let mut why = String::new();
            if let Some(mut pipe) = stderr {
                pipe.read_to_string(&mut why)?;
            }
            anyhow::bail!("{name} in {server}: {}", why.trim());
        }
        Ok(Service { _child: child, to })
    }

    /// Runs cases between two domains; nanoseconds of each.
    pub fn run(
        &self,
        system: &System,
        client: &str,
        server: &str,
        cases: &[String],
    ) -> Result<Vec<u64>> {
        let service = self.serve("serve", system, server, client)?;
        self.call("run", system, client, &service.to, cases)
    }

    /// Calls a service.
    pub fn call(
        &self,
        how: &str,
        system: &System,
        client: &str,
        to: &str,
        cases: &[String],
    ) -> Result<Vec<u64>> {
        self.load(client, &[how, &system.name().to_string(), to], cases)
    }

    fn load(&self, domain: &str, args: &[&str], cases: &[String]) -> Result<Vec<u64>> {
        let mut argv = vec![LOAD];
        argv.extend(args);
        argv.extend(cases.iter().map(String::as_str));
        let what = format!("{domain}: {}", argv.join(" "));
        let said = self.tb.exec(domain, &argv)?.check(&what)?.stdout_text();
        let times: Vec<u64> = said
            .lines()
            .map(|line| Ok(serde_json::from_str::<Timed>(line)?.ns))
            .collect::<Result<_>>()
            .with_context(|| format!("{what}: {said}"))?;
        ensure!(!times.is_empty(), "{what} said nothing");
        Ok(times)
    }

    /// What a network device offloads, as the load prints it.
    pub fn device(&self, domain: &str, name: &str) -> Result<String> {
        let said = self.tb.exec(domain, &[LOAD, "device", name])?;
        Ok(said.check("load device")?.stdout_text().trim().into())
    }
}

/// The checkout.
pub fn top() -> PathBuf {
    PathBuf::from(std::env::var_os("IDTS_TOP").unwrap_or(".".into()))
}

/// A file of the build.
fn built(name: &str) -> Result<PathBuf> {
    let path = top().join("target").join(name);
    ensure!(
        Path::is_file(&path),
        "there is no {}; scripts/bench makes it",
        path.display()
    );
    Ok(path)
}

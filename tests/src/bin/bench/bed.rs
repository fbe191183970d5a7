// SPDX-License-Identifier: GPL-2.0
//! The machine that is measured: a testbed, the load in its domains, and the modules loaded as a
//! case wants them.

use std::cell::Cell;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use serde::Deserialize;
use testbed::delays::Delays;
use testbed::product::MODULES;
use testbed::{Child, GuestType, Testbed};

use crate::cases::Mode;
use crate::figure::usual;
use crate::system::{address, System};

/// Where the load is in a domain.
const LOAD: &str = "/tmp/load";
/// Where the measuring module is there.
const LIMIT: &str = "/tmp/idts_limit.ko";
/// What dom0 gives away, and at which port.
const GIVEN: &str = "/tmp/given";
const GIVER: u16 = 8000;
/// For what guests still do once they answer. No time at all where they do nothing, for the clock jumps.
const SETTLE: &str = "sleep 1";
/// Lets a domain's programs share more than 1024 pages: a vchan of 1 MiB rings takes 513, and the
/// next one is offered while one is in use.
const SHARE_MORE: &str = "echo 16384 >/sys/module/xen_gntalloc/parameters/limit";
/// Makes the drivers' files seen.
const MOUNT: &str = "grep -q debugfs /proc/mounts || mount -t debugfs debugfs /sys/kernel/debug";
/// What a run that was interrupted has left of the measuring module.
const CLEAR: &str = "[ ! -d /sys/module/idts_limit ] || rmmod idts_limit";
/// A load that is not over after this long hangs; a busy machine may take its time.
pub const HANG: Duration = Duration::from_secs(1200);
/// After this long a PVH guest spins. A case takes some minutes at most.
const SPIN: Duration = Duration::from_secs(900);
/// How often loads that run side by side are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What machine to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of all guests.
    pub kind: GuestType,
    pub guests: u32,
    /// Time is instructions, with a virtual CPU in each domain. Else it is the host's, with two.
    pub counted: bool,
    /// The modules are those of version 0.1.0.
    pub earlier: bool,
}

/// A machine.
pub struct Bed {
    pub tb: Testbed,
    pub kind: GuestType,
    /// Length of the network devices' queues.
    pub queue: Cell<u32>,
}

/// What the load says of a case.
#[derive(Deserialize)]
pub struct Timed {
    /// How long all of it took.
    pub ns: u64,
    /// How long each of those that began together took.
    #[serde(default)]
    pub each: Vec<u64>,
}

/// A load that runs in a domain and says when it is ready; it ends when this is dropped.
pub struct Service {
    child: Child,
    output: BufReader<PipeReader>,
    /// What a caller says to reach it.
    pub to: String,
}

impl Plan {
    /// How often something is measured until it is. The emulator loses PVH guests when it counts (see
    /// tests/BENCH.md): what was measured then is measured again.
    pub fn tries(&self) -> u32 {
        match (self.kind, self.counted) {
            (GuestType::Pvh, true) => 8,
            _ => 1,
        }
    }

    /// Does it, and ends a machine of which a guest may be lost if that takes too long: a guest that spins
    /// for ever answers nobody, and says nothing.
    pub fn watch<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let (done, ended) = mpsc::channel::<()>();
        thread::scope(|scope| {
            if self.tries() > 1 {
                scope.spawn(move || match ended.recv_timeout(SPIN) {
                    Err(RecvTimeoutError::Timeout) => Testbed::end().map(drop),
                    _ => Ok(()),
                });
            }
            let result = what();
            drop(done);
            result
        })
    }

    /// Boots it, without modules, in place of one that an earlier run left.
    pub fn anew(&self) -> Result<Bed> {
        Testbed::end()?;
        self.mended()
    }

    /// It, with those guests made again that were lost, or else a new one.
    pub fn mended(&self) -> Result<Bed> {
        let mut tries = 1;
        loop {
            match self.try_mended() {
                Err(error) if tries < self.tries() => eprintln!("bench: once more: {error:#}"),
                result => return result,
            }
            tries += 1;
        }
    }

    fn try_mended(&self) -> Result<Bed> {
        let tb = match self.running()? {
            Some(tb) => {
                let mended = tb.mend(&|text| eprintln!("bench: {text}"));
                // What cannot be mended is replaced.
                mended.or_else(|error| Testbed::end().and(Err(error)))?;
                tb
            }
            None => {
                Testbed::end()?;
                self.boot()?;
                Testbed::attach()?
            }
        };
        self.watch(|| self.on(tb))
    }

    /// `testbed up` itself copes with guests that are lost.
    fn boot(&self) -> Result<()> {
        let script = top().join("scripts/testbed");
        let (kind, guests) = (self.kind.to_string(), self.guests.to_string());
        let clock: &[&str] = match self.counted {
            true => &["--icount"],
            false => &["--cpus", "2", "--dom0-cpus", "2"],
        };
        let status = Command::new(&script)
            .args(["up", "--no-build", "--bare", "--own-cpus", "--net"])
            .args(["--type", &kind, "--guests", &guests])
            .args(clock)
            .status()
            .with_context(|| script.display().to_string())?;
        ensure!(status.success(), "scripts/testbed up: {status}");
        Ok(())
    }

    /// The machine that an earlier run left up, if it is this one.
    pub fn find(&self) -> Result<Option<Bed>> {
        self.running()?.map(|tb| self.on(tb)).transpose()
    }

    fn running(&self) -> Result<Option<Testbed>> {
        let fits = |tb: &Testbed| {
            let config = tb.config();
            let have = (config.icount, config.guests, config.types.as_slice());
            have == (self.counted, self.guests, &[self.kind]) && config.net && config.own_cpus
        };
        Ok(Testbed::find()?.filter(fits))
    }

    fn on(&self, tb: Testbed) -> Result<Bed> {
        let bed = Bed {
            tb,
            kind: self.kind,
            queue: Cell::new(0),
        };
        // What a run that was interrupted has left.
        for tunnel in bed.tb.tunnels()? {
            let name = tunnel["name"].as_str().context("a tunnel has no name")?;
            bed.tb.detach_tunnel(name)?;
        }
        for domain in bed.domains() {
            bed.tb.sh(&domain, CLEAR)?;
            bed.tb.sh(&domain, SHARE_MORE)?;
            bed.tb.unload_module(&domain)?;
        }
        let (modules, load) = match self.earlier {
            true => ("bench/earlier", "bench/earlier/load"),
            false => ("dist", "bench/load"),
        };
        for name in ["idts_front.ko", "idts_back.ko"] {
            let there = format!("{MODULES}/{name}");
            bed.give(&built(&format!("{modules}/{name}"))?, &there)?;
        }
        bed.give(&built(load)?, LOAD)?;
        bed.give(&built("bench/idts_limit.ko")?, LIMIT)?;
        bed.tb.sh("dom0", SETTLE)?;
        Ok(bed)
    }
}

impl Bed {
    /// Ends it.
    pub fn down(self) -> Result<()> {
        self.tb.down()
    }

    /// dom0 and all guests.
    pub fn domains(&self) -> impl Iterator<Item = String> {
        std::iter::once("dom0".into()).chain(self.tb.guests())
    }

    /// Puts a file into all domains. Guests fetch it from dom0, when all of it is there: packets that
    /// come from outside while a guest runs can have the emulator deliver an interrupt twice (see
    /// tests/BENCH.md).
    pub fn give(&self, file: &Path, to: &str) -> Result<()> {
        let dom0 = "dom0";
        self.tb.sh(dom0, &format!("mkdir -p {GIVEN}"))?;
        self.tb.push(file, dom0, &format!("{GIVEN}/file"))?;
        self.tb.sh(dom0, &format!("cp -p {GIVEN}/file {to}"))?;
        let giver = format!("{}:{GIVER}", address(dom0));
        let serve = format!("killall httpd 2>/dev/null; httpd -p {giver} -h {GIVEN}");
        self.tb.sh(dom0, &serve)?;
        let fetch = format!("rm -f {to} && wget -q -O {to} http://{giver}/file && chmod 755 {to}");
        let all = self
            .tb
            .guests()
            .into_iter()
            .try_for_each(|guest| self.tb.sh(&guest, &fetch).map(drop));
        self.tb.sh(dom0, "killall httpd")?;
        all
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

    /// A number that no service had before: a port, or part of a name.
    pub fn fresh(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(5000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Loads the modules for this way of waiting, and connects the tunnels; guests may reach all.
    pub fn load_modules(&self, mode: &Mode) -> Result<()> {
        for domain in self.domains() {
            self.tb.load_module_with(&domain, &mode.parameters())?;
        }
        for guest in self.tb.guests() {
            self.tb.allow_all(&guest)?;
        }
        self.attach_tunnels()
    }

    /// Since the modules were loaded, no kernel has slowed a tunnel's events down.
    pub fn check_delays(&self) -> Result<()> {
        let domains: Vec<_> = self.domains().collect();
        for domain in &domains {
            self.tb.sh(domain, MOUNT)?;
        }
        Delays::now(&self.tb, domains.iter().map(String::as_str))?.check_none()
    }

    /// Connects all tunnels.
    pub fn attach_tunnels(&self) -> Result<()> {
        let guests = self.tb.guests();
        guests
            .iter()
            .try_for_each(|guest| self.tb.attach_tunnel(guest))
    }

    /// Takes all tunnels down.
    pub fn detach_tunnels(&self) -> Result<()> {
        let guests = self.tb.guests();
        guests
            .iter()
            .try_for_each(|guest| self.tb.detach_tunnel(guest))
    }

    /// The other way round.
    pub fn unload_modules(&self) -> Result<()> {
        self.detach_tunnels()?;
        for domain in self.domains() {
            self.tb.unload_module(&domain)?;
        }
        Ok(())
    }

    /// Copies without anything else in a domain; usual nanoseconds of each case.
    pub fn limit(&self, domain: &str, rounds: usize, cases: &[String]) -> Result<Vec<u64>> {
        self.tb.sh(domain, &format!("insmod {LIMIT}"))?;
        let how = ["limit", "/dev/idts-limit", &rounds.to_string()];
        let times = self.load(domain, &how, cases);
        self.tb.sh(domain, "rmmod idts_limit")?;
        Ok(usual_of_each(&times?, cases.len()))
    }

    /// Starts a service in one domain for callers in another.
    pub fn serve(&self, how: &str, system: &System, server: &str, client: &str) -> Result<Service> {
        let number = self.fresh();
        let (offer, to) = system.addresses(self, server, client, number)?;
        let name = system.name().to_string();
        self.start(server, &[how, &name, &offer], to)
    }

    /// Starts a load that says that it is ready.
    pub fn start(&self, domain: &str, args: &[&str], to: String) -> Result<Service> {
        let mut child = self.spawn(domain, args)?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut service = Service { child, output, to };
        service.wait_ready()?;
        Ok(service)
    }

    /// Starts a load.
    pub fn spawn(&self, domain: &str, args: &[&str]) -> Result<Child> {
        self.tb.spawn(domain, &[&[LOAD], args].concat())
    }

    /// Runs cases between two domains, on one connection after the other; usual nanoseconds of
    /// each case.
    pub fn run(
        &self,
        system: &System,
        [client, server]: [&str; 2],
        rounds: usize,
        cases: &[String],
    ) -> Result<Vec<u64>> {
        let service = self.serve("serve", system, server, client)?;
        let (name, rounds) = (system.name().to_string(), rounds.to_string());
        let times = self.load(client, &["run", &name, &service.to, &rounds], cases)?;
        Ok(usual_of_each(&times, cases.len()))
    }

    /// Runs a load to its end; nanoseconds of each case.
    pub fn load(&self, domain: &str, args: &[&str], cases: &[String]) -> Result<Vec<u64>> {
        let cases: Vec<_> = cases.iter().map(String::as_str).collect();
        let args = [args, &cases].concat();
        let what = format!("{domain}: load {}", args.join(" "));
        let output = self.spawn(domain, &args)?.wait_with_output(HANG)?;
        let said = output.check(&what)?.stdout_text();
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
        self.say(domain, &["device", name])
    }

    /// What a load says that is no case.
    pub fn say(&self, domain: &str, args: &[&str]) -> Result<String> {
        let output = self.spawn(domain, args)?.wait_with_output(HANG)?;
        let output = output.check(&format!("{domain}: load {}", args.join(" ")))?;
        Ok(output.stdout_text().trim().into())
    }
}

impl Service {
    /// Waits until it says that it is ready.
    fn wait_ready(&mut self) -> Result<()> {
        let line = self.line()?;
        if line != "ready" {
            let mut why = String::new();
            if let Some(pipe) = &mut self.child.stderr {
                pipe.read_to_string(&mut why)?;
            }
            bail!("a load is not ready: {line} {}", why.trim());
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().into())
    }

    /// Tells it something, and waits until it is ready for more.
    pub fn tell(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("it has no input")?;
        writeln!(stdin, "{text}")?;
        self.wait_ready()
    }

    /// What it says of the next case.
    pub fn timed(&mut self) -> Result<Timed> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("a load said {line:?}"))
    }
}

/// What each of so many cases took by the times of round after round.
fn usual_of_each(times: &[u64], cases: usize) -> Vec<u64> {
    let of = |case| {
        let rounds = times.iter().skip(case).step_by(cases);
        usual(rounds.map(|ns| *ns as f64).collect()) as u64
    };
    (0..cases).map(of).collect()
}

/// Waits for loads that run side by side; one that fails fails all.
pub fn wait_all(children: &[Child]) -> Result<()> {
    let start = Instant::now();
    loop {
        let mut left = 0;
        for child in children {
            match child.try_wait()? {
                Some(0) => (),
                Some(code) => bail!("one of the loads side by side ends with {code}"),
                None => left += 1,
            }
        }
        if left == 0 {
            return Ok(());
        }
        ensure!(start.elapsed() < HANG, "loads side by side hang");
        thread::sleep(LOOK);
    }
}

/// The checkout.
pub fn top() -> PathBuf {
    PathBuf::from(std::env::var_os("IDTS_TOP").unwrap_or(".".into()))
}

/// A file of the build.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = top().join("target").join(name);
    ensure!(
        Path::is_file(&path),
        "there is no {}; scripts/bench makes it",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn rounds_are_told_apart_by_case() {
        // Two cases, three rounds.
        let times = [10, 500, 11, 700, 90, 600];
        assert_eq!(super::usual_of_each(&times, 2), [11, 600]);
        assert_eq!(super::usual_of_each(&[1, 2, 3], 3), [1, 2, 3]);
    }
}

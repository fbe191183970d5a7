// SPDX-License-Identifier: GPL-2.0
//! The testbed as the tests see it, and what all of them check at their end: no fault in any log,
//! Xen's tables back at their counts, no events slowed down, and a transfer over every tunnel. After
//! a test that fails the testbed is thrown away, so that the next one begins with a sound one. A test
//! is run once more if the machine stood still, and the kernels warned of that alone.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use libtest_mimic::Failed;
use serde_json::Value;
use testbed::delays::Delays;
use testbed::logs::{Fault, FaultWatch};
use testbed::running::HANG;
use testbed::tables::Tables;
use testbed::{GuestType, Testbed};

use crate::run::Run;
use crate::{debug, skips, transfer};

/// The guests of all tests, of two CPUs each, as dom0: their tunnels have two queues. A guest
/// that a test makes has one.
pub const GUESTS: [&str; 2] = ["u1", "u2"];
/// What runs in the domains.
const EXERCISE: &str = env!("CARGO_BIN_EXE_idts-exercise");
/// Where it is there.
const EXERCISE_THERE: &str = "/tmp/idts-exercise";

/// Between two looks at what is to become so.
const LOOK: Duration = Duration::from_millis(200);
/// Pages of a region at first, and of an idle one.
pub const FIRST_PAGES: u64 = 32;
/// So that a test need not wait for long until a region has shrunk.
const FRONT_PARAMETERS: &str = "idle_ms=300";

/// The guest of a test.
#[derive(Clone, Copy)]
pub struct Guest {
    pub name: &'static str,
    pub kind: GuestType,
}

/// A running testbed.
pub struct Lab {
    pub tb: Testbed,
    faults: RefCell<FaultWatch>,
    /// As after the test before.
    delays: RefCell<Delays>,
    /// Every listener of a test run has a port of its own.
    next_port: Cell<u32>,
    /// Whether the modules are in.
    dressed: Cell<bool>,
    pub seed: u64,
    /// How much more the long lane does.
    pub times: u64,
}

/// Tunnels come and go as often as tests like; `drivers::flaps` meets the default.
const BACK_PARAMETERS: &str = "setup_burst=1000000";

/// What a domain's module is loaded with.
pub fn parameters_of(domain: &str) -> &'static str {
    if domain == "dom0" {
        BACK_PARAMETERS
    } else {
        FRONT_PARAMETERS
    }
}

static LAB: Mutex<Option<Lab>> = Mutex::new(None);

/// Whether this is the long lane.
pub fn is_long() -> bool {
    std::env::var("IDTS_LONG").is_ok_and(|text| text == "1")
}

/// Runs a test in a testbed with modules loaded and tunnels connected.
pub fn run(name: &str, guest: &Guest, case: crate::Case) -> Result<(), Failed> {
    with_lab(name, |lab| {
        lab.dress()?;
        let before = lab.tb.tables()?;
        case(lab, guest)?;
        lab.check_after(&before)
    })
}

/// Runs a test in a testbed without modules. A guest may have another id afterwards, but must
/// have as much as before.
pub fn run_bare(name: &str, case: crate::BareCase) -> Result<(), Failed> {
    with_lab(name, |lab| {
        lab.undress()?;
        let before = lab.tb.tables()?;
        let ids = lab.ids()?;
        case(lab)?;
        lab.check_logs()?;
        let now = lab.ids()?;
        let number = |old: &u32| ids.iter().position(|id| id == old).map(|at| now[at]);
        let renamed = before
            .iter()
            .map(|(id, counts)| (number(id).unwrap_or(*id), *counts));
        lab.tb.wait_tables(&renamed.collect())
    })
}

/// Runs a test that boots what it needs by itself, with the machine for itself.
pub fn run_apart(name: &str, case: crate::ApartCase) -> Result<(), Failed> {
    close();
    eprintln!("--- {name}");
    case().map_err(|error| {
        eprintln!("--- {name}: {error:#}");
        format!("{error:#}").into()
    })
}

/// Runs a test in a testbed of its own, booted with these options.
pub fn run_own(name: &str, options: &[&str], case: fn(&Lab) -> Result<()>) -> Result<(), Failed> {
    close();
    let boot = || Lab::boot(options);
    let lab = attempts(name, None, boot, |lab| {
        let guests = lab.tb.guests();
        let guests: Vec<_> = guests.iter().map(String::as_str).collect();
        lab.load(&guests)?;
        case(lab)?;
        lab.check_logs()?;
        let domains = ["dom0"].into_iter().chain(guests);
        Delays::now(&lab.tb, domains)?.check_none()
    })?;
    lab.down();
    Ok(())
}

fn with_lab(name: &str, test: impl Fn(&Lab) -> Result<()>) -> Result<(), Failed> {
    let mut slot = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = slot.take().filter(|lab| lab.tb.is_running());
    *slot = Some(attempts(name, lab, Lab::up, test)?);
    Ok(())
}

/// Runs a test in this testbed, or in one that it boots, and gives back what it ran in; a second
/// time if the machine stood still.
fn attempts(
    name: &str,
    mut lab: Option<Lab>,
    boot: impl Fn() -> Result<Lab>,
    test: impl Fn(&Lab) -> Result<()>,
) -> Result<Lab, Failed> {
    let mut excuses = 1;
    loop {
        let lab = match lab.take() {
            Some(lab) => lab,
            None => boot().map_err(|error| format!("{error:#}"))?,
        };
        eprintln!("--- {name}");
        let Err(error) = test(&lab) else {
            return Ok(lab);
        };
        let failed = lab.failed(name, &error);
        let stood_still = lab.stood_still(&error);
        lab.down();
        if excuses == 0 || !stood_still {
            return Err(failed);
        }
        eprintln!("--- {name}: once more, for the machine stood still");
        excuses -= 1;
    }
}

/// What kernels warn of where the machine stood still, and nothing else.
#[derive(Debug)]
struct StoodStill(Vec<Fault>);

impl fmt::Display for StoodStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine stood still: {:#?}", self.0)
    }
}

impl std::error::Error for StoodStill {}

/// Ends the testbed.
pub fn close() {
    let mut slot = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lab) = slot.take() {
        lab.down();
    }
}

impl Lab {
    fn up() -> Result<Lab> {
        let guests = GUESTS.len().to_string();
        Lab::boot(&["--guests", &guests, "--type", "pv,pvh", "--cpus", "2"])
    }

    /// Boots a testbed with these options, without modules.
    fn boot(options: &[&str]) -> Result<Lab> {
        let script = skips::top().join("scripts/testbed");
        let status = Command::new(&script)
            .args(["up", "--no-build", "--no-allow", "--bare"])
            .args(options)
            .status()
            .with_context(|| script.display().to_string())?;
        ensure!(status.success(), "scripts/testbed up: {status}");
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let lab = Lab {
            tb: Testbed::attach()?,
            faults: RefCell::default(),
            delays: RefCell::default(),
            next_port: Cell::new(5000),
            dressed: Cell::new(false),
            seed: number("IDTS_SEED").unwrap_or(1),
            times: if is_long() { 10 } else { 1 },
        };
        if debug::is_on() {
            let mut faults = lab.faults.borrow_mut();
            debug::baseline(&lab.tb, &faults.fresh(&lab.tb)?)?;
            faults.know_all();
            drop(faults);
        } else {
            lab.check_logs().context("before any test")?;
        }
        Ok(lab)
    }

    fn down(self) {
        if let Err(error) = self.tb.down() {
            eprintln!("xen: {error:#}");
        }
    }

    /// dom0 and all guests.
    pub fn domains() -> impl Iterator<Item = &'static str> {
        std::iter::once("dom0").chain(GUESTS)
    }

    /// Loads the modules and connects the tunnels.
    fn dress(&self) -> Result<()> {
        if self.dressed.get() {
            return Ok(());
        }
        self.load(&GUESTS)?;
        self.dressed.set(true);
        self.transfers()?;
        for guest in GUESTS {
            self.wait_gauge(guest, "region_pages", |pages| pages == FIRST_PAGES)?;
        }
        self.check_delays()
    }

    /// Loads the modules, and connects the tunnels of these guests.
    fn load(&self, guests: &[&str]) -> Result<()> {
        for domain in ["dom0"].iter().chain(guests) {
            self.equip(domain)?;
            self.insmod(domain)?;
        }
        guests
            .iter()
            .try_for_each(|guest| self.tb.attach_tunnel(guest))
    }

    /// The other way round.
    fn undress(&self) -> Result<()> {
        if self.dressed.replace(false) {
            for guest in GUESTS {
                self.tb.detach_tunnel(guest)?;
            }
            for domain in Lab::domains() {
                self.tb.unload_module(domain)?;
            }
        }
        Ok(())
    }

    /// Brings what the tests need into a domain.
    pub fn equip(&self, domain: &str) -> Result<()> {
        self.tb.push(Path::new(EXERCISE), domain, EXERCISE_THERE)?;
        let mount = "grep -q debugfs /proc/mounts || mount -t debugfs debugfs /sys/kernel/debug";
        self.tb.sh(domain, mount).map(drop)
    }

    /// What a test must leave.
    fn check_after(&self, before: &Tables) -> Result<()> {
        let result = self.transfers().context("a new transfer afterwards");
        let result = result.and_then(|()| self.check_delays());
        let result = result.and_then(|()| self.tb.wait_tables(before));
        // A fault in a log tells more than what came of it.
        self.check_logs().and(result)
    }

    fn check_logs(&self) -> Result<()> {
        let faults = self.faults.borrow_mut().fresh(&self.tb)?;
        if !faults.is_empty() && faults.iter().all(|fault| fault.stood_still) {
            return Err(StoodStill(faults).into());
        }
        ensure!(faults.is_empty(), "faults in the logs: {faults:#?}");
        debug::check(&self.tb)
    }

    /// Whether a test failed for that, or failed when that was so.
    fn stood_still(&self, error: &anyhow::Error) -> bool {
        let is = |error: &anyhow::Error| error.is::<StoodStill>();
        is(error) || self.check_logs().is_err_and(|error| is(&error))
    }

    /// Of a tunnel that was there before the test, no kernel has slowed the events down.
    fn check_delays(&self) -> Result<()> {
        let now = Delays::now(&self.tb, Lab::domains())?;
        let before = self.delays.replace(now.clone());
        now.check_since(&before)
    }

    /// A transfer each way over every tunnel, all at once.
    fn transfers(&self) -> Result<()> {
        let ways = GUESTS.map(|guest| [("dom0", guest), (guest, "dom0")]);
        transfer::at_once(self, ways.as_flattened(), 4097)
    }

    /// Says at once, and once more in the summary, what failed and how the domains stand.
    fn failed(&self, name: &str, error: &anyhow::Error) -> Failed {
        let text = format!("{error:#}\n{}", self.last_words());
        eprintln!("--- {name}: {text}");
        text.into()
    }

    /// The ends of the logs, for whoever looks into a failure.
    fn last_words(&self) -> String {
        if !self.tb.is_running() {
            return "the emulator has ended".into();
        }
        let script = "dmesg | tail -n 25; for log in /var/log/xen/console/guest-*.log; do \
            echo \"== $log\"; tail -n 15 $log; done; xl list; tunnel-mgr list";
        match self.tb.exec("dom0", &["sh", "-c", script]) {
            Ok(output) => output.stdout_text(),
            Err(error) => format!("dom0 does not answer: {error:#}"),
        }
    }

    /// A port that no other listener has had.
    pub fn port(&self) -> u32 {
        self.next_port.set(self.next_port.get() + 1);
        self.next_port.get()
    }

    /// A domain's id.
    pub fn id(&self, domain: &str) -> Result<u32> {
        if domain == "dom0" {
            return Ok(0);
        }
        let found = self
            .tb
            .domains()?
            .into_iter()
            .find(|found| found.name == domain);
        Ok(found.with_context(|| format!("there is no {domain}"))?.id)
    }

    /// The ids of the guests, in their order.
    fn ids(&self) -> Result<Vec<u32>> {
        GUESTS.iter().map(|guest| self.id(guest)).collect()
    }

    /// DOM:PORT of a listener.
    pub fn address(&self, domain: &str, port: u32) -> Result<String> {
        Ok(format!("{}:{port}", self.id(domain)?))
    }

    /// Starts a program.
    pub fn start(&self, domain: &str, argv: &[&str]) -> Result<Run> {
        let child = self.tb.spawn(domain, argv)?;
        Ok(Run::new(format!("{domain}: {}", argv.join(" ")), child))
    }

    /// Starts the exerciser.
    pub fn exercise(&self, domain: &str, args: &[&str]) -> Result<Run> {
        let argv: Vec<_> = [EXERCISE_THERE].iter().chain(args).copied().collect();
        self.start(domain, &argv)
    }

    /// Starts the exerciser as a server, and waits until it listens.
    pub fn serve(&self, domain: &str, args: &[&str]) -> Result<Run> {
        let server = self.exercise(domain, args)?;
        server.wait_line("listening on")?;
        Ok(server)
    }

    /// Runs the exerciser to its end and gives its report.
    pub fn ask(&self, domain: &str, args: &[&str]) -> Result<Value> {
        self.exercise(domain, args)?.report()
    }

    /// A value of a driver's debugfs file on its tunnel with `peer`.
    pub fn counter(&self, domain: &str, peer: &str, name: &str) -> Result<u64> {
        let path = format!("/sys/kernel/debug/idts/{}", self.id(peer)?);
        let text = self.tb.sh(domain, &format!("cat {path}"))?.stdout_text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value = value.with_context(|| format!("{domain}: no {name} in {path}: {text}"))?;
        value.parse().with_context(|| format!("{name} {value}"))
    }

    /// Waits until a gauge of both ends of a tunnel is so.
    pub fn wait_gauge(&self, guest: &str, name: &str, fine: impl Fn(u64) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let seen = [
                self.counter("dom0", guest, name)?,
                self.counter(guest, "dom0", name)?,
            ];
            if seen.iter().all(|value| fine(*value)) {
                return Ok(());
            }
            ensure!(start.elapsed() < HANG, "{guest}: {name} stays at {seen:?}");
            thread::sleep(LOOK);
        }
    }

    /// Loads a domain's module by insmod.
    pub fn insmod(&self, domain: &str) -> Result<()> {
        self.tb.load_module_with(domain, parameters_of(domain))
    }

    /// Unloads a domain's module: unbinds its devices, which hold it, and rmmod. An object that
    /// is left over keeps the module's folder in debugfs, the files of which lead nowhere then.
    pub fn rmmod(&self, domain: &str) -> Result<()> {
        self.tb.unload_module(domain)?;
        let left = "ls -d /sys/kernel/debug/idts 2>/dev/null || true";
        let left = self.tb.sh(domain, left)?;
        ensure!(
            left.stdout_text().is_empty(),
            "{domain}: the module is gone, and an object of its is not"
        );
        Ok(())
    }

    /// The sysfs folder of a domain's driver, and the name of the device of the tunnel of `guest`.
    pub fn device(&self, domain: &str, guest: &str) -> Result<(String, String)> {
        if domain == "dom0" {
            let device = format!("idts-{}-0", self.id(guest)?);
            return Ok(("/sys/bus/xen-backend/drivers/idts".into(), device));
        }
        Ok(("/sys/bus/xen/drivers/idts".into(), "idts-0".into()))
    }

    /// Binds or unbinds the driver of one end of the tunnel of `guest`.
    pub fn sysfs(&self, verb: &str, domain: &str, guest: &str) -> Result<()> {
        let (folder, device) = self.device(domain, guest)?;
        self.tb
            .sh(domain, &format!("echo {device} >{folder}/{verb}"))
            .map(drop)
    }

    /// Makes u3, with module and tunnel.
    pub fn make_guest(&self, guest: &Guest) -> Result<()> {
        self.tb.create(&self.new_guest(guest))?;
        self.tb.wait_answers(guest.name)?;
        self.equip(guest.name)?;
        self.insmod(guest.name)?;
        self.tb.attach_tunnel(guest.name)
    }

    /// What u3 is made of.
    pub fn new_guest(&self, guest: &Guest) -> testbed::guests::Guest {
        testbed::guests::Guest {
            name: guest.name.into(),
            kind: guest.kind,
            cpus: 1,
            on: None,
            address: None,
            disk: None,
        }
    }

    /// Ends u3.
    pub fn drop_guest(&self, guest: &Guest) -> Result<()> {
        self.tb.destroy(guest.name)?;
        self.sweep(guest)
    }

    /// Has what a dead guest left removed: nothing of it may be there afterwards.
    pub fn sweep(&self, guest: &Guest) -> Result<()> {
        self.tb
            .exec("dom0", &["tunnel-mgr", "list", "--sweep"])?
            .check("the sweep")?;
        for tunnel in self.tb.tunnels()? {
            if tunnel["name"] == guest.name || !tunnel["leftover"].is_null() {
                bail!("the dead domain left {tunnel}");
            }
        }
        Ok(())
    }
}

/// A file of the build.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = skips::top().join("target").join(name);
    ensure!(
        path.is_file(),
        "there is no {}; scripts/test makes it",
        path.display()
    );
    Ok(path)
}
